//! Pages in nobody's use.

use super::header::{self, Kind, set_flags};

/// Makes `page` a free page, with the `FLAG_*` that say when it may be used
/// again. Its generation tells how often it was freed, so that a page found
/// twice can be told apart in tests and dumps.
pub fn init_free(page: &mut [u8], generation: u32, flags: u8) {
    header::init(page, Kind::Free, 0, generation.wrapping_add(1));
    set_flags(page, flags);
}
