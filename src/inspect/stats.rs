//! `omen_stats`: what an index is made of.

use core::ffi::c_int;
use core::fmt::Write;

use omen_core::Result;
use omen_core::codec::Codec;
use omen_core::page::{Kind, Meta};
use omen_core::store::PageStore;
use omen_core::tree::{Counters, Loaded, read_model, tally_page};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::check_readable;
use crate::am::by_lanes;
use crate::am::state::{key_type, read_meta, state_of};
use crate::storage::{PgStore, in_index};

/// Everything that is known of an index.
struct Stats {
    meta: Meta,
    model: Loaded,
    counters: Counters,
    pages: u64,
    leaves: u64,
    inner: u64,
    model_pages: u64,
    free: u64,
    entries: u64,
    delta: u64,
    codecs: [u64; Codec::ALL.len()],
}

// Reads every page: for those who may scan any table, as pgstattuple.
#[pg_extern(sql = "
CREATE FUNCTION omen_stats(
    index regclass,
    OUT entries bigint,
    OUT leaf_pages bigint,
    OUT inner_pages bigint,
    OUT model_pages bigint,
    OUT free_pages bigint,
    OUT height integer,
    OUT bytes_per_entry double precision,
    OUT delta_entries bigint,
    OUT codecs jsonb,
    OUT model text,
    OUT model_segments bigint,
    OUT model_error_bound bigint,
    OUT model_hits bigint,
    OUT model_hops bigint,
    OUT model_falls bigint,
    OUT model_predictions bigint
) RETURNS SETOF record
    STRICT VOLATILE PARALLEL RESTRICTED ROWS 1 LANGUAGE c
    AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
COMMENT ON FUNCTION omen_stats(regclass) IS
    'size, codecs and model of an omen index, and how often the model served this session';
REVOKE EXECUTE ON FUNCTION omen_stats(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION omen_stats(regclass) TO pg_stat_scan_tables;
")]
#[allow(clippy::type_complexity)] // pgrx reads the columns from it
fn omen_stats(
    index: pg_sys::Oid,
) -> TableIterator<
    'static,
    (
        name!(entries, i64),
        name!(leaf_pages, i64),
        name!(inner_pages, i64),
        name!(model_pages, i64),
        name!(free_pages, i64),
        name!(height, i32),
        name!(bytes_per_entry, Option<f64>),
        name!(delta_entries, i64),
        name!(codecs, Option<pgrx::JsonB>),
        name!(model, String),
        name!(model_segments, Option<i64>),
        name!(model_error_bound, Option<i64>),
        name!(model_hits, i64),
        name!(model_hops, i64),
        name!(model_falls, i64),
        name!(model_predictions, i64),
    ),
> {
    // SAFETY: the relation stays open and locked in between, and is checked
    // to be an omen index that this session can read.
    let stats = unsafe {
        let lock = pg_sys::AccessShareLock.cast_signed();
        let rel = pg_sys::relation_open(index, lock);
        check_readable(rel, "omen_stats");
        let lanes = key_type(rel).lanes();
        let stats = by_lanes!(lanes, collect(rel));
        let stats = in_index(rel, stats);
        pg_sys::relation_close(rel, lock);
        stats
    };
    TableIterator::once(row(&stats))
}

/// Reads all pages.
///
/// # Safety
/// `index` is an open and locked omen index of `V` lanes.
unsafe fn collect<const V: usize>(index: pg_sys::Relation) -> Result<Stats> {
    // SAFETY: the caller's promise; the ring is freed with its context.
    let (state, ring) = unsafe {
        let bulk = pg_sys::BufferAccessStrategyType::BAS_BULKREAD;
        (state_of::<V>(index), pg_sys::GetAccessStrategy(bulk))
    };
    // SAFETY: as above.
    let store = unsafe { PgStore::new(index, &state.known).with_strategy(ring) };
    let meta = read_meta(&store)?;
    let mut stats = Stats {
        model: read_model(&store, &meta)?,
        meta,
        counters: state.router.borrow().counters,
        pages: u64::from(store.pages()?),
        leaves: 0,
        inner: 0,
        model_pages: 0,
        free: 0,
        entries: 0,
        delta: 0,
        codecs: [0; Codec::ALL.len()],
    };
    for block in 0..store.pages()? {
        store.breathe()?;
        let Some(page) = store.read(block)? else {
            break;
        };
        let tally = tally_page::<V>(&page, block)?;
        match tally.kind {
            Kind::Leaf => stats.leaves += 1,
            Kind::Inner => stats.inner += 1,
            Kind::Model => stats.model_pages += 1,
            Kind::New | Kind::Free => stats.free += 1,
            Kind::Meta => {}
        }
        stats.entries += tally.entries;
        stats.delta += tally.delta;
        for (sum, count) in stats.codecs.iter_mut().zip(tally.codecs) {
            *sum += count;
        }
    }
    Ok(stats)
}

fn bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The columns of the result.
type Row = (
    i64,
    i64,
    i64,
    i64,
    i64,
    i32,
    Option<f64>,
    i64,
    Option<pgrx::JsonB>,
    String,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
    i64,
    i64,
);

fn row(stats: &Stats) -> Row {
    let (name, facts) = match &stats.model {
        Loaded::Model(model) => {
            let facts = (model.segments() as u64, model.error_bound() as u64);
            (model.kind().name(), Some(facts))
        }
        Loaded::None => ("none", None),
        Loaded::Damaged(_) | Loaded::Blob(_) => ("damaged", None),
    };
    let bytes = stats.pages as f64 * f64::from(pg_sys::BLCKSZ);
    (
        bigint(stats.entries),
        bigint(stats.leaves),
        bigint(stats.inner),
        bigint(stats.model_pages),
        bigint(stats.free),
        c_int::from(stats.meta.root_level),
        (stats.entries > 0).then(|| bytes / stats.entries as f64),
        bigint(stats.delta),
        codec_shares(&stats.codecs),
        name.to_owned(),
        facts.map(|facts| bigint(facts.0)),
        facts.map(|facts| bigint(facts.1)),
        bigint(stats.counters.hits),
        bigint(stats.counters.hops),
        bigint(stats.counters.falls),
        bigint(stats.counters.predicted),
    )
}

/// Shares of the codecs in use, as a JSON object; they add up to about 1.
fn codec_shares(counts: &[u64]) -> Option<pgrx::JsonB> {
    let total: u64 = counts.iter().sum();
    let mut text = String::from("{");
    for (codec, count) in Codec::ALL.iter().zip(counts).filter(|each| *each.1 > 0) {
        let share = *count as f64 / total as f64;
        let comma = if text.len() > 1 { "," } else { "" };
        write!(text, "{comma}\"{}\":{share:.4}", codec.name()).ok()?;
    }
    text.push('}');
    text.parse().ok().map(pgrx::JsonB)
}
