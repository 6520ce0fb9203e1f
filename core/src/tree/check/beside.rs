//! Verifying an index while others write to it. What is read under one lock
//! hold has to agree with itself; a link is followed under the lock of the page
//! that it stands on; and every page has to be found from the root.

use super::leaf::LeafChecker;
use super::{CheckReport, Met, Witness, load_children};
use crate::error::{Error, Result};
use crate::key::{Block, INVALID_BLOCK, Pos};
use crate::memory::reserve;
use crate::page::{self, Header, InnerView, Kind, inner_capacity};
use crate::planted;
use crate::store::{PageGuard, PageStore};
use crate::tree::descend::{Arrival, Target, arrive, fences};
use crate::tree::publish::{Loaded, read_model};
use crate::tree::{MAX_DESCENTS, MAX_HOPS, Tree};

/// Checks every level from left to right, and passes each leaf to `witness`. Of a
/// leaf that was merged away meanwhile, the rest of the leaf that took it over is
/// passed. What would need two pages at one time, and neither is a sibling of the
/// other, is left to [`super::check`], which wants quiet.
///
/// # Errors
/// [`Error::Corrupt`] for the first fault found, [`Error::OutOfMemory`], or what
/// the witness returns.
pub fn check_beside_writers<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    witness: &mut impl Witness<V>,
) -> Result<CheckReport> {
    let meta = tree.meta()?;
    let mut report = CheckReport {
        height: meta.root_level,
        ..CheckReport::default()
    };
    let mut met = Met::none_of(tree.store().pages()?)?;
    for level in (1..=meta.root_level).rev() {
        check_inner_level(tree, level, &mut met, &mut report)?;
    }
    check_leaves(tree, meta.first_leaf, &mut met, &mut report, witness)?;
    if !planted::is("unused_pages_unchecked") {
        check_rest(tree, &met)?;
    }
    check_model(tree)?;
    Ok(report)
}

fn check_inner_level<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    level: u8,
    met: &mut Met,
    report: &mut CheckReport,
) -> Result<()> {
    let mut children = Vec::new();
    reserve(&mut children, inner_capacity::<V>(tree.store().page_size()))?;
    let mut low = Pos::MIN;
    // VACUUM may have taken the level away.
    while let Some((guard, header)) = find_linked(tree, level, low)? {
        met.insert(guard.block());
        check_right_sibling::<S, V>(tree, &guard, &header)?;
        children.clear();
        let view = InnerView::<V>::parse(&guard, guard.block(), header)?;
        load_children(&view, &mut children)?;
        report.inner += 1;
        report.incomplete += u32::from(header.split_incomplete());
        let high = view.high();
        drop(guard);
        tree.store().breathe()?;
        match high {
            Some(high) => low = high,
            None => break,
        }
    }
    Ok(())
}

fn check_leaves<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    first: Block,
    met: &mut Met,
    report: &mut CheckReport,
    witness: &mut impl Witness<V>,
) -> Result<()> {
    let mut checker = LeafChecker::new();
    let mut low = Pos::MIN;
    while let Some((guard, header)) = find_linked(tree, 0, low)? {
        let block = guard.block();
        if low == Pos::MIN && block != first {
            let what = "the meta page names another first leaf";
            return Err(Error::Corrupt { block: 0, what });
        }
        met.insert(block);
        let (_, high) = fences::<V>(&guard, &header);
        check_right_sibling::<S, V>(tree, &guard, &header)?;
        let entries = checker.entries(&guard, block)?;
        let new = entries.get(entries.partition_point(|pos| *pos < low)..);
        let pin = guard.into_pin();
        let new = new.unwrap_or(&[]);
        witness.leaf(block, new)?;
        drop(pin);
        report.leaves += 1;
        report.entries += new.len() as u64;
        report.incomplete += u32::from(header.split_incomplete());
        tree.store().breathe()?;
        match high {
            Some(high) => low = high,
            None => break,
        }
    }
    Ok(())
}

/// A page that is found from the root, locked.
type Found<S> = (<S as PageStore>::Shared, Header);

