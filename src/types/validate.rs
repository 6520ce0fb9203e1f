//! `amvalidate`: whether an operator class can be used with this access
//! method.
//!
//! Follows `btvalidate` (nbtvalidate.c) and adds what btree need not ask: the
//! comparison function is never called here, so the order of the class must be
//! the one that [`super::lanes`] implements. That is the case if the type is
//! one of [`KeyType`] and every operator and support function has the same
//! role in a btree family.

use core::ffi::{CStr, c_char};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::KeyType;

const AM_NAME: &str = "omen";

/// Strategies `<`, `<=`, `=`, `>=`, `>`: bits 1 to 5.
const ALL_STRATEGIES: u64 = 0b11_1110;

/// The comparison function, the only support function.
const COMPARE: i16 = 1;

/// Checks an operator class and its family. Each flaw is reported as INFO, and
/// the result is whether there is none.
pub fn validate(opclass: pg_sys::Oid) -> bool {
    let class = Class::load(opclass);
    // SAFETY: both caches exist and are keyed by the family first; the lists
    // are released below, or by the resource owner after an ERROR.
    let (operators, functions) = unsafe {
        (
            members(pg_sys::SysCacheIdentifier::AMOPSTRATEGY, class.family),
            members(pg_sys::SysCacheIdentifier::AMPROCNUM, class.family),
        )
    };
    let mut report = Report {
        family: &class.family_name,
        flaws: 0,
    };

    if KeyType::from_oid(class.input_type).is_none() {
        report.flaw(format!(
            "operator class \"{}\" of access method {AM_NAME} accepts unsupported type {}",
            class.name,
            type_name(class.input_type)
        ));
    }

    // SAFETY: the rows of the caches are of these catalogs; the lists are held.
    unsafe {
        let btree_family = rows(operators)
            .find_map(|row| btree_family_of(&*row.cast::<pg_sys::FormData_pg_amop>()));
        for row in rows(functions) {
            check_function(&mut report, &*row.cast(), btree_family);
        }
        for row in rows(operators) {
            check_operator(&mut report, &*row.cast(), btree_family);
        }
    }
    check_groups(&mut report, &class, operators, functions);

    let flaws = report.flaws;
    // SAFETY: SearchSysCacheList returned both, and they are not used again.
    unsafe {
        pg_sys::ReleaseCatCacheList(functions);
        pg_sys::ReleaseCatCacheList(operators);
    }
    flaws == 0
}

/// What `pg_opclass` and `pg_opfamily` say of the class.
struct Class {
    name: String,
    family: pg_sys::Oid,
    family_name: String,
    input_type: pg_sys::Oid,
}

impl Class {
    fn load(opclass: pg_sys::Oid) -> Self {
        // SAFETY: the caches return rows of these catalogs or NULL; the rows
        // are released when all has been copied.
        unsafe {
            let class_tuple = lookup(pg_sys::SysCacheIdentifier::CLAOID, opclass);
            if class_tuple.is_null() {
                error!(
                    "cache lookup failed for operator class {}",
                    opclass.to_u32()
                );
            }
            let class = &*pg_sys::GETSTRUCT(class_tuple).cast::<pg_sys::FormData_pg_opclass>();
            let family_tuple = lookup(pg_sys::SysCacheIdentifier::OPFAMILYOID, class.opcfamily);
            if family_tuple.is_null() {
                error!(
                    "cache lookup failed for operator family {}",
                    class.opcfamily.to_u32()
                );
            }
            let family = &*pg_sys::GETSTRUCT(family_tuple).cast::<pg_sys::FormData_pg_opfamily>();
            let loaded = Self {
                name: text(class.opcname.data.as_ptr()),
                family: class.opcfamily,
                family_name: text(family.opfname.data.as_ptr()),
                input_type: class.opcintype,
            };
            pg_sys::ReleaseSysCache(family_tuple);
            pg_sys::ReleaseSysCache(class_tuple);
            loaded
        }
    }
}

/// The flaws found so far.
struct Report<'a> {
    family: &'a str,
    flaws: usize,
}

impl Report<'_> {
    fn flaw(&mut self, message: String) {
        self.flaws += 1;
        ereport!(
            PgLogLevel::INFO,
            PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
            message
        );
    }

    fn family_flaw(&mut self, what: &str) {
        let message = format!(
            "operator family \"{}\" of access method {AM_NAME} {what}",
            self.family
        );
        self.flaw(message);
    }
}

