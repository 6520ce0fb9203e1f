//! Changes that apply to all their pages or to none.

use super::{SimGuard, SimStore};
use crate::error::{Error, Result};
use crate::key::Block;
use crate::page::{self, Kind};
use crate::store::{Image, RECORD_PAGES, Record};
use std::sync::Arc;

/// A record under construction.
pub struct SimRecord {
    store: SimStore,
    images: Vec<(Block, Image, Vec<u8>)>,
}

impl SimRecord {
    pub(super) fn new(store: &SimStore) -> Self {
        Self {
            store: store.clone(),
            images: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, page: &SimGuard, image: Image) -> usize {
        assert!(
            page.exclusive,
            "page {} is not exclusively locked",
            page.block
        );
        assert!(
            self.images.len() < RECORD_PAGES,
            "too many pages in a record"
        );
        assert!(
            self.images.iter().all(|(b, ..)| *b != page.block),
            "registered twice"
        );
        let bytes = self.store.bytes(page.block).unwrap_or_default();
        self.images.push((page.block, image, bytes));
        self.images.len() - 1
    }

    pub(super) fn apply(self) -> Result<()> {
        let mut world = self.store.world();
        if world.stopped() {
            return Err(Error::Stopped);
        }
        for (block, mode, mut bytes) in self.images {
            let known = world.held[self.store.actor]
                .iter()
                .any(|(b, e)| *b == block && *e);
            assert!(
                known,
                "page {block} was unlocked before its record was committed"
            );
            let header = page::header(&bytes, block).expect("a record writes a sound page");
            // Generic WAL zeroes the hole.
            if header.kind != Kind::New {
                bytes[header.lower..header.upper].fill(0);
            }
            let old = page::header(&world.pages[block as usize].bytes, block);
            let unknown = old.is_ok_and(|h| h.reusable());
            assert!(
                !unknown || mode == Image::Full,
                "page {block} is new to recovery, and not logged in full"
            );
            world.pages[block as usize].bytes = Arc::new(bytes);
        }
        world.commits += 1;
        drop(world);
        Ok(())
    }
}

impl Record for SimRecord {
    type Exclusive = SimGuard;

    fn register(&mut self, page: &SimGuard, image: Image) -> Result<usize> {
        self.store.call()?;
        Ok(self.add(page, image))
    }

    fn image(&mut self, index: usize) -> &mut [u8] {
        &mut self.images[index].2
    }

    fn commit(self) -> Result<()> {
        self.store.call()?;
        self.apply()
    }
}
