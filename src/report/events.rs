//! What is written to the log: each kind of event with its MESSAGE_ID and fields. packaging/sshd-mend.catalog explains
//! each. [`crate::host::log`] writes them.

use crate::model::address::list;
use crate::model::diagnosis::{Diagnosis, Severity};
use crate::model::execution::StepOutcome;
use crate::model::names::RUNTIME_DIRECTORY;
use crate::model::plan::{Plan, Step};
use crate::model::printable::printable;
use crate::model::process::Process;
use crate::model::snapshot::Snapshot;

/// A fault was found.
pub const FOUND: &str = "0d5ba4a39b4e4b6ca0b3d3d1b0b2e6f1";
/// The agent declined to act.
pub const REFUSED: &str = "5b0f8f5a2c7d4d6fb5c9a1f3e4d7c802";
/// `/run/sshd` was created.
pub const FIRST_AID: &str = "a7d1c6e0f2b84f0d9a63b2c4d5e6f713";
/// A listener was ended.
pub const ENDED: &str = "c41e9b7d8a5f4e22b1d0f6a7c8394e24";
/// A unit was started or restarted.
pub const RESTARTED: &str = "3f8a2d6b1c9e47508e7f4a5b6c7d8935";
/// A new connection got through.
pub const VERIFIED: &str = "e92c5f0a7b3d4c81a6b8d9e0f1a2b346";
/// A repair did not reach its end.
pub const FAILED: &str = "7c6b5a4938271f60e5d4c3b2a1908f57";

/// What was found, and why nothing is done about it if nothing is.
pub fn found(snapshot: &Snapshot, diagnosis: &Diagnosis, plan: &Plan) {
    for finding in diagnosis.findings.iter().filter(|finding| finding.severity > Severity::Info) {
        let process = snapshot.processes.iter().find(|process| Some(process.pid) == finding.pid);
        let exe = process.map(exe).unwrap_or_default();
        let addresses = process.map(|process| list(&process.addresses())).unwrap_or_default();
        let unit = process.and_then(|p| p.unit.clone()).or_else(|| finding.instance.clone()).unwrap_or_default();
        let pid = finding.pid.unwrap_or(0);
        log::warn!(MESSAGE_ID = FOUND, OBJECT_PID = pid, EXECUTABLE = exe.as_str(), UNIT_NAME = unit.as_str(),
            ADDRESS = addresses.as_str(), REASON = finding.code.as_str(); "Found: {}", finding.message);
    }
    for (instance, refusal) in plan.refusals() {
        let state = match diagnosis.severity() {
            _ if plan.first_aid.is_some() => "First aid is given all the same",
            Some(Severity::Critical) => "New connections do not get through",
            _ => "SSH still works",
        };
        log::error!(MESSAGE_ID = REFUSED, REASON = refusal.code.as_str(), UNIT_NAME = instance;
            "Refused: {}. {state}. {}", refusal.message, refusal.advice);
    }
}

fn exe(process: &Process) -> String {
    printable(&process.exe.to_string_lossy())
}

/// A step was taken. `listener`: the one that it terminated.
pub fn step(outcome: &StepOutcome, listener: Option<&Process>) {
    let took = u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX);
    let result = match &outcome.result {
        Ok(success) => success.to_string(),
        Err(failure) => failure.to_string(),
    };
    let result = result.as_str();
    let ok = outcome.result.is_ok();
    let id = |success| if ok { success } else { FAILED };
    let level = if ok { log::Level::Warn } else { log::Level::Error };
    match &outcome.step {
        Step::CreateRuntimeDirectory { .. } => {
            log::log!(level, MESSAGE_ID = id(FIRST_AID), REASON = result, DURATION_MS = took;
                "First aid: {RUNTIME_DIRECTORY} was missing: {result}");
        }
        Step::Terminate { pid, .. } => {
            let exe = listener.map(exe).unwrap_or_default();
            log::log!(level, MESSAGE_ID = id(ENDED), OBJECT_PID = pid, EXECUTABLE = exe.as_str(), REASON = result,
                DURATION_MS = took; "Listener {pid} ({exe}): {result}");
        }
        Step::StopUnit { unit } | Step::StartUnit { unit } | Step::RestartUnit { unit } | Step::StopRescue { unit } => {
            log::log!(level, MESSAGE_ID = id(RESTARTED), UNIT_NAME = unit.as_str(), OBJECT_SYSTEMD_UNIT = unit.as_str(),
                REASON = result, DURATION_MS = took; "{unit}: {result} ({took} ms)");
        }
        // A rescue is a failure to investigate, also when it serves.
        Step::StartRescue { unit, .. } => {
            log::error!(MESSAGE_ID = FAILED, UNIT_NAME = unit.as_str(), REASON = result, DURATION_MS = took;
                "The units could not be started. {unit}: {result}");
        }
        Step::Probe { address } => {
            log::log!(level, MESSAGE_ID = id(VERIFIED), ADDRESS = address.to_string().as_str(), REASON = result,
                DURATION_MS = took; "{address}: {result}");
        }
        Step::ResetFailed { unit } if !ok => {
            log::error!(MESSAGE_ID = FAILED, UNIT_NAME = unit.as_str(), REASON = result, DURATION_MS = took; "{unit}: {result}");
        }
        Step::ResetFailed { .. } => {}
    }
}

/// What came of a repair is not known.
pub fn unknown_result(why: &str) {
    log::error!(MESSAGE_ID = FAILED, REASON = why; "{why}");
}
