//! The model's pages: written as a chain of its own, made valid by one write of
//! the meta page, and read back with every step checked.

use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK};
use crate::model::{BlobError, Model, from_blob, to_blob};
use crate::page::{self, Kind, Meta, ModelPage, init_free, model_page_capacity};
use crate::store::{Image, PageGuard, PageStore, Place, Record};

/// What the model chain was found to hold.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// A model.
    Model(Model),
    /// The index has no model.
    None,
    /// The chain is damaged or of another version: the index serves without.
    Damaged(&'static str),
    /// The blob is damaged or of another version.
    Blob(BlobError),
}

/// Reads the model that the meta page names.
///
/// # Errors
/// What reading pages can raise; a damaged chain is not an error.
pub fn read_model<S: PageStore>(store: &S, meta: &Meta) -> Result<Loaded> {
    if meta.model_head == INVALID_BLOCK {
        return Ok(Loaded::None);
    }
    let total = meta.model_bytes as usize;
    let pages = store.pages()? as usize;
    if total > pages.saturating_mul(store.page_size()) {
        return Ok(Loaded::Damaged("the model is longer than the index"));
    }
    let mut blob = Vec::new();
    blob.try_reserve_exact(total)
        .map_err(|_| Error::OutOfMemory { bytes: total })?;
    let mut block = meta.model_head;
    let mut sequence = 0;
    while blob.len() < total {
        let Some(guard) = store.read(block)? else {
            return Ok(Loaded::Damaged("a page of the model is missing"));
        };
        let part = match page::read_model_page(&guard, block) {
            Ok(Some(part)) => part,
            Ok(None) | Err(_) => return Ok(Loaded::Damaged("a page of the model is not one")),
        };
        if part.version != meta.model_version
            || part.sequence != sequence
            || part.body.is_empty()
            || blob.len() + part.body.len() > total
        {
            return Ok(Loaded::Damaged(
                "a page of the model belongs to another model",
            ));
        }
        blob.extend_from_slice(part.body);
        block = part.next;
        sequence += 1;
    }
    Ok(match from_blob(&blob) {
        Ok(model) => Loaded::Model(model),
        Err(error) => Loaded::Blob(error),
    })
}

/// Reads the model; none if it is damaged. The chain that the meta page named
/// may be replaced while it is read: then the next load finds the new one.
///
/// # Errors
/// What reading pages can raise.
pub fn load_model<S: PageStore>(store: &S, meta: &Meta) -> Result<Option<Model>> {
    Ok(match read_model(store, meta)? {
        Loaded::Model(model) => Some(model),
        _ => None,
    })
}

/// Writes a model as a new chain, and makes it the index's model. The pages of
/// the chain before are freed.
///
/// # Errors
/// What writing pages can raise. A chain that was begun is left to
/// [`free_model_page`].
pub fn publish_model<S: PageStore>(store: &S, model: &Model, leaves: u32) -> Result<()> {
    let corrupt = Error::Corrupt {
        block: 0,
        what: "the index has no meta page",
    };
    let blob = to_blob(model)?;
    let before = {
        let guard = store.read(0)?.ok_or(corrupt)?;
        page::read_meta(&guard)?
    };
    let version = before.model_version.wrapping_add(1);
    let chunk = model_page_capacity(store.page_size());
    let mut next = INVALID_BLOCK;
    // From the back, so that every page names one that is there.
    for (sequence, body) in blob.chunks(chunk).enumerate().rev() {
        let guard = store.allocate()?;
        let generation = generation(&guard);
        let mut record = store.begin()?;
        let image = record.register(&guard, Image::Full)?;
        let sequence = u32::try_from(sequence).unwrap_or(u32::MAX);
        let part = ModelPage {
            version,
            sequence,
            next,
            body,
        };
        page::write_model_page(record.image(image), generation, &part);
        record.commit()?;
        next = guard.block();
        drop(guard);
        store.breathe()?;
    }
    store.reached(Place::ModelWritten)?;
    let guard = store.write(0)?.ok_or(corrupt)?;
    let mut meta = page::read_meta(&guard)?;
    let old = meta.model_head;
    meta.model_head = next;
    meta.model_version = version;
    meta.model_bytes = u32::try_from(blob.len()).unwrap_or(u32::MAX);
    meta.model_leaves = leaves;
    let mut record = store.begin()?;
    let image = record.register(&guard, Image::Delta)?;
    page::write_meta(record.image(image), &meta);
    record.commit()?;
    drop(guard);
    store.reached(Place::ModelPublished)?;
    let mut block = old;
    for _ in 0..before.model_bytes as usize / chunk + 1 {
        if block == INVALID_BLOCK {
            break;
        }
        block = match free_model_page(store, block, version)? {
            Some(next) => next,
            None => break,
        };
        store.breathe()?;
    }
    Ok(())
}

fn generation(page: &[u8]) -> u32 {
    page::header(page, 0).map_or(0, |h| if h.kind == Kind::New { 0 } else { h.generation })
}

/// Frees a model page that does not belong to the model of version `current`.
/// Returns the next page of its chain; `None` if there was nothing to free.
///
/// # Errors
/// What writing pages can raise.
pub fn free_model_page<S: PageStore>(
    store: &S,
    block: Block,
    current: u32,
) -> Result<Option<Block>> {
    let Some(guard) = store.write(block)? else {
        return Ok(None);
    };
    let (next, generation) = match page::read_model_page(&guard, block) {
        Ok(Some(part)) if part.version != current => {
            (part.next, page::header(&guard, block)?.generation)
        }
        _ => return Ok(None),
    };
    let mut record = store.begin()?;
    let image = record.register(&guard, Image::Delta)?;
    init_free(record.image(image), generation);
    record.commit()?;
    drop(guard);
    store.note_free(block)?;
    Ok(Some(next))
}
