//! Pages in nobody's use.

use super::header::{self, Kind};

/// Makes `page` a free page. Its generation tells how often it was freed, so
/// that who has known it before can tell.
pub fn init_free(page: &mut [u8], generation: u32) {
    header::init(page, Kind::Free, 0, generation.wrapping_add(1));
}