/// The page of `level` that owns `low`, found from the root; none if the tree is
/// lower than that. A parent has to point to it, or its left sibling has to say
/// that its split is not finished.
fn find_linked<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    level: u8,
    low: Pos<V>,
) -> Result<Option<Found<S>>> {
    let target = Target::At(low);
    let mut last = 0;
    for _ in 0..MAX_DESCENTS {
        let start = tree.fresh_root()?;
        if start.level < level {
            return Ok(None);
        }
        let mut at = match tree.down(start, level, &target)? {
            Ok(found) => found,
            Err(block) => {
                last = block;
                tree.store().breathe()?;
                continue;
            }
        };
        let mut linked = true;
        for _ in 0..MAX_HOPS {
            last = at.block;
            let Some(guard) = tree.store().read(at.block)? else {
                break;
            };
            let header = page::header(&guard, at.block)?;
            match arrive(&guard, &header, level, &target, &at.promise) {
                // A split that was finished after the parent was read looks
                // like a missing downlink, but not twice.
                Arrival::Owns if linked => return Ok(Some((guard, header))),
                Arrival::Owns | Arrival::Stale => break,
                Arrival::Right(right) => {
                    linked &= header.split_incomplete();
                    let (_, high) = fences::<V>(&guard, &header);
                    at.promise = at.promise.of_right_sibling(high);
                    at.block = right;
                }
            }
        }
        tree.store().breathe()?;
    }
    Err(Error::Corrupt {
        block: last,
        what: "no parent leads to this page",
    })
}

/// Pages that were not met are new, free, of a model, or came into the tree
/// meanwhile: a page that nothing leads to would still be believed by whoever a
/// hint brings there.
fn check_rest<S: PageStore, const V: usize>(tree: &Tree<'_, S, V>, met: &Met) -> Result<()> {
    let look = |block| -> Result<Option<(Header, Pos<V>)>> {
        let Some(guard) = tree.store().read(block)? else {
            return Ok(None);
        };
        let header = page::header(&guard, block)?;
        let in_use = matches!(header.kind, Kind::Inner | Kind::Leaf);
        Ok(in_use.then(|| (header, fences::<V>(&guard, &header).0)))
    };
    for block in 1..tree.store().pages()? {
        if met.contains(block) {
            continue;
        }
        if let Some((header, low)) = look(block)? {
            let owner = find_linked(tree, header.level, low)?.map(|(guard, _)| guard.block());
            // Its range never begins elsewhere while it is in use.
            let same = |(now, start): &(Header, Pos<V>)| {
                (now.generation, now.level, *start) == (header.generation, header.level, low)
            };
            if owner != Some(block) && look(block)?.as_ref().is_some_and(same) {
                let what = "a page in use is not part of the tree";
                return Err(Error::Corrupt { block, what });
            }
        }
        tree.store().breathe()?;
    }
    Ok(())
}

/// The model that the meta page names can be read.
fn check_model<S: PageStore, const V: usize>(tree: &Tree<'_, S, V>) -> Result<()> {
    let mut meta = tree.meta()?;
    loop {
        let what = match read_model(tree.store(), &meta)? {
            Loaded::None | Loaded::Model(_) => return Ok(()),
            Loaded::Damaged(what) => what,
            Loaded::Blob(_) => "the stored model cannot be read",
        };
        // VACUUM may have replaced the model while it was read.
        let now = tree.meta()?;
        if now.model_version == meta.model_version {
            let block = meta.model_head;
            return Err(Error::Corrupt { block, what });
        }
        meta = now;
        tree.store().breathe()?;
    }
}

/// Compares the links and fences of a locked page and its right sibling, unless
/// that is locked by somebody: to wait could be a deadlock with recovery.
fn check_right_sibling<S: PageStore, const V: usize>(
    tree: &Tree<'_, S, V>,
    guard: &S::Shared,
    header: &Header,
) -> Result<()> {
    let (_, high) = fences::<V>(guard, header);
    let corrupt = |block: Block, what| Err(Error::Corrupt { block, what });
    let right = match (high, header.right) {
        (None, INVALID_BLOCK) => return Ok(()),
        (Some(_), right) if right != INVALID_BLOCK && right != guard.block() => right,
        _ => {
            let what = "the right link does not fit the high fence";
            return corrupt(guard.block(), what);
        }
    };
    if right >= tree.store().pages()? {
        return corrupt(guard.block(), "the right link leads out of the index");
    }
    let Some(sibling) = tree.store().try_write(right)? else {
        return Ok(());
    };
    let found = page::header(&sibling, right)?;
    if (found.kind, found.level) != (header.kind, header.level) {
        return corrupt(
            guard.block(),
            "the right link leads to a page of another kind or level",
        );
    }
    if Some(fences::<V>(&sibling, &found).0) != high {
        return corrupt(right, "the low fence is not the left sibling's high fence");
    }
    if found.left != guard.block() {
        return corrupt(right, "the left link does not lead to the left sibling");
    }
    Ok(())
}
