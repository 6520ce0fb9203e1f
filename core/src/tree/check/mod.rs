//! Verifying an index: [`check`] a quiet one, every page, link and entry;
//! [`check_beside_writers`] what holds at any time.

mod beside;
mod leaf;

pub use beside::check_beside_writers;

use super::Tree;
use super::descend::fences;
use super::publish::{Loaded, read_model};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::memory::{reserve, reserved};
use crate::page::{self, InnerView, Kind, inner_capacity};
use crate::store::{PageGuard, PageStore};
use leaf::LeafChecker;

/// What a sound index holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Entries of all leaves.
    pub entries: u64,
    /// Leaves.
    pub leaves: u32,
    /// Inner pages.
    pub inner: u32,
    /// Pages whose split is not finished.
    pub incomplete: u32,
    /// Level of the root.
    pub height: u8,
}

/// Who is shown what the check has read.
pub trait Witness<const V: usize> {
    /// All entries of a leaf, in order. Its page is pinned, so that the rows
    /// that the entries point to stay where they are, and nothing is locked.
    ///
    /// # Errors
    /// What the witness finds wrong, or [`Error::OutOfMemory`].
    fn leaf(&mut self, block: Block, entries: &[Pos<V>]) -> Result<()>;
}

/// A page of a level: its block, low fence, and whether its parent must have a
/// downlink to it.
struct Member<const V: usize> {
    block: Block,
    low: Pos<V>,
    linked: bool,
}

/// The set of pages that were met.
struct Met(Vec<u64>);

impl Met {
    /// No page of an index of `blocks` pages.
    fn none_of(blocks: Block) -> Result<Self> {
        let words = (blocks as usize).div_ceil(64);
        let mut bits = reserved(words)?;
        bits.resize(words, 0);
        Ok(Self(bits))
    }

    fn contains(&self, block: Block) -> bool {
        let word = self.0.get(block as usize / 64);
        word.is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    /// Adds a page. False: it was met before, or does not exist.
    fn insert(&mut self, block: Block) -> bool {
        let new = !self.contains(block);
        match self.0.get_mut(block as usize / 64) {
            Some(word) => *word |= 1 << (block % 64),
            None => return false,
        }
        new
    }
}

/// Checks an index that nobody writes to, and passes every leaf to `witness`, in
/// order.
///
/// # Errors
/// [`Error::Corrupt`] for the first fault found, [`Error::OutOfMemory`], or what
/// the witness returns.
pub fn check<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    witness: &mut impl Witness<V>,
) -> Result<CheckReport> {
    let meta = tree.meta()?;
    let mut report = CheckReport {
        height: meta.root_level,
        ..CheckReport::default()
    };
    let mut seen = Met::none_of(tree.store().pages()?)?;
    seen.insert(0);
    let mut first = meta.root;
    // Children that the level above lists.
    let mut listed: Vec<(Pos<V>, Block)> = vec![(Pos::MIN, meta.root)];
    for level in (0..=meta.root_level).rev() {
        let mut children = Vec::new();
        let members = level_members(tree, level, first, &mut seen, &mut children, &mut report)?;
        let mut due = listed.iter();
        for member in &members {
            let corrupt = |what| Error::Corrupt {
                block: member.block,
                what,
            };
            if !member.linked {
                if listed.iter().any(|(_, child)| *child == member.block) {
                    return Err(corrupt("a page has the downlink that its split still owes"));
                }
                continue;
            }
            match due.next() {
                Some((low, child)) if *child == member.block && *low == member.low => {}
                _ => return Err(corrupt("no parent points to this page by its low fence")),
            }
        }
        if let Some((_, child)) = due.next() {
            let what = "a parent points to a page that is not on its level";
            return Err(Error::Corrupt {
                block: *child,
                what,
            });
        }
        if level > 0 {
            first = children.first().map_or(INVALID_BLOCK, |(_, child)| *child);
        } else {
            let corrupt = |what| Error::Corrupt { block: 0, what };
            if meta.first_leaf != members.first().map_or(0, |m| m.block) {
                return Err(corrupt("the meta page names another first leaf"));
            }
            check_model(tree, &meta, &members)?;
            let mut checker = LeafChecker::new();
            for member in &members {
                let guard = tree.store().read(member.block)?;
                let guard = guard.ok_or(corrupt("a leaf is gone"))?;
                let entries = checker.entries(&guard, member.block)?;
                let pin = guard.into_pin();
                witness.leaf(member.block, entries)?;
                drop(pin);
                report.entries += entries.len() as u64;
                tree.store().breathe()?;
            }
        }
        listed = children;
    }
    check_rest(tree, &meta, &mut seen)?;
    Ok(report)
}