fn check_function(
    report: &mut Report,
    function: &pg_sys::FormData_pg_amproc,
    btree_family: Option<pg_sys::Oid>,
) {
    let (left, right) = (function.amproclefttype, function.amprocrighttype);
    let number = function.amprocnum;
    let name = || {
        // SAFETY: the function takes any OID and returns palloc'd text.
        text_of(unsafe { pg_sys::format_procedure(function.amproc) })
    };
    if number != COMPARE {
        return report.family_flaw(&format!(
            "contains function {} with invalid support number {number}",
            name()
        ));
    }
    if !server::compares(function.amproc, left, right) {
        return report.family_flaw(&format!(
            "contains function {} with wrong signature for support number {number}",
            name()
        ));
    }
    let btree_function = btree_family.map(|family| {
        // SAFETY: a lookup by OIDs; InvalidOid if there is no such member.
        unsafe { pg_sys::get_opfamily_proc(family, left, right, COMPARE) }
    });
    if btree_function != Some(function.amproc) {
        report.family_flaw(&format!(
            "contains function {} that is not the btree comparison of types {} and {}",
            name(),
            type_name(left),
            type_name(right)
        ));
    }
}

fn check_operator(
    report: &mut Report,
    operator: &pg_sys::FormData_pg_amop,
    btree_family: Option<pg_sys::Oid>,
) {
    let (left, right) = (operator.amoplefttype, operator.amoprighttype);
    let name = || {
        // SAFETY: the function takes any OID and returns palloc'd text.
        text_of(unsafe { pg_sys::format_operator(operator.amopopr) })
    };
    if !(1..=5).contains(&operator.amopstrategy) {
        report.family_flaw(&format!(
            "contains operator {} with invalid strategy number {}",
            name(),
            operator.amopstrategy
        ));
    }
    if operator.amoppurpose.cast_unsigned() != pg_sys::AMOP_SEARCH
        || operator.amopsortfamily != pg_sys::InvalidOid
    {
        report.family_flaw(&format!(
            "contains invalid ORDER BY specification for operator {}",
            name()
        ));
    }
    if !server::is_comparison(operator.amopopr, left, right) {
        report.family_flaw(&format!(
            "contains operator {} with wrong signature",
            name()
        ));
    }
    let btree_operator = btree_family.map(|family| {
        // SAFETY: a lookup by OIDs; InvalidOid if there is no such member.
        unsafe { pg_sys::get_opfamily_member(family, left, right, operator.amopstrategy) }
    });
    if btree_operator != Some(operator.amopopr) {
        report.family_flaw(&format!(
            "contains operator {} that is not the btree operator of strategy {}",
            name(),
            operator.amopstrategy
        ));
    }
}

fn check_groups(
    report: &mut Report,
    class: &Class,
    operators: *mut pg_sys::CatCList,
    functions: *mut pg_sys::CatCList,
) {
    let groups = server::groups(operators, functions);
    let mut types: Vec<pg_sys::Oid> = Vec::new();
    for group in &groups {
        for side in [group.lefttype, group.righttype] {
            if !types.contains(&side) {
                types.push(side);
            }
        }
        let pair = format!(
            "types {} and {}",
            type_name(group.lefttype),
            type_name(group.righttype)
        );
        if group.operatorset != ALL_STRATEGIES {
            report.family_flaw(&format!("is missing operator(s) for {pair}"));
        }
        if group.functionset & (1 << COMPARE) == 0 {
            report.family_flaw(&format!("is missing support function for {pair}"));
        }
    }
    if !groups
        .iter()
        .any(|group| group.lefttype == class.input_type && group.righttype == class.input_type)
    {
        report.flaw(format!(
            "operator class \"{}\" of access method {AM_NAME} is missing operator(s)",
            class.name
        ));
    }
    if groups.len() != types.len() * types.len() {
        report.family_flaw("is missing cross-type operator(s)");
    }
}

/// The btree family in which an operator has the same strategy and types.
///
/// # Safety
/// `operator` is a row of `pg_amop`.
unsafe fn btree_family_of(operator: &pg_sys::FormData_pg_amop) -> Option<pg_sys::Oid> {
    // SAFETY: the cache is keyed by the operator first and holds pg_amop rows,
    // which are used only until the release.
    unsafe {
        let uses = members(pg_sys::SysCacheIdentifier::AMOPOPID, operator.amopopr);
        let family = rows(uses)
            .map(|row| &*row.cast::<pg_sys::FormData_pg_amop>())
            .find(|other| {
                other.amopmethod == pg_sys::BTREE_AM_OID
                    && other.amopstrategy == operator.amopstrategy
                    && other.amoplefttype == operator.amoplefttype
                    && other.amoprighttype == operator.amoprighttype
            })
            .map(|other| other.amopfamily);
        pg_sys::ReleaseCatCacheList(uses);
        family
    }
}

