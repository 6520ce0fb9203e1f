//! Storage parameters of an index, and settings of the session.

use core::ffi::{c_char, c_int};
use core::mem::offset_of;
use std::sync::OnceLock;

use omen_core::model::Choice;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

const DEFAULT_FILLFACTOR: c_int = 90;

/// Memory that a session's map of one index may take, in kB.
static ROUTER_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(4096);

/// Memory that the session's map of one index may take, in kB; 0 is off.
#[inline]
pub(crate) fn router_memory() -> i32 {
    ROUTER_MEMORY.get()
}

/// Memory for the entries that a statement inserts together, in kB.
static INSERT_BUFFER: GucSetting<i32> = GucSetting::<i32>::new(4096);

/// Memory for the entries that a statement inserts together, in bytes; 0 is off.
#[inline]
pub(crate) fn insert_buffer() -> usize {
    usize::try_from(INSERT_BUFFER.get()).unwrap_or(0) * 1024
}

/// What `WITH (...)` sets, as PostgreSQL lays it out in `rd_options`.
#[repr(C)]
struct OmenOptions {
    header: i32,
    fillfactor: c_int,
    model: c_int,
}

/// Storage parameters of an index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Percent of a leaf that a build fills.
    pub fillfactor: u32,
    /// The model to train.
    pub model: Choice,
}

impl Options {
    /// The parameters of an open index.
    ///
    /// # Safety
    /// `index` is an open omen index.
    pub unsafe fn of(index: pg_sys::Relation) -> Self {
        // SAFETY: the caller's promise; `rd_options` is NULL or what amoptions
        // has returned.
        let options = unsafe { (*index).rd_options.cast::<OmenOptions>().as_ref() };
        let (fillfactor, model) = options.map_or((DEFAULT_FILLFACTOR, 0), |options| {
            (options.fillfactor, options.model)
        });
        Self {
            fillfactor: fillfactor.clamp(10, 100).cast_unsigned(),
            model: MODELS
                .0
                .iter()
                .find(|each| each.1 == model)
                .map_or(Choice::Auto, |each| each.2),
        }
    }
}

/// Names and codes of the models.
struct Models([(&'static core::ffi::CStr, c_int, Choice); 4]);

static MODELS: Models = Models([
    (c"auto", 0, Choice::Auto),
    (c"linear", 1, Choice::Linear),
    (c"rmi", 2, Choice::Rmi),
    (c"pla", 3, Choice::Pla),
]);

/// The enumeration as PostgreSQL wants it: it keeps the pointer, and reads up
/// to the element without a name.
struct Members([pg_sys::relopt_enum_elt_def; 5]);
// SAFETY: the strings are static, and nothing is ever written.
unsafe impl Sync for Members {}
// SAFETY: as for Sync.
unsafe impl Send for Members {}

static MEMBERS: OnceLock<Members> = OnceLock::new();
static KIND: OnceLock<pg_sys::relopt_kind::Type> = OnceLock::new();

/// Defines the parameters and settings: called once, when the library loads.
pub(crate) fn define() {
    let members = MEMBERS.get_or_init(|| {
        Members(core::array::from_fn(|i| {
            let (name, code) = MODELS
                .0
                .get(i)
                .map_or((core::ptr::null::<c_char>(), 0), |m| (m.0.as_ptr(), m.1));
            pg_sys::relopt_enum_elt_def {
                string_val: name,
                symbol_val: code,
            }
        }))
    });
    KIND.get_or_init(|| {
        // SAFETY: all strings and the members are static. PostgreSQL reads the
        // members only.
        unsafe {
            let kind = pg_sys::add_reloption_kind();
            pg_sys::add_int_reloption(
                kind,
                c"fillfactor".as_ptr(),
                c"Packs omen index leaf pages only to this percentage".as_ptr(),
                DEFAULT_FILLFACTOR,
                10,
                100,
                pg_sys::ShareUpdateExclusiveLock.cast_signed(),
            );
            pg_sys::add_enum_reloption(
                kind,
                c"model".as_ptr(),
                c"Model that predicts the leaf page of a key".as_ptr(),
                members.0.as_ptr().cast_mut(),
                0,
                c"Valid values are \"auto\", \"linear\", \"rmi\", and \"pla\".".as_ptr(),
                pg_sys::ShareUpdateExclusiveLock.cast_signed(),
            );
            kind
        }
    });
    GucRegistry::define_int_guc(
        c"omen.router_memory",
        c"Sets the memory that a session may use to remember the leaf pages of one omen index.",
        c"0 makes every search descend from the root.",
        &ROUTER_MEMORY,
        0,
        i32::MAX / 1024,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"omen.insert_buffer",
        c"Sets the memory for entries that a statement inserts into omen indexes together.",
        c"0 inserts each by itself.",
        &INSERT_BUFFER,
        0,
        i32::MAX / 1024,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    #[cfg(feature = "stop_points")]
    crate::storage::stop::define();
    // A misspelt setting is an error from now on.
    // SAFETY: the name is static.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"omen".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"omen".as_ptr());
    }
}

/// `amoptions`.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn amoptions(
    reloptions: pg_sys::Datum,
    validate: bool,
) -> *mut pg_sys::bytea {
    let kind = KIND.get().copied().unwrap_or_default();
    let entry = |name: &'static core::ffi::CStr, kind, offset: usize| {
        #[allow(clippy::needless_update)] // 18 has another field
        pg_sys::relopt_parse_elt {
            optname: name.as_ptr(),
            opttype: kind,
            offset: c_int::try_from(offset).unwrap_or(0),
            ..Default::default()
        }
    };
    let table = [
        entry(
            c"fillfactor",
            pg_sys::relopt_type::RELOPT_TYPE_INT,
            offset_of!(OmenOptions, fillfactor),
        ),
        entry(
            c"model",
            pg_sys::relopt_type::RELOPT_TYPE_ENUM,
            offset_of!(OmenOptions, model),
        ),
    ];
    // SAFETY: the table describes OmenOptions, whose size is given.
    unsafe {
        pg_sys::build_reloptions(
            reloptions,
            validate,
            kind,
            size_of::<OmenOptions>(),
            table.as_ptr(),
            2,
        )
        .cast()
    }
}
