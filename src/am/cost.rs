//! Cost estimates, in the manner of `btcostestimate` (selfuncs.c).

use core::ffi::c_int;

use pgrx::pg_sys;
use pgrx::prelude::*;

/// CPU cost of looking into a page, in units of `cpu_operator_cost`
/// (`DEFAULT_PAGE_CPU_MULTIPLIER`).
const PAGE_CPU: f64 = 50.0;
/// Pages that a search looks into: the router names the leaf, which takes
/// about as long as one more page.
const SEARCH_PAGES: f64 = 2.0;
/// Entries of a page of a btree index on a column of 8 bytes: what decides
/// whether a scan is long enough for parallel workers is how much there is to
/// do, and an omen index has fewer pages for the same entries.
const BTREE_PAGE_ENTRIES: f64 = 366.0;
/// `BTLessStrategyNumber`.
const LESS: i16 = 1;
/// `BTEqualStrategyNumber`.
const EQUAL: c_int = 3;

/// The pointers of a list.
///
/// # Safety
/// `list` is NIL or a list of pointers that is not changed meanwhile.
unsafe fn items<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    // SAFETY: the caller's promise.
    let length = unsafe { list.as_ref() }.map_or(0, |list| list.length);
    (0..usize::try_from(length).unwrap_or(0)).map(move |i| {
        // SAFETY: the list has that many cells.
        unsafe { (*(*list).elements.add(i)).ptr_value.cast() }
    })
}

/// The conditions of a path, and the number of searches that they take.
///
/// # Safety
/// `root` and `path` are what the planner gave to `amcostestimate`.
unsafe fn conditions(
    _root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
) -> (*mut pg_sys::List, f64) {
    let mut quals = core::ptr::null_mut();
    let mut searches = 1.0;
    // SAFETY: the caller's promise: lists and nodes of the types named.
    unsafe {
        let family = *(*(*path).indexinfo).opfamily;
        for clause in items::<pg_sys::IndexClause>((*path).indexclauses) {
            for info in items::<pg_sys::RestrictInfo>((*clause).indexquals) {
                quals = pg_sys::lappend(quals, info.cast());
                let clause: *mut pg_sys::Node = (*info).clause.cast();
                if (*clause).type_ != pg_sys::NodeTag::T_ScalarArrayOpExpr {
                    continue;
                }
                // Arrays of other operators become one search.
                let array: *mut pg_sys::ScalarArrayOpExpr = clause.cast();
                if pg_sys::get_op_opfamily_strategy((*array).opno, family) != EQUAL {
                    continue;
                }
                let Some(operand) = items::<pg_sys::Node>((*array).args).nth(1) else {
                    continue;
                };
                #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
                let length = f64::from(pg_sys::estimate_array_length(operand));
                #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
                let length = pg_sys::estimate_array_length(_root, operand);
                searches *= length.max(1.0);
            }
        }
    }
    (quals, searches)
}

/// How far the order of the index is that of the table, -1 to 1; `None` if
/// ANALYZE has not said.
///
/// # Safety
/// `root` and `index` are the planner's.
unsafe fn correlation(
    root: *mut pg_sys::PlannerInfo,
    index: *mut pg_sys::IndexOptInfo,
) -> Option<f64> {
    // SAFETY: the caller's promise. The tuple of the cache is released, and
    // the slot points into palloc'd copies.
    unsafe {
        let table = (*index).rel;
        let column = *(*index).indexkeys;
        let (relation, column, inherited) = if column == 0 {
            // An expression: the index has statistics of its own.
            ((*index).indexoid, 1, false)
        } else {
            let entry = *(*root).simple_rte_array.add((*table).relid as usize);
            ((*entry).relid, column, (*entry).inh)
        };
        let tuple = pg_sys::SearchSysCache3(
            pg_sys::SysCacheIdentifier::STATRELATTINH as c_int,
            pg_sys::Datum::from(relation),
            pg_sys::Datum::from(i16::try_from(column).unwrap_or(0)),
            pg_sys::Datum::from(inherited),
        );
        if tuple.is_null() {
            return None;
        }
        let (family, input) = (*(*index).opfamily, *(*index).opcintype);
        let operator = pg_sys::get_opfamily_member(family, input, input, LESS);
        let mut slot = pg_sys::AttStatsSlot::default();
        let kind = pg_sys::STATISTIC_KIND_CORRELATION as c_int;
        let numbers = pg_sys::ATTSTATSSLOT_NUMBERS as c_int;
        let mut found = None;
        if operator != pg_sys::InvalidOid
            && pg_sys::get_attstatsslot(&raw mut slot, tuple, kind, operator, numbers)
        {
            if slot.nnumbers == 1 {
                let value = f64::from(*slot.numbers);
                let reversed = !(*index).reverse_sort.is_null() && *(*index).reverse_sort;
                found = Some(if reversed { -value } else { value });
            }
            pg_sys::free_attstatsslot(&raw mut slot);
        }
        pg_sys::ReleaseSysCache(tuple);
        found
    }
}

/// `amcostestimate`.
#[pg_guard]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe extern "C-unwind" fn amcostestimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    loop_count: f64,
    startup: *mut pg_sys::Cost,
    total: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    index_correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: the callback's contract.
    unsafe {
        let index = (*path).indexinfo;
        let (quals, searches) = conditions(root, path);
        // All conditions are on the one column, so all of them bound the scan.
        let table = (*index).rel;
        let share = pg_sys::clauselist_selectivity(
            root,
            pg_sys::add_predicate_to_index_quals(index, quals),
            c_int::try_from((*table).relid).unwrap_or(0),
            pg_sys::JoinType::JOIN_INNER,
            core::ptr::null_mut(),
        );
        let mut costs = pg_sys::GenericCosts {
            numIndexTuples: (share * (*table).tuples / searches).round(),
            num_sa_scans: searches,
            ..Default::default()
        };
        pg_sys::genericcostestimate(root, path, loop_count, &raw mut costs);

        let search = SEARCH_PAGES * PAGE_CPU * pg_sys::cpu_operator_cost;
        *startup = costs.indexStartupCost + search;
        *total = costs.indexTotalCost + searches * search;
        *selectivity = costs.indexSelectivity;
        *index_correlation = correlation(root, index).unwrap_or(costs.indexCorrelation);
        // The planner counts parallel workers by it, and nothing else (cost_index).
        let as_btree = (costs.numIndexTuples / BTREE_PAGE_ENTRIES).ceil();
        *pages = costs.numIndexPages.max(as_btree);
    }
}
