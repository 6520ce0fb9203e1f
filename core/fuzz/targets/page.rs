//! Everything that reads or rewrites a page, on pages of any bytes: pages of real
//! indexes that a script edits, or bytes as they are. The first two bytes of the
//! input choose the page.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use omen_core::codec::{Codec, MAX_VALUES};
use omen_core::key::Pos;
use omen_core::model::from_blob;
use omen_core::page::{
    self, DeltaAppend, EditScratch, Entries, InnerView, Kind, LeafFrame, LeafView, Meta,
    append_delta, delta_capacity, inner_capacity, write_inner, write_meta,
};
use omen_core::tree::tally_page;
use omen_core::{Block, Error, Result};
use omen_fuzz::{aged, edit_page, empty};

const SIZE: usize = 1024;

thread_local! {
    static ONE_LANE: RefCell<Bench<1>> = RefCell::new(Bench::new());
    static TWO_LANES: RefCell<Bench<2>> = RefCell::new(Bench::new());
}

fuzz_target!(|data: &[u8]| {
    let [form, choice, script @ ..] = data else {
        return;
    };
    let from = usize::from(form >> 4) << 8 | usize::from(*choice);
    match form % 8 {
        0 => {
            ONE_LANE.with_borrow_mut(|bench| bench.fill(from, script));
            TWO_LANES.with_borrow_mut(|bench| bench.fill(from, script));
        }
        1..=4 => ONE_LANE.with_borrow_mut(|bench| bench.edit(from, script)),
        _ => TWO_LANES.with_borrow_mut(|bench| bench.edit(from, script)),
    }
});

/// Pages to start from, and room to work in.
struct Bench<const V: usize> {
    pages: Vec<Vec<u8>>,
    edit: EditScratch<V>,
    columns: Box<Entries<V>>,
    image: Vec<u8>,
    room: Vec<u8>,
}

/// What makes one page unlike another.
fn traits_of<const V: usize>(bytes: &[u8], block: Block) -> Result<Vec<usize>> {
    let header = page::header(bytes, block)?;
    let mut traits = vec![header.kind as usize, usize::from(header.flags)];
    if header.kind == Kind::Leaf {
        let leaf = LeafView::<V>::parse(bytes, block, header)?;
        traits.extend([leaf.blocks().min(3), leaf.delta_len().min(1)]);
        let mut forms = BTreeSet::new();
        for index in 0..leaf.blocks() {
            let (dir, view) = (leaf.dir(index)?, leaf.view(index)?);
            let long = usize::from(view.len() > MAX_VALUES);
            let cut = usize::from(dir.skip > 0);
            let line = usize::from(view.is_line());
            let form = long << 3 | cut << 2 | line << 1 | usize::from(dir.survivors);
            forms.insert((
                form,
                view.codecs().map(|codec| codec.tag()).collect::<Vec<_>>(),
            ));
        }
        traits.extend(forms.iter().flat_map(|(form, codecs)| {
            [*form]
                .into_iter()
                .chain(codecs.iter().map(|codec| usize::from(*codec)))
        }));
    }
    Ok(traits)
}

impl<const V: usize> Bench<V> {
    fn new() -> Self {
        let mut pages = Vec::new();
        let mut seen = BTreeSet::new();
        for seed in 0..28 {
            let index = aged::<V>(SIZE, [100, 70][seed as usize / 14], seed, 1500);
            for block in 0.. {
                let Some(bytes) = index.store.bytes(block) else {
                    break;
                };
                // Long lines take long, and a few windows of one will do.
                let tally = tally_page::<V>(&bytes, block).expect("a sound page");
                if tally.entries > 3 * MAX_VALUES as u64 {
                    continue;
                }
                let traits = traits_of::<V>(&bytes, block).expect("a sound page");
                // Up to two of each kind.
                if seen.insert((0, traits.clone())) || seen.insert((1, traits)) {
                    pages.push(bytes);
                }
            }
        }
        let empty = empty::<V>(SIZE).store;
        pages.extend(empty.bytes(1));
        Self {
            pages,
            edit: EditScratch::new(SIZE).expect("memory"),
            columns: Box::default(),
            room: Vec::new(),
            image: vec![0; SIZE],
        }
    }