/// # Safety
/// `cache` is keyed by an OID alone. Release a row that is not NULL.
unsafe fn lookup(cache: pg_sys::SysCacheIdentifier::Type, key: pg_sys::Oid) -> pg_sys::HeapTuple {
    // SAFETY: the caller's promise.
    unsafe { pg_sys::SearchSysCache1(cache as i32, pg_sys::Datum::from(key)) }
}

/// # Safety
/// `cache` is keyed by an OID first. Release the list.
unsafe fn members(
    cache: pg_sys::SysCacheIdentifier::Type,
    key: pg_sys::Oid,
) -> *mut pg_sys::CatCList {
    let unused = pg_sys::Datum::from(0_usize);
    // SAFETY: the caller's promise; keys past the first are not looked at.
    unsafe { pg_sys::SearchSysCacheList(cache as i32, 1, pg_sys::Datum::from(key), unused, unused) }
}

/// The rows of a catalog cache list, without their headers.
///
/// # Safety
/// The list is held while the rows are used.
unsafe fn rows(list: *mut pg_sys::CatCList) -> impl Iterator<Item = *mut c_char> {
    // SAFETY: the list has n_members pointers to cached rows behind its header.
    unsafe {
        let count = usize::try_from((*list).n_members).unwrap_or(0);
        let entries: &[*mut pg_sys::CatCTup] = (*list).members.as_slice(count);
        entries
            .iter()
            .map(|entry| pg_sys::GETSTRUCT(&raw mut (**entry).tuple))
    }
}

fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: the function takes any OID and returns palloc'd text.
    text_of(unsafe { pg_sys::format_type_be(type_oid) })
}

/// # Safety
/// `cstring` is NUL-terminated.
unsafe fn text(cstring: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(cstring) }
        .to_string_lossy()
        .into_owned()
}

fn text_of(palloced: *mut c_char) -> String {
    // SAFETY: PostgreSQL's format functions return a NUL-terminated string.
    unsafe { text(palloced) }
}

/// Functions of `access/amvalidate.h`, which pgrx does not bind.
mod server {
    use core::ffi::c_int;

    use pgrx::pg_sys;

    /// `OpFamilyOpFuncGroup`: the members of a family with the same types.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(super) struct Group {
        pub lefttype: pg_sys::Oid,
        pub righttype: pg_sys::Oid,
        /// Bit n: there is an operator of strategy n.
        pub operatorset: u64,
        /// Bit n: there is a support function n.
        pub functionset: u64,
    }

    unsafe extern "C-unwind" {
        fn identify_opfamily_groups(
            operators: *mut pg_sys::CatCList,
            functions: *mut pg_sys::CatCList,
        ) -> *mut pg_sys::List;
        fn check_amproc_signature(
            function: pg_sys::Oid,
            result: pg_sys::Oid,
            exact: bool,
            minargs: c_int,
            maxargs: c_int,
            ...
        ) -> bool;
        fn check_amop_signature(
            operator: pg_sys::Oid,
            result: pg_sys::Oid,
            left: pg_sys::Oid,
            right: pg_sys::Oid,
        ) -> bool;
    }

    /// Whether the function is `int4 (left, right)`.
    pub(super) fn compares(function: pg_sys::Oid, left: pg_sys::Oid, right: pg_sys::Oid) -> bool {
        // SAFETY: two argument types follow, as announced; an ERROR becomes a
        // panic at the boundary, and there is nothing to drop in between.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                check_amproc_signature(function, pg_sys::INT4OID, true, 2, 2, left, right)
            })
        }
    }

    /// Whether the operator is `bool (left, right)`.
    pub(super) fn is_comparison(
        operator: pg_sys::Oid,
        left: pg_sys::Oid,
        right: pg_sys::Oid,
    ) -> bool {
        // SAFETY: a lookup by OIDs; an ERROR becomes a panic at the boundary.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                check_amop_signature(operator, pg_sys::BOOLOID, left, right)
            })
        }
    }

    /// The members of a family, grouped by their types.
    pub(super) fn groups(
        operators: *mut pg_sys::CatCList,
        functions: *mut pg_sys::CatCList,
    ) -> Vec<Group> {
        // SAFETY: both lists are held by the caller; the result is a List of
        // pointers to palloc'd groups, copied here.
        unsafe {
            let list = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                identify_opfamily_groups(operators, functions)
            });
            if list.is_null() {
                return Vec::new();
            }
            let length = usize::try_from((*list).length).unwrap_or(0);
            core::slice::from_raw_parts((*list).elements, length)
                .iter()
                .map(|cell| *cell.ptr_value.cast::<Group>())
                .collect()
        }
    }
}