fn level_members<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    level: u8,
    first: Block,
    seen: &mut Met,
    children: &mut Vec<(Pos<V>, Block)>,
    report: &mut CheckReport,
) -> Result<Vec<Member<V>>> {
    let mut members = Vec::new();
    let (mut block, mut left, mut low) = (first, INVALID_BLOCK, Pos::MIN);
    let mut linked = true;
    loop {
        let corrupt = |what| Error::Corrupt { block, what };
        // Nothing that grows is allocated under the lock.
        reserve(&mut members, 1)?;
        if level > 0 {
            reserve(children, inner_capacity::<V>(tree.store().page_size()))?;
        }
        let guard = tree
            .store()
            .read(block)?
            .ok_or(corrupt("a link leads out of the index"))?;
        if !seen.insert(block) {
            return Err(corrupt("a page is reached twice"));
        }
        let header = page::header(&guard, block)?;
        let kind = if level == 0 { Kind::Leaf } else { Kind::Inner };
        if header.kind != kind || header.level != level {
            return Err(corrupt("a page of another kind or level is linked"));
        }
        if header.left != left {
            return Err(corrupt("the left link does not lead to the left sibling"));
        }
        let (own_low, high) = fences::<V>(&guard, &header);
        if own_low != low || high.is_some_and(|high| high <= low) {
            return Err(corrupt("the fences do not continue the left sibling's"));
        }
        members.push(Member { block, low, linked });
        if level > 0 {
            report.inner += 1;
            load_children(&InnerView::<V>::parse(&guard, block, header)?, children)?;
        } else {
            report.leaves += 1;
        }
        linked = !header.split_incomplete();
        report.incomplete += u32::from(!linked);
        match high {
            None if header.right == INVALID_BLOCK && linked => return Ok(members),
            Some(high) if header.right != INVALID_BLOCK => {
                left = block;
                low = high;
                block = header.right;
            }
            _ => return Err(corrupt("the right link does not fit the high fence")),
        }
        drop(guard);
        tree.store().breathe()?;
    }
}

/// Adds the separators and children of an inner page, which have to be in order
/// and between its fences.
fn load_children<const V: usize>(
    view: &InnerView<'_, V>,
    children: &mut Vec<(Pos<V>, Block)>,
) -> Result<()> {
    let from = children.len();
    view.load(children)?;
    let items = children.get(from..).unwrap_or(&[]);
    let low = view.low();
    let beyond = |last: &Pos<V>| view.high().is_some_and(|high| *last >= high);
    let ordered = items.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && items.first().is_some_and(|(first, _)| *first == low)
        && !items.last().is_some_and(|(last, _)| beyond(last));
    if !ordered {
        return Err(view.corrupt("separators are out of order"));
    }
    for (separator, child) in items {
        let found = view.child(separator)?;
        if (found.separator, found.block) != (*separator, *child) {
            return Err(view.corrupt("a separator is not found by search"));
        }
    }
    Ok(())
}

/// The model has to be as good as it says, if the leaves are those that it was
/// trained on.
fn check_model<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    meta: &page::Meta,
    leaves: &[Member<V>],
) -> Result<()> {
    let corrupt = |what| Error::Corrupt {
        block: meta.model_head,
        what,
    };
    let model = match read_model(tree.store(), meta)? {
        Loaded::None => return Ok(()),
        Loaded::Model(model) => model,
        Loaded::Damaged(what) => return Err(corrupt(what)),
        Loaded::Blob(_) => return Err(corrupt("the stored model cannot be read")),
    };
    let mut keys = reserved(leaves.len())?;
    keys.extend(leaves.iter().map(|leaf| leaf.low.model_key()));
    match model.holds_for(&keys) {
        Some(false) => Err(corrupt("the model is further off than its error bound")),
        _ => Ok(()),
    }
}

/// Pages that are not part of the tree are free, new, or of the model.
fn check_rest<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    meta: &page::Meta,
    seen: &mut Met,
) -> Result<()> {
    let mut block = meta.model_head;
    let mut length = 0;
    while block != INVALID_BLOCK {
        let corrupt = |what| Error::Corrupt { block, what };
        if !seen.insert(block) {
            return Err(corrupt("a model page is reached twice"));
        }
        let guard = tree
            .store()
            .read(block)?
            .ok_or(corrupt("a model page is gone"))?;
        let part = page::read_model_page(&guard, block)?
            .filter(|part| part.version == meta.model_version)
            .ok_or(corrupt("the model chain leads to another page"))?;
        length += part.body.len();
        block = part.next;
    }
    if length != meta.model_bytes as usize {
        return Err(Error::Corrupt {
            block: 0,
            what: "the model has another length",
        });
    }
    for block in 0..tree.store().pages()? {
        if seen.contains(block) {
            continue;
        }
        let Some(guard) = tree.store().read(block)? else {
            continue;
        };
        let orphan = match page::header(&guard, block)?.kind {
            Kind::New | Kind::Free => false,
            Kind::Model => page::read_model_page(&guard, block)?
                .is_some_and(|part| part.version == meta.model_version),
            _ => true,
        };
        if orphan {
            return Err(Error::Corrupt {
                block,
                what: "a page in use is not part of the tree",
            });
        }
        drop(guard);
        tree.store().breathe()?;
    }
    Ok(())
}
