//! `NOTIFY=`: tells an administrator's program what came of a run, as JSON on its standard input.
//!
//! systemd starts it in a unit of its own, `sshd-mend-notify.service`, once everything is done: it can neither delay a repair
//! nor change what came of it. It refuses a program that somebody else than root could have written or put there.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::run::Run;
use crate::act::record::{Record, Remembered};
use crate::host::command;
use crate::host::deadline::Deadline;
use crate::model::diagnosis::FindingCode;
use crate::model::names::NOTIFY_UNIT;
use crate::model::plan::Job;
use crate::model::refusal::RefusalCode;
use crate::report::{Outcome, Verdict};

/// The same is not told again for this long.
const REPEAT_INTERVAL_SECS: i64 = 3600;
/// For one run of the program.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the program was told last, or is about to be.
#[derive(Debug, Serialize, Deserialize)]
struct Notification {
    /// CLOCK_BOOTTIME in seconds.
    at: i64,
    outcome: Outcome,
}

impl Run<'_> {
    /// Has the program told, if something was done or refused, or a rescue serves.
    pub(super) fn notify(&self, outcome: &Outcome) {
        if self.settings.notify.is_none() || !is_worth_telling(outcome) {
            return;
        }
        let Ok(record) = Record::open() else { return };
        let at = clock_gettime(ClockId::Boottime).tv_sec;
        let last = record.remembered::<Notification>(Remembered::Notification);
        if last
            .is_some_and(|last| (0..REPEAT_INTERVAL_SECS).contains(&(at - last.at)) && is_same(&last.outcome, outcome))
        {
            return;
        }
        let told = record.remember(Remembered::Notification, &Notification { at, outcome: outcome.clone() });
        let started = told.is_ok().then(|| self.manager.enqueue(Job::Start, NOTIFY_UNIT));
        log::debug!("{NOTIFY_UNIT}: {told:?}, {started:?}");
    }
}

fn is_worth_telling(outcome: &Outcome) -> bool {
    // Whoever suspended it knows, and nobody has to do anything about a boot that is near.
    let expected = [RefusalCode::Suspended, RefusalCode::ShuttingDown];
    let is_expected = outcome.refusal.as_ref().is_some_and(|refusal| expected.contains(&refusal.code));
    !is_expected && (!outcome.done.is_empty() || [Verdict::Refused, Verdict::Rescued].contains(&outcome.verdict))
}

/// The same was found, and the same came of it.
fn is_same(one: &Outcome, other: &Outcome) -> bool {
    let found = |outcome: &Outcome| -> BTreeSet<(FindingCode, Option<String>)> {
        outcome.findings.iter().map(|finding| (finding.code, finding.instance.clone())).collect()
    };
    let refused = |outcome: &Outcome| outcome.refusal.as_ref().map(|refusal| refusal.code);
    one.verdict == other.verdict && refused(one) == refused(other) && found(one) == found(other)
}

/// What the unit does: runs the program with what is on record, and again if there is something else by then.
///
/// # Errors
/// The program cannot be trusted or started, or it did not end in time or failed; in one sentence, about the last outcome.
pub fn run(program: &Path) -> Result<(), String> {
    let on_record = || -> Option<Notification> { Record::open_existing().ok()?.remembered(Remembered::Notification) };
    let (mut next, mut told) = (on_record(), Ok(()));
    while let Some(notification) = next {
        told = tell(program, &notification.outcome);
        next = on_record().filter(|later| later.outcome != notification.outcome);
    }
    told
}

fn tell(program: &Path, outcome: &Outcome) -> Result<(), String> {
    usable(program)?;
    let told = || -> io::Result<Option<i32>> {
        let mut json = command::memory_file()?;
        json.write_all(&serde_json::to_vec_pretty(outcome)?)?;
        json.write_all(b"\n")?;
        io::Seek::rewind(&mut json)?;
        let child = command::command(program, &[]).stdin(json).spawn()?;
        command::wait(child, Deadline::after(TIMEOUT))
    };
    match told() {
        Ok(Some(0)) => Ok(()),
        Ok(Some(status)) => Err(format!("NOTIFY={} ended with status {status}", program.display())),
        Ok(None) => Err(format!("NOTIFY={} was ended by a signal", program.display())),
        Err(error) => Err(format!("NOTIFY={}: {error}", program.display())),
    }
}

/// Only root could have written the program, or put it there.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn usable(program: &Path) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("NOTIFY={} is not used: {what}", program.display()));
    let Ok(real) = program.canonicalize() else { return wrong("there is no such program") };
    let is_roots = |path: &Path| path.metadata().is_ok_and(|facts| facts.uid() == 0 && facts.mode() & 0o022 == 0);
    if !real.metadata().is_ok_and(|facts| facts.is_file() && facts.mode() & 0o111 != 0) {
        return wrong("it is no program (chmod 755)");
    }
    // Whoever owns a link on the way could have root run something else.
    if real != program {
        return wrong(&format!("it is reached through a link: write NOTIFY={}", real.display()));
    }
    match real.ancestors().find(|path| !is_roots(path)) {
        Some(path) => wrong(&format!(
            "somebody else than root can write {0} (chown root:root {0}; chmod go-w {0})",
            path.display()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::refusal::Refusal;

    fn refused(code: RefusalCode) -> Outcome {
        let refusal: Refusal = code.because("");
        Outcome { verdict: Verdict::Refused, refusal: Some(refusal), ..Outcome::unknown("hook", "") }
    }

    #[test]
    fn what_is_worth_telling() {
        assert!(!is_worth_telling(&Outcome::unknown("hook", "")));
        assert!(is_worth_telling(&refused(RefusalCode::ConfigInvalid)));
        assert!(!is_worth_telling(&refused(RefusalCode::ShuttingDown)));
        assert!(!is_worth_telling(&refused(RefusalCode::Suspended)));
        assert!(is_worth_telling(&Outcome { verdict: Verdict::Rescued, ..Outcome::unknown("hook", "") }));
        assert!(is_same(&refused(RefusalCode::ConfigInvalid), &refused(RefusalCode::ConfigInvalid)));
        assert!(!is_same(&refused(RefusalCode::ConfigInvalid), &refused(RefusalCode::UnitMasked)));
    }

    #[test]
    fn a_program_that_somebody_else_could_change_is_not_used() {
        assert_eq!(usable(Path::new("/usr/bin/true")), Ok(()));
        assert!(usable(Path::new("/etc/passwd")).is_err_and(|why| why.contains("no program")));
        // /tmp is everybody's.
        let directory = tempfile::tempdir().expect("a directory");
        assert!(usable(&directory.path().join("none")).is_err_and(|why| why.contains("no such program")));
        let (link, copy) = (directory.path().join("link"), directory.path().join("copy"));
        std::os::unix::fs::symlink("/usr/bin/true", &link).expect("a link");
        assert!(usable(&link).is_err_and(|why| why.ends_with("through a link: write NOTIFY=/usr/bin/true")));
        std::fs::copy("/usr/bin/true", &copy).expect("a copy");
        assert!(usable(&copy).is_err_and(|why| why.contains("somebody else than root can write /tmp")));
    }
}