    /// A page of any bytes: those of the script over and over, each time with other
    /// bits, behind the header of a page in three of four.
    fn fill(&mut self, from: usize, script: &[u8]) {
        let mut bytes = self.pages[from / 4 % self.pages.len()].clone();
        let header = page::header(&bytes, 1).map_or(0, |header| header.lower.min(96));
        let kept = if from % 4 == 0 { 0 } else { header };
        let until = if from % 4 == 0 {
            SIZE
        } else {
            SIZE - page::SPECIAL
        };
        for (at, byte) in bytes[kept..until].iter_mut().enumerate() {
            let round = (at / script.len().max(1)) as u8;
            *byte = script.get(at % script.len().max(1)).unwrap_or(&0) ^ round.wrapping_mul(0x5b);
        }
        self.try_all(&bytes, script);
    }

    fn edit(&mut self, from: usize, script: &[u8]) {
        let n = self.pages.len();
        let from = from % n;
        let mut bytes = self.pages[from].clone();
        edit_page(&mut bytes, &self.pages[(from + 1) % n], script);
        self.try_all(&bytes, script);
    }

    /// Tries all that there is to try on a page, with entries of `data`.
    fn try_all(&mut self, bytes: &[u8], data: &[u8]) {
        let _ = tally_page::<V>(bytes, 1);
        if let Ok(meta) = page::read_meta(bytes) {
            self.try_meta(&meta);
        }
        if let Ok(Some(part)) = page::read_model_page(bytes, 1) {
            let _ = from_blob(part.body);
        }
        let Ok(header) = page::header(bytes, 1) else {
            return;
        };
        let target = page::read_pos::<V>(data, 0);
        match header.kind {
            Kind::Leaf => {
                if let Ok(leaf) = LeafView::<V>::parse(bytes, 1, header) {
                    self.read_leaf(&leaf, target);
                    self.rewrite_leaf(&leaf, target);
                }
            }
            Kind::Inner => {
                if let Ok(inner) = InnerView::<V>::parse(bytes, 1, header) {
                    self.try_inner(&inner, target);
                }
            }
            _ => {}
        }
    }

    fn try_meta(&mut self, meta: &Meta) {
        write_meta(&mut self.image, meta);
        assert_eq!(page::read_meta(&self.image), Ok(*meta));
    }

    fn try_inner(&mut self, inner: &InnerView<'_, V>, target: Pos<V>) {
        for target in [target, inner.low(), inner.high().unwrap_or(target)] {
            let _ = inner.child(&target);
            let _ = inner.child_below(Some(&target));
        }
        let _ = inner.child_below(None);
        let mut children: Vec<(Pos<V>, Block)> = Vec::new();
        if inner.load(&mut children).is_err() {
            return;
        }
        assert!(children.len() <= inner_capacity::<V>(SIZE));
        let at = children.partition_point(|(pos, _)| *pos < target);
        children.insert(at, (target, 7));
        // As it is, and as the halves of a split.
        let half = children.len() / 2;
        for part in [&children[..], &children[..half], &children[half..]] {
            let frame = LeafFrame {
                low: part.first().map_or(Pos::MIN, |(pos, _)| *pos),
                high: inner.high(),
                flags: 0,
                left: 1,
                right: inner.header().right,
                generation: 0,
                rewrites: 0,
            };
            let level = inner.header().level;
            if write_inner(part, level, &frame, &mut self.image).is_ok() {
                let header = page::header(&self.image, 1).expect("as written");
                let written = InnerView::parse(&self.image, 1, header).expect("as written");
                let mut again = Vec::new();
                written.load(&mut again).expect("as written");
                assert_eq!(again, part);
            }
        }
    }

    fn read_leaf(&mut self, leaf: &LeafView<'_, V>, target: Pos<V>) {
        let _ = leaf.last();
        let _ = leaf.folded_size();
        assert!(leaf.find(&target) <= leaf.blocks());
        for index in 0..leaf.blocks() {
            let Ok(view) = leaf.view(index) else { continue };
            assert!(view.live() <= view.len());
            let middle = view.pos(view.len() / 2);
            for target in [target, leaf.low(), middle, view.pos(view.len() - 1)] {
                assert!(view.lower_bound(&target) <= view.len());
                let (from, to) = view.equal_range(&target);
                assert!(from <= to && to <= view.len());
            }
            // Damaged runs need not end where they begin.
            let agree = view.codecs().all(|codec| codec != Codec::Runs);
            for from in (0..view.len()).step_by(MAX_VALUES) {
                let count = view.decode(from, view.len(), &mut self.columns);
                for i in (0..count).step_by(7).filter(|_| agree) {
                    let (a, b) = (self.columns.pos(i), view.pos(from + i));
                    assert_eq!((a.vals, a.tid), (b.vals, b.tid));
                }
            }
        }
    }

