//! Stop points: in builds for tests, `SET omen.stop_point = 'PLACE:ACTION'` makes
//! the session do something the first time that it comes to a place between two
//! records. Places are those of [`Place`] in snake case. Actions are `error`;
//! `kill`, which ends the process as a crash would; and `wait`, for the advisory
//! lock 1.

use core::cell::RefCell;
use std::ffi::CString;

use omen_core::store::Place;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, direct_function_call_as_datum, pg_sys};

static STOP_POINT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

thread_local! {
    /// The setting that has had its effect.
    static DONE: RefCell<CString> = RefCell::default();
}

/// Defines the setting.
pub fn define() {
    GucRegistry::define_string_guc(
        c"omen.stop_point",
        c"Makes the session fail, wait or crash at a place, once.",
        c"PLACE:error, PLACE:wait or PLACE:kill; for tests.",
        &STOP_POINT,
        GucContext::Userset,
        GucFlags::NO_SHOW_ALL,
    );
}

fn name(place: Place) -> &'static str {
    match place {
        Place::LeafSplit => "leaf_split",
        Place::InnerSplit => "inner_split",
        Place::LeafCleaned => "leaf_cleaned",
        Place::PageFreed => "page_freed",
        Place::ModelWritten => "model_written",
        Place::ModelPublished => "model_published",
    }
}

/// Does what the setting asks for at `place`. Nothing is locked.
pub fn reached(place: Place) {
    super::held::must_be_none("a stop point is reached with a lock");
    let setting = STOP_POINT.get().unwrap_or_default();
    if setting.is_empty() || DONE.with_borrow(|done| *done == setting) {
        return;
    }
    let text = setting.to_string_lossy().into_owned();
    let Some((wanted, action)) = text.split_once(':') else {
        return;
    };
    if wanted != name(place) {
        return;
    }
    DONE.replace(setting);
    match action {
        "wait" => {
            let key = pg_sys::Datum::from(1_i64);
            // SAFETY: both functions take one bigint.
            unsafe {
                direct_function_call_as_datum(pg_sys::pg_advisory_lock_int8, &[Some(key)]);
                direct_function_call_as_datum(pg_sys::pg_advisory_unlock_int8, &[Some(key)]);
            }
        }
        "kill" => std::process::abort(),
        _ => error!("stopped at {wanted}"),
    }
}
