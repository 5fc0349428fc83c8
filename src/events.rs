//! What is written to the log: each kind of event with its MESSAGE_ID and fields. packaging/sshd-mend.catalog explains
//! each. Where it is written is [`crate::journal`]'s.

use crate::carry_out::Done;
use crate::diagnosis::{Diagnosis, Severity};
use crate::observe::RUNTIME_DIRECTORY;
use crate::plan::{Action, Plan};
use crate::printable::printable;
use crate::rescue;
use crate::snapshot::Snapshot;
use crate::target::Target;

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
        let exe = process.map(|p| printable(&p.exe.to_string_lossy())).unwrap_or_default();
        let addresses = process.map(|p| p.listening.iter().map(ToString::to_string).collect::<Vec<_>>());
        let addresses = addresses.unwrap_or_default().join(" ");
        let unit = process.and_then(|p| p.unit.clone()).unwrap_or_default();
        let pid = finding.pid.unwrap_or(0);
        log::warn!(MESSAGE_ID = FOUND, OBJECT_PID = pid, EXECUTABLE = exe.as_str(), UNIT_NAME = unit.as_str(),
            ADDRESS = addresses.as_str(), REASON = finding.code.as_str(); "Found: {}", finding.message);
    }
    if let Some(refusal) = &plan.refusal {
        let state = match diagnosis.severity() {
            _ if plan.begins_with_first_aid() => "First aid is given all the same",
            Some(Severity::Critical) => "New connections do not get through",
            _ => "SSH still works",
        };
        log::error!(MESSAGE_ID = REFUSED, REASON = refusal.code.as_str();
            "Refused: {}. {state}. {}", refusal.message, refusal.advice);
    }
}

/// First aid was given.
pub fn first_aid(done: &Done) {
    let (result, took) = (done.result.as_str(), done.duration_ms);
    log::warn!(MESSAGE_ID = FIRST_AID, REASON = result, DURATION_MS = took;
        "First aid: {RUNTIME_DIRECTORY} was missing: {result}");
}

/// A step was taken.
pub fn step(done: &Done, old: &[Target<'_>]) {
    let (result, took) = (done.result.as_str(), done.duration_ms);
    let id = |success| if done.ok { success } else { FAILED };
    let level = if done.ok { log::Level::Warn } else { log::Level::Error };
    match &done.action {
        Action::Terminate { pid, .. } => {
            let exe = old.iter().find(|target| target.pid() == *pid).map(Target::exe).unwrap_or_default();
            log::log!(level, MESSAGE_ID = id(ENDED), OBJECT_PID = pid, EXECUTABLE = exe.as_str(), REASON = result,
                DURATION_MS = took; "Listener {pid} ({exe}): {result}");
        }
        Action::StopUnit { unit }
        | Action::StartUnit { unit }
        | Action::RestartUnit { unit }
        | Action::StopRescue { unit } => {
            log::log!(level, MESSAGE_ID = id(RESTARTED), UNIT_NAME = unit.as_str(), OBJECT_SYSTEMD_UNIT = unit.as_str(),
                REASON = result, DURATION_MS = took; "{unit}: {result} ({took} ms)");
        }
        // A rescue is a failure to look at, also when it serves.
        Action::StartRescue { .. } => {
            log::error!(MESSAGE_ID = FAILED, UNIT_NAME = rescue::SOCKET, REASON = result, DURATION_MS = took;
                "ssh.service could not be started. {}: {result}", rescue::SOCKET);
        }
        Action::Probe { address } => {
            log::log!(level, MESSAGE_ID = id(VERIFIED), ADDRESS = address.to_string().as_str(), REASON = result,
                DURATION_MS = took; "{address}: {result}");
        }
        Action::ResetFailed { unit } if !done.ok => {
            log::error!(MESSAGE_ID = FAILED, UNIT_NAME = unit.as_str(), REASON = result, DURATION_MS = took; "{unit}: {result}");
        }
        Action::ResetFailed { .. } | Action::CreateRuntimeDirectory { .. } => {}
    }
}

/// What came of a repair is not known.
pub fn lost(why: &str) {
    log::error!(MESSAGE_ID = FAILED, REASON = why; "{why}");
}