    /// Folds, deletes, splits and joins. What the rewritten page holds is known
    /// if the old one is sound.
    fn rewrite_leaf(&mut self, leaf: &LeafView<'_, V>, target: Pos<V>) {
        let held = self.sound(leaf).ok();
        let sound = held.is_some();
        let held = held.unwrap_or_default();
        let high = leaf.high();
        let owned = leaf.low() <= target && high.is_none_or(|high| target < high);
        let adds = owned && held.binary_search(&target).is_err();
        let planned = |planned: Result<()>| match planned {
            Ok(()) => true,
            Err(Error::Full) => false,
            Err(Error::Corrupt { .. }) if !sound => false,
            Err(error) => panic!("a sound page is reported as: {error}"),
        };

        if leaf.delta_room() > 0 {
            let mut bytes = leaf.page().to_vec();
            let lower = leaf.header().lower;
            let mut room = Vec::new();
            let edits = DeltaAppend::new(&bytes, &[target], &mut room);
            assert!(edits.edits().iter().all(|edit| edit.at <= lower));
            append_delta(&mut bytes, &target);
            let appended = LeafView::<V>::read(&bytes, 1).expect("an entry more");
            assert_eq!(appended.delta(leaf.delta_len()), target);
        }
        // The delta area with another entry, some of all dropped if they are met.
        self.edit.load_delta(leaf);
        let mut tids = Vec::new();
        let touched = self
            .edit
            .for_each_touched(leaf, 100, &mut |tid| tids.push(tid));
        assert!(tids.len() <= 100 && (touched.is_ok() || !sound));
        let _ = self.edit.for_each(leaf, &mut |_| {});
        let drops = target.tid % 3 == 0;
        if drops {
            let dead: Vec<_> = tids.iter().map(|tid| tid % 5 == 0).collect();
            self.edit.doom(&tids, &dead);
        }
        if adds {
            let at = self.edit.delta.partition_point(|pos| *pos < target);
            self.edit.delta.insert(at, target);
        }
        let folded = self.edit.plan_fold(leaf);
        if planned(folded) && self.written(leaf, 0..usize::MAX, &[]) && sound {
            let found = self.again();
            let wanted = held.iter().copied().chain(adds.then_some(target));
            if drops {
                let mut found = found.iter().peekable();
                let mut wanted: Vec<_> = wanted.collect();
                wanted.sort_unstable();
                for pos in &wanted {
                    let there = found.next_if_eq(&pos).is_some();
                    assert!(there || pos.tid % 5 == 0);
                }
                assert_eq!(found.next(), None);
            } else {
                let mut wanted: Vec<_> = wanted.collect();
                wanted.sort_unstable();
                assert_eq!(found, wanted);
            }
        }
        self.edit.load_delta(leaf);
        let survivors = self.edit.plan_survivors(leaf, &mut |pos| pos.tid % 3 > 0);
        if planned(survivors) && self.written(leaf, 0..usize::MAX, &[]) && sound {
            let wanted = held.iter().filter(|pos| pos.tid % 3 > 0);
            assert!(self.again().iter().eq(wanted));
        }
        let every = target.tid % 5 + 1;
        let deleted = self
            .edit
            .plan_delete(leaf, &mut |tid| tid % (every + 1) == 0);
        if planned(deleted.map(drop)) {
            let delta = core::mem::take(&mut self.edit.delta);
            let written = self.written(leaf, 0..usize::MAX, &delta);
            self.edit.delta = delta;
            assert!(written || !sound, "a delete that takes room");
            if sound {
                let wanted = held.iter().filter(|pos| pos.tid % (every + 1) > 0);
                assert!(self.again().iter().eq(wanted));
            }
        }
        if let Ok((left, separator)) = self.edit.plan_split(leaf) {
            let all = self.edit.pieces().len();
            assert!(left <= all);
            let delta = core::mem::take(&mut self.edit.delta);
            let cut = delta.partition_point(|pos| *pos < separator);
            let mut found = Vec::new();
            for (pieces, delta) in [(0..left, &delta[..cut]), (left..all, &delta[cut..])] {
                let written = self.written(leaf, pieces, delta);
                if sound {
                    assert!(written, "a half that does not fit");
                    found.extend(self.again());
                }
            }
            assert!(!sound || found == held);
            assert!(!sound || found.partition_point(|pos| *pos < separator) < found.len());
            self.edit.delta = delta;
        }
        // Joined with itself: twice its blocks, as two neighbours have them.
        self.edit.clear();
        self.edit.delta.clear();
        let joined = self.edit.plan_join(leaf);
        let joined = joined.and_then(|()| self.edit.plan_join(leaf));
        if joined.is_ok() && self.edit.delta.len() <= delta_capacity(SIZE) {
            let delta = core::mem::take(&mut self.edit.delta);
            self.written(leaf, 0..usize::MAX, &delta);
            self.edit.delta = delta;
        }
    }

