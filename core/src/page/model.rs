//! Pages that carry a model blob: each names the version of the model and its
//! place in the chain, so that a reader that meets a page of another chain
//! knows it.

use super::bytes::{get_u32, put, put_u32};
use super::header::{self, Kind, PAGE_HEADER, SPECIAL, header, set_right};
use crate::error::Result;
use crate::key::Block;

const FIELDS: usize = 8;

/// A piece of a model blob.
#[derive(Clone, Copy, Debug)]
pub struct ModelPage<'a> {
    /// Version of the model that the piece belongs to.
    pub version: u32,
    /// Place in the chain, from 0.
    pub sequence: u32,
    /// Next page of the chain, or [`crate::INVALID_BLOCK`].
    pub next: Block,
    /// The bytes.
    pub body: &'a [u8],
}

/// Bytes of blob that fit one page.
#[must_use]
pub fn model_page_capacity(page_size: usize) -> usize {
    page_size - PAGE_HEADER - SPECIAL - FIELDS
}

/// Reads a model page. `None` if the page is something else.
///
/// # Errors
/// [`crate::Error::Corrupt`] if the page contradicts itself.
pub fn read_model_page(page: &[u8], block: Block) -> Result<Option<ModelPage<'_>>> {
    let h = header(page, block)?;
    if h.kind != Kind::Model {
        return Ok(None);
    }
    Ok(Some(ModelPage {
        version: get_u32(page, PAGE_HEADER),
        sequence: get_u32(page, PAGE_HEADER + 4),
        next: h.right,
        body: page.get(PAGE_HEADER + FIELDS..h.lower).unwrap_or(&[]),
    }))
}

/// Makes `page` a model page. `model.body` is at most
/// [`model_page_capacity`] bytes.
pub fn write_model_page(page: &mut [u8], generation: u32, model: &ModelPage<'_>) {
    header::init(page, Kind::Model, 0, generation);
    put_u32(page, PAGE_HEADER, model.version);
    put_u32(page, PAGE_HEADER + 4, model.sequence);
    put(page, PAGE_HEADER + FIELDS, model.body);
    header::set_lower(page, PAGE_HEADER + FIELDS + model.body.len());
    set_right(page, model.next);
}
