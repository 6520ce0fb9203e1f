//! Verifying a whole index that nobody writes to: every page, every link,
//! every entry.

use super::Tree;
use super::descend::fences;
use crate::codec::MAX_VALUES;
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::page::{self, Entries, InnerView, Kind, LeafView};
use crate::store::PageStore;
use std::collections::HashSet;

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

/// A page of a level: its block, low fence, and whether its parent must have a
/// downlink to it.
struct Member<const V: usize> {
    block: Block,
    low: Pos<V>,
    linked: bool,
}

/// Checks a quiet index, and passes every entry to `visit`, in order.
///
/// # Errors
/// [`Error::Corrupt`] for the first fault found.
pub fn check<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    visit: &mut dyn FnMut(Pos<V>),
) -> Result<CheckReport> {
    let meta = tree.meta()?;
    let mut report = CheckReport {
        height: meta.root_level,
        ..CheckReport::default()
    };
    let mut seen = HashSet::from([0]);
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
            for member in &members {
                report.entries += check_leaf(tree, member.block, visit)?;
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
    seen: &mut HashSet<Block>,
    children: &mut Vec<(Pos<V>, Block)>,
    report: &mut CheckReport,
) -> Result<Vec<Member<V>>> {
    let mut members = Vec::new();
    let (mut block, mut left, mut low) = (first, INVALID_BLOCK, Pos::MIN);
    let mut linked = true;
    loop {
        let corrupt = |what| Error::Corrupt { block, what };
        if !seen.insert(block) {
            return Err(corrupt("a page is reached twice"));
        }
        let guard = tree
            .store()
            .read(block)?
            .ok_or(corrupt("a link leads out of the index"))?;
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
            let from = children.len();
            let view = InnerView::<V>::parse(&guard, block, header)?;
            view.load(children)?;
            let items = children.get(from..).unwrap_or(&[]);
            let ordered = items.windows(2).all(|pair| pair[0].0 < pair[1].0)
                && items
                    .first()
                    .is_some_and(|(separator, _)| *separator == low)
                && items
                    .last()
                    .is_some_and(|(s, _)| high.is_none_or(|high| *s < high));
            if !ordered {
                return Err(corrupt("separators are out of order"));
            }
            for (separator, child) in items {
                let found = view.child(separator)?;
                if (found.separator, found.block) != (*separator, *child) {
                    return Err(corrupt("a separator is not found by search"));
                }
            }
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
    }
}

fn check_leaf<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    block: Block,
    visit: &mut dyn FnMut(Pos<V>),
) -> Result<u64> {
    let corrupt = |what| Error::Corrupt { block, what };
    let guard = tree.store().read(block)?.ok_or(corrupt("a leaf is gone"))?;
    let leaf = LeafView::<V>::read(&guard, block)?;
    let mut entries: Vec<Pos<V>> = Vec::new();
    let mut columns = Box::<Entries<V>>::default();
    let mut reserve = 0;
    let mut upper = leaf.header().special;
    for index in 0..leaf.blocks() {
        let dir = leaf.dir(index)?;
        let view = leaf.view(index)?;
        if dir.first != view.pos(0) {
            return Err(corrupt("a block does not start where the directory says"));
        }
        if dir.offset + dir.len != upper {
            return Err(corrupt("blocks overlap or leave a gap"));
        }
        upper = dir.offset;
        if view.live() == 0 {
            return Err(corrupt("a block has no entries left"));
        }
        reserve += if dir.survivors { 0 } else { dir.n.div_ceil(8) };
        for from in (0..view.len()).step_by(MAX_VALUES) {
            let count = view.decode(from, view.len(), &mut columns);
            for i in 0..count {
                let pos = columns.pos(i);
                if pos != view.pos(from + i) || view.lower_bound(&pos) != from + i {
                    return Err(corrupt("an entry is not found where it is"));
                }
                if view.survives(from + i) {
                    entries.push(pos);
                }
            }
        }
    }
    if upper != leaf.header().upper || reserve != leaf.reserve() {
        return Err(corrupt(
            "the bounds of the blocks are not what the header says",
        ));
    }
    if entries.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(corrupt("entries are out of order"));
    }
    entries.extend((0..leaf.delta_len()).map(|i| leaf.delta(i)));
    if entries.len() != leaf.entries() {
        return Err(corrupt("entries are miscounted"));
    }
    entries.sort_unstable();
    if entries.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(corrupt("an entry stands twice"));
    }
    let (low, high) = (leaf.low(), leaf.high());
    if entries.first().is_some_and(|first| *first < low)
        || entries
            .last()
            .is_some_and(|last| high.is_some_and(|high| *last >= high))
    {
        return Err(corrupt("an entry lies outside of the fences"));
    }
    entries.iter().for_each(|pos| visit(*pos));
    Ok(entries.len() as u64)
}

/// Pages that are not part of the tree are free, new, or of the model.
fn check_rest<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    meta: &page::Meta,
    seen: &mut HashSet<Block>,
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
        if seen.contains(&block) {
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
    }
    Ok(())
}