    /// Writes what is planned to the image. Whether it fits.
    fn written(
        &mut self,
        leaf: &LeafView<'_, V>,
        pieces: core::ops::Range<usize>,
        delta: &[Pos<V>],
    ) -> bool {
        let header = leaf.header();
        let frame = LeafFrame {
            low: leaf.low(),
            high: leaf.high(),
            flags: header.flags,
            left: header.left,
            right: header.right,
            generation: header.generation,
            rewrites: header.rewrites,
        };
        let pieces = pieces.start..pieces.end.min(self.edit.pieces().len());
        let page = leaf.page();
        match self
            .edit
            .write(page, pieces, delta, &frame, &mut self.image)
        {
            Ok(()) => {
                LeafView::<V>::read(&self.image, 1).expect("as written");
                true
            }
            Err(Error::Full) => false,
            Err(error) => panic!("writing a page fails with: {error}"),
        }
    }

    /// What the image holds, which is a sound leaf.
    fn again(&mut self) -> Vec<Pos<V>> {
        let image = core::mem::take(&mut self.image);
        let leaf = LeafView::<V>::read(&image, 1).expect("as written");
        let held = self.sound(&leaf).expect("a sound page");
        self.image = image;
        held
    }

    /// The entries of a leaf that agrees with itself, in order.
    fn sound(&mut self, leaf: &LeafView<'_, V>) -> core::result::Result<Vec<Pos<V>>, &'static str> {
        let mut entries = Vec::new();
        let (mut reserved, mut upper) = (0, leaf.header().special);
        for index in 0..leaf.blocks() {
            let dir = leaf.dir(index).map_err(|_| "directory")?;
            let view = leaf.view(index).map_err(|_| "block")?;
            if dir.first != view.pos(0) || dir.offset + dir.len != upper || view.live() == 0 {
                return Err("blocks");
            }
            if !matches!(leaf.is_closed(index, &mut self.room), Ok(true)) {
                return Err("open block");
            }
            upper = dir.offset;
            reserved += if dir.survivors { 0 } else { dir.n.div_ceil(8) };
            for from in (0..view.len()).step_by(MAX_VALUES) {
                let count = view.decode(from, view.len(), &mut self.columns);
                let alive = (0..count).filter(|i| view.survives(from + i));
                entries.extend(alive.map(|i| self.columns.pos(i)));
            }
        }
        if upper != leaf.header().upper || reserved != leaf.reserve() {
            return Err("bounds");
        }
        if !entries.is_sorted_by(|a, b| a < b) {
            return Err("order");
        }
        entries.extend((0..leaf.delta_len()).map(|i| leaf.delta(i)));
        entries.sort_unstable();
        let (low, high) = (leaf.low(), leaf.high());
        let inside = |pos: &Pos<V>| low <= *pos && high.is_none_or(|high| *pos < high);
        if entries.len() != leaf.entries() {
            return Err("count");
        }
        if !entries.is_sorted_by(|a, b| a < b) {
            return Err("doubles");
        }
        if !entries.iter().all(inside) {
            return Err("fences");
        }
        Ok(entries)
    }
}
