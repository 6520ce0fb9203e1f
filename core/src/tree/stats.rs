//! What one page contributes to the statistics of an index.

use crate::codec::Codec;
use crate::error::Result;
use crate::key::Block;
use crate::page::{self, Kind, LeafView};

/// Counts of one page.
#[derive(Clone, Copy, Debug)]
pub struct PageTally {
    /// What the page is.
    pub kind: Kind,
    /// Level of a leaf or inner page.
    pub level: u8,
    /// Entries of a leaf.
    pub entries: u64,
    /// Of these, in the delta area.
    pub delta: u64,
    /// Bytes free on a leaf, the reserve not counted as free.
    pub free_bytes: u64,
    /// Columns of lanes and row ordinals by codec, weighted by entries, in the
    /// order of [`Codec::ALL`].
    pub codecs: [u64; Codec::ALL.len()],
}

/// Counts what is on a page.
///
/// # Errors
/// [`crate::Error::Corrupt`] if the page is damaged.
pub fn tally_page<const V: usize>(page: &[u8], block: Block) -> Result<PageTally> {
    let header = page::header(page, block)?;
    let mut tally = PageTally {
        kind: header.kind,
        level: header.level,
        entries: 0,
        delta: 0,
        free_bytes: 0,
        codecs: [0; Codec::ALL.len()],
    };
    if header.kind != Kind::Leaf {
        return Ok(tally);
    }
    let leaf = LeafView::<V>::parse(page, block, header)?;
    tally.entries = leaf.entries() as u64;
    tally.delta = leaf.delta_len() as u64;
    tally.free_bytes = page::leaf_capacity::<V>(page.len()).saturating_sub(leaf.used()) as u64;
    for index in 0..leaf.blocks() {
        let view = leaf.view(index)?;
        for codec in view.codecs() {
            for (slot, known) in tally.codecs.iter_mut().zip(Codec::ALL) {
                if known == codec {
                    *slot += view.len() as u64;
                }
            }
        }
    }
    Ok(tally)
}
