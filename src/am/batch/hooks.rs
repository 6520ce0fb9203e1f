//! Where statements begin and end.
//!
//! The hooks call PostgreSQL without pgrx's guard against `longjmp`, which would
//! raise every ERROR of a statement anew, without its context and the names of what
//! it is about. So an ERROR passes through their frames, which own nothing; what
//! they have changed is put right when the transaction or subtransaction aborts.

use core::ffi::{c_char, c_void};
use core::sync::atomic::Ordering;

use omen_core::planted;
use pgrx::pg_sys::{self, SubTransactionId};
use pgrx::prelude::*;

use super::adopt;
use super::bulk::{copies, inserts_in_bulk, may_wait};
use super::{
    ANY, ARMED, ARMED_BY, FIRST_COMMAND, for_each, forget_all, is_awaited_by_query, settle_all,
};

/// Bound without pgrx's guard.
mod direct {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: i32);
        #[cfg(not(feature = "pg18"))]
        pub fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            once: bool,
        );
        #[cfg(feature = "pg18")]
        pub fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
        );
        pub fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
        pub fn standard_ProcessUtility(
            statement: *mut pg_sys::PlannedStmt,
            text: *const core::ffi::c_char,
            keep_tree: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            params: pg_sys::ParamListInfo,
            environment: *mut pg_sys::QueryEnvironment,
            dest: *mut pg_sys::DestReceiver,
            completion: *mut pg_sys::QueryCompletion,
        );
    }
}

static mut NEXT_START: pg_sys::ExecutorStart_hook_type = None;
static mut NEXT_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut NEXT_FINISH: pg_sys::ExecutorFinish_hook_type = None;
static mut NEXT_UTILITY: pg_sys::ProcessUtility_hook_type = None;

/// Puts the hooks in place: called once, when the library loads.
pub(crate) fn install() {
    adopt::is_loaded();
    // SAFETY: nothing else runs while a library loads, and it is never unloaded.
    unsafe {
        NEXT_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        NEXT_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(executor_run);
        NEXT_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
        NEXT_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
        pg_sys::RegisterXactCallback(Some(on_transaction), core::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), core::ptr::null_mut());
    }
}

/// What was set when a statement began. An ERROR passes it by: `ARMED` is put right
/// then by the abort, and `FIRST_COMMAND` is too low until the transaction ends.
struct Before {
    armed: bool,
    first_command: pg_sys::CommandId,
}

impl Before {
    /// A statement begins, whose entries may wait or not, with rows of `command`.
    fn of(armed: bool, command: impl FnOnce() -> pg_sys::CommandId) -> Self {
        adopt::is_seen();
        let first_command = FIRST_COMMAND.load(Ordering::Relaxed);
        if armed {
            FIRST_COMMAND.store(first_command.min(command()), Ordering::Relaxed);
        }
        Self {
            armed: ARMED.replace(armed),
            first_command,
        }
    }

    /// The statement ends.
    ///
    /// # Safety
    /// ERRORs can be raised.
    unsafe fn restore(self) {
        ARMED.set(self.armed);
        if ANY.get() {
            // SAFETY: the caller's promise.
            unsafe { settle_guarded() };
        }
        FIRST_COMMAND.store(self.first_command, Ordering::Relaxed);
    }
}

/// The statement that begins a subtransaction lets entries wait.
fn note_armed(own: SubTransactionId) {
    ARMED_BY.with_borrow_mut(|all| {
        // Without memory for it, fewer wait later.
        if all.try_reserve(1).is_ok() {
            all.push(own);
        }
    });
}

/// Whether the statement that began a subtransaction, which ends, let entries wait.
fn was_armed(own: SubTransactionId) -> bool {
    ARMED_BY.with_borrow_mut(|all| {
        let armed = all.contains(&own);
        all.retain(|begun| *begun < own);
        armed
    })
}

unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: the hook's contract.
    unsafe {
        if is_awaited_by_query((*query).snapshot) {
            settle_guarded();
        }
        match NEXT_START {
            Some(next) => next(query, flags),
            None => direct::standard_ExecutorStart(query, flags),
        }
    }
}

