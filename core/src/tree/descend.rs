//! From a position to the page that owns it.

use super::map::Map;
use super::{MAX_DESCENTS, MAX_HOPS, Tree};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::page::{self, Header, InnerView, Kind, Meta, PAGE_HEADER, read_pos};
use crate::planted;
use crate::store::{PageGuard, PageStore};

/// What a page is looked for by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<const V: usize> {
    /// The page that owns this position.
    At(Pos<V>),
    /// The page that owns the positions right below this one; `None`: the last
    /// page of the level.
    Below(Option<Pos<V>>),
}

/// A page to look at, and what it is expected to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointer<const V: usize> {
    pub block: Block,
    pub level: u8,
    pub promise: Promise<V>,
}

/// What a pointer says of the page that it leads to. Both fences are checked on
/// arrival: a page that claims more than its share would hide its neighbours'.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise<const V: usize> {
    /// The page's low fence, if that is known: the separator of a downlink, the
    /// high fence of the left sibling.
    pub low: Option<Pos<V>>,
    /// The page's high fence is not above this, if anything is known: the next
    /// separator. A split that is not finished can have made it lower; a merge
    /// since the pointer was read makes it higher, and the pointer stale.
    pub end: Option<Pos<V>>,
}

impl<const V: usize> Promise<V> {
    /// Nothing is known of the page.
    pub(crate) const NOTHING: Self = Self {
        low: None,
        end: None,
    };

    /// What is known of the right sibling of a page that ends at `high`.
    pub(super) fn of_right_sibling(self, high: Option<Pos<V>>) -> Self {
        let end = self.end.filter(|end| high.is_some_and(|high| high < *end));
        Self { low: high, end }
    }
}

/// What a page is to somebody who looks for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It owns the target.
    Owns,
    /// The target is further to the right.
    Right(Block),
    /// The page is something else or lies right of the target: the pointer
    /// that led here is out of date.
    Stale,
}

/// Low and high fence of a leaf or inner page.
pub(crate) fn fences<const V: usize>(page: &[u8], header: &Header) -> (Pos<V>, Option<Pos<V>>) {
    let low = read_pos(page, PAGE_HEADER);
    let high = if header.high_infinite() {
        None
    } else {
        Some(read_pos(page, PAGE_HEADER + Pos::<V>::BYTES))
    };
    (low, high)
}

/// Judges a page on arrival, and whether it is what the pointer promised.
pub(crate) fn arrive<const V: usize>(
    page: &[u8],
    header: &Header,
    level: u8,
    target: &Target<V>,
    promise: &Promise<V>,
) -> Arrival {
    let kind = if level == 0 { Kind::Leaf } else { Kind::Inner };
    if header.kind != kind || header.level != level {
        return Arrival::Stale;
    }
    if planted::is("recycled_page_trusted") {
        return Arrival::Owns;
    }
    let (low, high) = fences::<V>(page, header);
    let (left_of_it, right_of_it) = match *target {
        Target::At(pos) => (pos < low, high.is_some_and(|high| high <= pos)),
        Target::Below(Some(end)) => (end <= low, high.is_some_and(|high| high < end)),
        Target::Below(None) => (false, high.is_some()),
    };
    let beyond = |end| high.is_none_or(|high| high > end);
    if left_of_it
        || promise.low.is_some_and(|promised| promised != low)
        || promise.end.is_some_and(beyond)
    {
        Arrival::Stale
    } else if !right_of_it {
        Arrival::Owns
    } else if header.right == INVALID_BLOCK {
        Arrival::Stale
    } else {
        Arrival::Right(header.right)
    }
}

/// Where a walk along a level ended.
enum Walk<G> {
    Owner {
        page: G,
        header: Header,
        hops: usize,
    },
    Stale {
        block: Block,
    },
}

