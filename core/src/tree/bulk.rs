//! Loading a sorted stream of entries into a new index: leaves in order, then
//! the inner levels, then the model, then the meta page.

use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::memory::reserved;
use crate::model::{Choice, Model, to_blob};
use crate::page::{
    EditScratch, Fill, LeafFrame, Meta, ModelPage, delta_capacity, inner_capacity, leaf_capacity,
    model_page_capacity, write_inner, write_meta, write_model_page,
};

/// Where the pages of a new index go.
pub trait PageSink {
    /// Bytes of a page.
    fn page_size(&self) -> usize;

    /// Writes a page: block 0 first, as a placeholder, then 1, 2, 3 and so on,
    /// then block 0 again.
    ///
    /// # Errors
    /// What writing can raise.
    fn put(&mut self, block: Block, page: &[u8]) -> Result<()>;
}

/// What an index is built with.
#[derive(Clone, Copy, Debug)]
pub struct BulkOptions {
    /// Percent of a leaf to fill, 10..=100.
    pub fillfactor: u32,
    /// The model to train.
    pub model: Choice,
    /// For the meta page: code of the key type.
    pub key_code: u8,
    /// For the meta page: order of the column.
    pub ordering: u8,
}

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkResult {
    /// Entries loaded.
    pub entries: u64,
    /// Leaves written.
    pub leaves: u32,
    /// Pages written, the meta page included.
    pub pages: u32,
}

/// Builds an index from ascending entries.
pub struct BulkLoader<K: PageSink, const V: usize> {
    sink: K,
    options: BulkOptions,
    edit: EditScratch<V>,
    image: Vec<u8>,
    /// Low fence of the leaf in the making.
    low: Pos<V>,
    /// Greatest entry of its sealed pieces.
    last: Option<Pos<V>>,
    next: Block,
    items: Vec<(Pos<V>, Block)>,
    entries: u64,
}

impl<K: PageSink, const V: usize> BulkLoader<K, V> {
    /// Starts a build.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what the sink raises.
    pub fn new(mut sink: K, options: BulkOptions) -> Result<Self> {
        let size = sink.page_size();
        let mut image = Vec::new();
        image
            .try_reserve_exact(size)
            .map_err(|_| Error::OutOfMemory { bytes: size })?;
        image.resize(size, 0);
        sink.put(0, &image)?;
        Ok(Self {
            sink,
            options,
            edit: EditScratch::new(size)?,
            image,
            low: Pos::MIN,
            last: None,
            next: 1,
            items: Vec::new(),
            entries: 0,
        })
    }

    /// How far to fill the next leaf. It varies a little from leaf to leaf, so
    /// that evenly spread inserts do not split all leaves at once.
    fn fill(&self) -> Fill {
        let size = self.sink.page_size();
        let fill = self.options.fillfactor.clamp(10, 100);
        let spread = (100 - fill).min(2);
        let step = self.next.wrapping_mul(0x9e37_79b9) >> 16;
        let percent = (fill - spread + step % (2 * spread + 1)) as usize;
        let capacity = leaf_capacity::<V>(size);
        // Lengthening a line may overshoot by the reserve of one block.
        let most = capacity.saturating_sub(40);
        let target = (capacity * percent / 100).min(most);
        // Nearly half a delta area of entries go in before the leaf is split: to be
        // folded it would have to have more room.
        let delta = delta_capacity(size) * Pos::<V>::BYTES * 7 / 16;
        Fill::with_reserve(target, most.saturating_sub(delta))
    }

    /// Adds an entry, above all before it.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what the sink raises.
    pub fn push(&mut self, pos: Pos<V>) -> Result<()> {
        self.entries += 1;
        if self.edit.add_pending(pos) {
            self.seal_block()?;
        }
        Ok(())
    }

    /// Makes a block of the first pending entries, after writing the leaf in
    /// the making if that is full.
    fn seal_block(&mut self) -> Result<()> {
        let fill = self.fill();
        let Some(first) = self.edit.first_pending() else {
            return Ok(());
        };
        if self.edit.exceeds(&fill) {
            self.write_leaf(self.edit.pieces().len(), Some(first))?;
        }
        let last = match self.edit.seal_within(&fill)? {
            Some(last) => last,
            None => {
                self.write_leaf(self.edit.pieces().len(), Some(first))?;
                self.edit.seal_within(&self.fill())?.ok_or(Error::Full)?
            }
        };
        self.last = Some(last);
        Ok(())
    }

    /// Writes the first `pieces` pieces as a leaf that ends before `next`.
    fn write_leaf(&mut self, pieces: usize, next: Option<Pos<V>>) -> Result<()> {
        let high = next.map(|next| match self.last {
            Some(last) if last.same_key(&next) => next,
            _ => next.key_start(),
        });
        let frame = LeafFrame {
            low: self.low,
            high,
            flags: 0,
            left: if self.next == 1 {
                INVALID_BLOCK
            } else {
                self.next - 1
            },
            right: if high.is_some() {
                self.next + 1
            } else {
                INVALID_BLOCK
            },
            generation: 0,
            rewrites: 0,
        };
        self.image.fill(0);
        self.edit
            .write(&[], 0..pieces, &[], &frame, &mut self.image)?;
        self.sink.put(self.next, &self.image)?;
        let bytes = size_of::<(Pos<V>, Block)>();
        self.items
            .try_reserve(1)
            .map_err(|_| Error::OutOfMemory { bytes })?;
        self.items.push((self.low, self.next));
        self.edit.drop_pieces(pieces);
        self.next = self.next.checked_add(1).ok_or(Error::Full)?;
        if let Some(high) = high {
            self.low = high;
        }
        Ok(())
    }