/// Also a query that scans nothing of this session's may look for entries, in
/// workers.
#[pg_guard]
unsafe extern "C-unwind" fn settle_guarded() {
    // SAFETY: a statement begins: ERRORs can be raised.
    unsafe { settle_all() };
}

#[pg_guard]
unsafe extern "C-unwind" fn end_guarded() {
    // SAFETY: a statement ends: ERRORs can be raised.
    unsafe { adopt::end() };
}

/// The parameters of `ExecutorRun`.
struct Run {
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    /// Until 17.
    #[cfg(not(feature = "pg18"))]
    once: bool,
}

impl Run {
    /// Calls the next hook.
    ///
    /// # Safety
    /// The hook's contract. An ERROR passes through the caller's frame.
    unsafe fn go(&self) {
        let next = || {
            // SAFETY: nobody changes it after the library was loaded.
            unsafe { NEXT_RUN }.unwrap_or(direct::standard_ExecutorRun)
        };
        // SAFETY: the caller's promise.
        #[cfg(not(feature = "pg18"))]
        unsafe {
            next()(self.query, self.direction, self.count, self.once);
        }
        // SAFETY: the caller's promise.
        #[cfg(feature = "pg18")]
        unsafe {
            next()(self.query, self.direction, self.count);
        }
    }
}

#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    let run = Run {
        query,
        direction,
        count,
        once,
    };
    // SAFETY: the hook's contract.
    unsafe { run_query(&raw const run) };
}

#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    let run = Run {
        query,
        direction,
        count,
    };
    // SAFETY: the hook's contract.
    unsafe { run_query(&raw const run) };
}

/// # Safety
/// The hook's contract.
unsafe fn run_query(run: *const Run) {
    // SAFETY: the caller's promise. At its end ERRORs can be raised.
    unsafe {
        let query = (*run).query;
        let armed = (*query).operation == pg_sys::CmdType::CMD_INSERT
            && may_wait()
            && inserts_in_bulk((*query).plannedstmt);
        let before = Before::of(armed, || (*(*query).estate).es_output_cid);
        (*run).go();
        before.restore();
    }
}

/// What is left of a query: modifying CTEs that it does not read, which may insert
/// speculatively, and AFTER triggers. No entries of theirs wait, whatever statement
/// the query is a part of.
unsafe extern "C-unwind" fn executor_finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the hook's contract. At its end ERRORs can be raised.
    unsafe {
        if adopt::runs(query) {
            end_guarded();
        }
        let armed = ARMED.get() && planted::is("finish_waits");
        let before = Before::of(armed, || pg_sys::GetCurrentCommandId(false));
        let next = NEXT_FINISH.unwrap_or(direct::standard_ExecutorFinish);
        next(query);
        before.restore();
    }
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    keep_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the hook's contract. Before and after it ERRORs can be raised.
    unsafe {
        if ANY.get() {
            settle_guarded();
        }
        // The rows are of the command that goes on, or a later one.
        let armed = copies(statement) && may_wait();
        let before = Before::of(armed, || pg_sys::GetCurrentCommandId(false));
        let next = NEXT_UTILITY.unwrap_or(direct::standard_ProcessUtility);
        next(
            statement,
            text,
            keep_tree,
            context,
            params,
            environment,
            dest,
            completion,
        );
        before.restore();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent as E;
    match event {
        E::XACT_EVENT_PRE_COMMIT
        | E::XACT_EVENT_PRE_PREPARE
        | E::XACT_EVENT_PARALLEL_PRE_COMMIT => {
            // SAFETY: the transaction can still fail.
            unsafe { settle_all() };
        }
        _ => forget_all(),
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    own: SubTransactionId,
    parent: SubTransactionId,
    _arg: *mut c_void,
) {
    use pg_sys::SubXactEvent as E;
    match event {
        E::SUBXACT_EVENT_START_SUB if ARMED.get() => note_armed(own),
        E::SUBXACT_EVENT_COMMIT_SUB => {
            was_armed(own);
            if ANY.get() {
                for_each(|waiting| waiting.retag(own, parent));
            }
        }
        E::SUBXACT_EVENT_ABORT_SUB => {
            // An ERROR has left the statements that were begun in it.
            ARMED.set(was_armed(own));
            if ANY.get() {
                for_each(|waiting| waiting.discard(own));
            }
        }
        _ => {}
    }
}
