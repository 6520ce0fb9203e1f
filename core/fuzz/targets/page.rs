//! Everything that reads or rewrites a page, on pages of any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omen_core::Block;
use omen_core::key::Pos;
use omen_core::page::{
    self, EditScratch, Entries, InnerView, Kind, LeafFrame, LeafView, init_leaf, write_inner,
};

const SIZE: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let [form, data @ ..] = data else { return };
    let mut bytes = vec![0; SIZE];
    let frame = LeafFrame {
        low: Pos::MIN,
        high: None,
        flags: 0,
        left: 7,
        right: 9,
        generation: 1,
    };
    // Bytes as they are, or behind the header of a leaf or an inner page.
    let from = match form % 3 {
        0 => 0,
        1 => {
            init_leaf::<1>(&mut bytes, &frame);
            12
        }
        _ => {
            let written = write_inner::<1>(&[(Pos::MIN, 3)], 1, &frame, &mut bytes);
            assert!(written.is_ok());
            12
        }
    };
    let to = if from == 0 {
        SIZE
    } else {
        SIZE - page::SPECIAL
    };
    for (to, byte) in bytes[from..to].iter_mut().zip(data) {
        *to = *byte;
    }
    if from > 0 {
        // pd_special is where it always is.
        bytes[16..18].copy_from_slice(&((SIZE - page::SPECIAL) as u16).to_le_bytes());
    }
    read_all::<1>(&bytes, data);
    read_all::<2>(&bytes, data);
});

fn read_all<const V: usize>(bytes: &[u8], data: &[u8]) {
    let _ = page::read_meta(bytes);
    let _ = page::read_model_page(bytes, 1);
    let _ = omen_core::tree::tally_page::<V>(bytes, 1);
    let Ok(header) = page::header(bytes, 1) else {
        return;
    };
    let target = page::read_pos::<V>(data, 0);
    match header.kind {
        Kind::Leaf => {
            if let Ok(leaf) = LeafView::<V>::parse(bytes, 1, header) {
                read_leaf(&leaf, &target);
            }
        }
        Kind::Inner => {
            if let Ok(inner) = InnerView::<V>::parse(bytes, 1, header) {
                let _ = inner.child(&target);
                let _ = inner.child_below(Some(&target));
                let _ = inner.child_below(None);
                let mut children: Vec<(Pos<V>, Block)> = Vec::new();
                let _ = inner.load(&mut children);
            }
        }
        _ => {}
    }
}

fn read_leaf<const V: usize>(leaf: &LeafView<'_, V>, target: &Pos<V>) {
    let mut entries = Box::<Entries<V>>::default();
    let _ = leaf.last();
    let _ = leaf.folded_size();
    let _ = leaf.find(target);
    for index in 0..leaf.blocks() {
        let Ok(view) = leaf.view(index) else { continue };
        let _ = view.live();
        assert!(view.lower_bound(target) <= view.len());
        for from in (0..view.len()).step_by(omen_core::codec::MAX_VALUES) {
            let count = view.decode(from, view.len(), &mut entries);
            for i in 0..count {
                assert_eq!(entries.pos(i), view.pos(from + i));
            }
        }
    }
    let Ok(mut edit) = EditScratch::<V>::new(SIZE) else {
        return;
    };
    let image = &mut [0; SIZE];
    let frame = LeafFrame {
        low: leaf.low(),
        high: leaf.high(),
        flags: 0,
        left: 1,
        right: 2,
        generation: 0,
    };
    let write = |edit: &EditScratch<V>, image: &mut [u8]| {
        let all = 0..edit.pieces().len();
        let _ = edit.write(leaf.page(), all, &edit.delta, &frame, image);
    };
    edit.load_delta(leaf);
    let _ = edit.for_each_touched(leaf, 100, &mut |_| {});
    let _ = edit.for_each(leaf, &mut |_| {});
    if edit.plan_fold(leaf).is_ok() {
        write(&edit, image);
    }
    edit.load_delta(leaf);
    if edit
        .plan_survivors(leaf, &mut |pos| pos.tid % 3 > 0)
        .is_ok()
    {
        write(&edit, image);
    }
    if edit.plan_delete(leaf, &mut |tid| tid % 3 == 0).is_ok() {
        write(&edit, image);
    }
    if let Ok((left, _)) = edit.plan_split(leaf) {
        assert!(left <= edit.pieces().len());
        write(&edit, image);
    }
    edit.clear();
    edit.delta.clear();
    let _ = edit.plan_join(leaf);
}