    /// Ends the build: writes what is left, the inner pages, the model and the
    /// meta page.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what the sink raises.
    pub fn finish(self) -> Result<BulkResult> {
        self.finish_into_sink().map(|(result, _)| result)
    }

    /// As [`BulkLoader::finish`], and gives the sink back.
    ///
    /// # Errors
    /// As [`BulkLoader::finish`].
    pub fn finish_into_sink(mut self) -> Result<(BulkResult, K)> {
        while self.edit.first_pending().is_some() {
            self.seal_block()?;
        }
        self.write_leaf(self.edit.pieces().len(), None)?;
        let leaves = self.next - 1;
        let model = self.train()?;
        let mut level = 0;
        while self.items.len() > 1 {
            level += 1;
            self.write_level(level)?;
        }
        let root = self.items.first().map_or(1, |(_, block)| *block);
        let mut meta = Meta {
            key_code: self.options.key_code,
            ordering: self.options.ordering,
            lanes: u8::try_from(V).unwrap_or(u8::MAX),
            root_level: level,
            root,
            first_leaf: 1,
            model_head: INVALID_BLOCK,
            model_version: 0,
            model_bytes: 0,
            model_leaves: leaves,
            entries: self.entries,
        };
        if let Some(model) = model {
            self.write_model(&model, &mut meta)?;
        }
        self.image.fill(0);
        write_meta(&mut self.image, &meta);
        self.sink.put(0, &self.image)?;
        let result = BulkResult {
            entries: self.entries,
            leaves,
            pages: self.next,
        };
        Ok((result, self.sink))
    }

    /// An index of one leaf needs no model.
    fn train(&self) -> Result<Option<Model>> {
        if self.items.len() < 2 {
            return Ok(None);
        }
        let mut keys = reserved(self.items.len())?;
        keys.extend(self.items.iter().map(|(low, _)| low.model_key()));
        Model::train(self.options.model, &keys).map(Some)
    }

    /// Writes the parents of `self.items`, which they replace.
    fn write_level(&mut self, level: u8) -> Result<()> {
        let most = inner_capacity::<V>(self.sink.page_size());
        let bytes = (self.items.len() / 4 + 1) * size_of::<(Pos<V>, Block)>();
        let mut parents = Vec::new();
        let mut from = 0;
        while from < self.items.len() {
            let rest = self.items.len() - from;
            let mut count = rest.min((most * 9 / 10).max(2));
            let low = self.items[from].0;
            loop {
                let behind = self.items.get(from + count);
                let frame = LeafFrame {
                    low,
                    high: behind.map(|(low, _)| *low),
                    flags: 0,
                    left: if from == 0 {
                        INVALID_BLOCK
                    } else {
                        self.next - 1
                    },
                    right: if behind.is_some() {
                        self.next + 1
                    } else {
                        INVALID_BLOCK
                    },
                    generation: 0,
                    rewrites: 0,
                };
                self.image.fill(0);
                let items = &self.items[from..from + count];
                match write_inner(items, level, &frame, &mut self.image) {
                    Ok(()) => break,
                    Err(Error::Full) if count > 2 => count = count * 3 / 4,
                    Err(error) => return Err(error),
                }
            }
            self.sink.put(self.next, &self.image)?;
            parents
                .try_reserve(1)
                .map_err(|_| Error::OutOfMemory { bytes })?;
            parents.push((low, self.next));
            self.next = self.next.checked_add(1).ok_or(Error::Full)?;
            from += count;
        }
        self.items = parents;
        Ok(())
    }

    fn write_model(&mut self, model: &Model, meta: &mut Meta) -> Result<()> {
        let blob = to_blob(model)?;
        let chunk = model_page_capacity(self.sink.page_size());
        meta.model_head = self.next;
        meta.model_version = 1;
        meta.model_bytes = u32::try_from(blob.len()).map_err(|_| Error::Full)?;
        let pages = blob.len().div_ceil(chunk);
        for (sequence, body) in blob.chunks(chunk).enumerate() {
            let next = if sequence + 1 < pages {
                self.next + 1
            } else {
                INVALID_BLOCK
            };
            let sequence = u32::try_from(sequence).map_err(|_| Error::Full)?;
            self.image.fill(0);
            let part = ModelPage {
                version: 1,
                sequence,
                next,
                body,
            };
            write_model_page(&mut self.image, 0, &part);
            self.sink.put(self.next, &self.image)?;
            self.next = self.next.checked_add(1).ok_or(Error::Full)?;
        }
        Ok(())
    }
}