impl<S: PageStore, const V: usize> Tree<'_, S, V> {
    /// Reads the meta page.
    pub(crate) fn meta(&self) -> Result<Meta> {
        let page = self.store.read(0)?.ok_or(Error::Corrupt {
            block: 0,
            what: "the index has no meta page",
        })?;
        page::read_meta(&page)
    }

    /// The root and its level, as remembered or, if `fresh`, as the meta page
    /// says. A remembered root may have become a page like others; what is
    /// found from there is checked as everything else.
    fn root(&self, fresh: bool) -> Result<(Block, u8)> {
        if !fresh && let Some(root) = self.router.borrow().root() {
            return Ok(root);
        }
        let meta = self.meta()?;
        let root = (meta.root, meta.root_level);
        self.router.borrow_mut().set_root(Some(root));
        Ok(root)
    }

    fn pointer_to((block, level): (Block, u8)) -> Pointer<V> {
        Pointer {
            block,
            level,
            promise: Promise {
                low: Some(Pos::MIN),
                end: None,
            },
        }
    }

    /// The root that the meta page names.
    pub(super) fn fresh_root(&self) -> Result<Pointer<V>> {
        Ok(Self::pointer_to(self.root(true)?))
    }

    /// Follows children from a page down to `level`. `None`: a pointer on the
    /// way was out of date.
    pub(super) fn down(
        &self,
        start: Pointer<V>,
        level: u8,
        target: &Target<V>,
    ) -> Result<core::result::Result<Pointer<V>, Block>> {
        let Pointer {
            mut block,
            level: mut at,
            mut promise,
        } = start;
        let mut hops = 0;
        while at > level {
            if self.is_held(block) {
                return Ok(Err(block));
            }
            let Some(page) = self.store.read(block)? else {
                return Ok(Err(block));
            };
            let header = page::header(&page, block)?;
            match arrive(&page, &header, at, target, &promise) {
                Arrival::Owns => {
                    let view = InnerView::<V>::parse(&page, block, header)?;
                    let child = match target {
                        Target::At(pos) => view.child(pos)?,
                        Target::Below(end) => view.child_below(end.as_ref())?,
                    };
                    block = child.block;
                    at -= 1;
                    promise = Promise {
                        low: Some(child.separator),
                        end: child.end,
                    };
                }
                Arrival::Right(right) => {
                    promise = promise.of_right_sibling(fences::<V>(&page, &header).1);
                    block = right;
                    hops += 1;
                    if hops % 16 == 0 {
                        drop(page);
                        self.store.breathe()?;
                    }
                    if hops > MAX_HOPS {
                        return Ok(Err(block));
                    }
                }
                Arrival::Stale => return Ok(Err(block)),
            }
        }
        Ok(Ok(Pointer {
            block,
            level,
            promise,
        }))
    }

    /// Walks right from `block` to the owner of the target, locking each page
    /// with `lock`, one at a time.
    fn walk<G: PageGuard>(
        &self,
        start: Pointer<V>,
        target: &Target<V>,
        lock: &impl Fn(Block) -> Result<Option<G>>,
    ) -> Result<Walk<G>> {
        let Pointer {
            mut block,
            level,
            mut promise,
        } = start;
        for hops in 0..MAX_HOPS {
            if self.is_held(block) {
                return Ok(Walk::Stale { block });
            }
            let Some(page) = lock(block)? else {
                return Ok(Walk::Stale { block });
            };
            let header = page::header(&page, block)?;
            match arrive(&page, &header, level, target, &promise) {
                Arrival::Owns => return Ok(Walk::Owner { page, header, hops }),
                Arrival::Right(right) => {
                    promise = promise.of_right_sibling(fences::<V>(&page, &header).1);
                    block = right;
                }
                Arrival::Stale => return Ok(Walk::Stale { block }),
            }
            drop(page);
            if hops % 16 == 15 {
                self.store.breathe()?;
            }
        }
        Ok(Walk::Stale { block })
    }

    /// Locks the page of `level` that owns the target, found from the root.
    /// `None`: the tree has no such level.
    pub(crate) fn descend<G: PageGuard>(
        &self,
        level: u8,
        target: &Target<V>,
        lock: &impl Fn(Block) -> Result<Option<G>>,
    ) -> Result<Option<(G, Header)>> {
        let mut last = 0;
        for attempt in 0..MAX_DESCENTS {
            // A remembered root may be in use as any other page by now: to wait
            // for it with locks in hand can be a deadlock.
            let mut root = self.root(attempt > 0 || self.holds_locks())?;
            if root.1 < level && attempt == 0 {
                root = self.root(true)?;
            }
            if root.1 < level {
                return Ok(None);
            }
            match self.down(Self::pointer_to(root), level, target)? {
                Ok(found) => match self.walk(found, target, lock)? {
                    Walk::Owner { page, header, .. } => return Ok(Some((page, header))),
                    Walk::Stale { block } => last = block,
                },
                Err(block) => last = block,
            }
            self.router.borrow_mut().set_root(None);
            self.store.breathe()?;
        }
        Err(Error::Corrupt {
            block: last,
            what: "the tree leads to a page that it does not own",
        })
    }

    /// Locks the leaf that owns the target, through the router where it can.
    pub(crate) fn find_leaf<G: PageGuard>(
        &self,
        target: &Target<V>,
        lock: &impl Fn(Block) -> Result<Option<G>>,
    ) -> Result<(G, Header)> {
        self.ensure_router()?;
        let hint = match target {
            Target::At(pos) => self.router.borrow().route(pos),
            Target::Below(end) => self.router.borrow().route_below(end.as_ref()),
        };
        if planted::is("stale_model_trusted")
            && let Some(start) = hint
            && let Some(page) = lock(start.block)?
        {
            let header = page::header(&page, start.block)?;
            return Ok((page, header));
        }
        if let Some(start) = hint
            && let Ok(found) = self.down(start, 0, target)?
        {
            match self.walk(found, target, lock)? {
                Walk::Owner { page, header, hops } => {
                    if hops == 0 {
                        self.router.borrow_mut().hit();
                    } else {
                        let (low, high) = fences::<V>(&page, &header);
                        let mut router = self.router.borrow_mut();
                        router.hopped(hops);
                        router.learn(0, low, high, page.block());
                    }
                    return Ok((page, header));
                }
                Walk::Stale { .. } => {
                    if let Target::At(pos) = target {
                        self.router.borrow_mut().forget(pos);
                    }
                }
            }
        }
        let found = self.descend(0, target, lock)?.ok_or(Error::Corrupt {
            block: 0,
            what: "the tree has no leaves",
        })?;
        let (low, high) = fences::<V>(&found.0, &found.1);
        let mut router = self.router.borrow_mut();
        router.fell();
        router.learn(0, low, high, found.0.block());
        drop(router);
        Ok(found)
    }

    /// Loads the router's map when it is time: the children that the pages of
    /// level 1 list, or level 2 where those are too many.
    fn ensure_router(&self) -> Result<()> {
        if !self.router.borrow().is_enabled() {
            return Ok(());
        }
        if self.router.borrow().is_loaded() && !self.router.borrow_mut().wants_load(0) {
            return Ok(());
        }
        let pages = self.store.pages()?;
        if !self.router.borrow_mut().wants_load(pages / 400) {
            return Ok(());
        }
        self.load_router()
    }

    /// Loads the router's map now.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what reading pages can raise.
    pub fn load_router(&self) -> Result<()> {
        let mut meta = self.meta()?;
        let mut model = super::publish::load_model(self.store, &meta)?;
        if model.is_none() {
            // VACUUM may have replaced the model while it was read.
            let now = self.meta()?;
            if now.model_version != meta.model_version {
                model = super::publish::load_model(self.store, &now)?;
            }
            meta = now;
        }
        let root = (meta.root, meta.root_level);
        let limit = self.router.borrow().limit();
        for level in 1..=meta.root_level.max(1) {
            let map = if meta.root_level == 0 {
                let mut map = Map::EMPTY;
                map.push(Pos::MIN, meta.root)?;
                Some(map)
            } else {
                self.list_children(level, limit)?
            };
            if let Some(map) = map {
                let mut router = self.router.borrow_mut();
                router.set_root(Some(root));
                router.install(level - 1, map, model);
                return Ok(());
            }
        }
        self.router.borrow_mut().give_up();
        Ok(())
    }

    /// Separators and children of all pages of a level, in order; `None` if
    /// they take more than `limit` bytes. What changes meanwhile may be missed.
    pub(crate) fn list_children(&self, level: u8, limit: usize) -> Result<Option<Map<V>>> {
        let mut map = Map::EMPTY;
        let room = page::inner_capacity::<V>(self.store.page_size());
        let mut items = Vec::new();
        items
            .try_reserve_exact(room)
            .map_err(|_| Error::OutOfMemory { bytes: room * 32 })?;
        let mut next = Pos::MIN;
        loop {
            let lock = |block| self.store.read(block);
            let Some((page, header)) = self.descend(level, &Target::At(next), &lock)? else {
                return Ok(None);
            };
            items.clear();
            let view = InnerView::<V>::parse(&page, page.block(), header)?;
            view.load(&mut items)?;
            let high = view.high();
            drop(page);
            map.reserve(items.len())?;
            for (low, child) in &items {
                if map.last().is_none_or(|last| last < *low) {
                    map.push(*low, *child)?;
                }
            }
            if map.bytes() > limit {
                return Ok(None);
            }
            self.store.breathe()?;
            match high {
                Some(high) => next = high,
                None => return Ok(Some(map)),
            }
        }
    }
}
