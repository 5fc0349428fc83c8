//! systemd through `/usr/bin/systemctl`, which reaches it over /run/systemd/private: without dbus-daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Error, Failure, Job};
use crate::deadline::Deadline;
use crate::program::{self, Finished};
use crate::snapshot::{ExecStart, Unit};

const PROGRAM: &str = "/usr/bin/systemctl";
/// For one answer.
const ANSWER: Duration = Duration::from_secs(10);
const PROPERTIES: &str = "LoadState,ActiveState,SubState,Result,UnitFileState,MainPID,Job,CanStart,KillMode,ExecStart,\
                          EnvironmentFiles,Environment,Listen,BindIPv6Only,Accept";

pub(super) struct Systemctl;

impl Systemctl {
    pub(super) fn unit(&self, name: &str, deadline: Deadline) -> Result<Unit, Failure> {
        let shown = systemctl(&["show", "--property", PROPERTIES, "--", name], deadline)?;
        if !shown.succeeded() {
            return Err(Failure::NoAnswer(shown.last_words()));
        }
        Ok(parse(name, &shown.output))
    }

    pub(super) fn is_stopping(&self, deadline: Deadline) -> Result<bool, Failure> {
        // Its exit status is 1 for every state but `running`.
        let answer = systemctl(&["is-system-running"], deadline)?;
        match answer.output.trim() {
            "stopping" => Ok(true),
            "running" | "degraded" | "starting" | "initializing" | "maintenance" => Ok(false),
            _ => Err(Failure::NoAnswer(answer.last_words())),
        }
    }

    pub(super) fn reset_failed(&self, unit: &str, deadline: Deadline) -> Result<(), Failure> {
        // It fails for a unit that is not loaded, which is neither failed nor counted.
        systemctl(&["reset-failed", "--", unit], deadline).map(|_| ())
    }

    pub(super) fn enqueue(&self, job: Job, unit: &str, deadline: Deadline) -> Result<(), Failure> {
        request(unit, &["--no-block", "--no-ask-password", "--job-mode=fail", job.verb(), "--", unit], deadline)
    }

    pub(super) fn abort(&self, unit: &str, deadline: Deadline) -> Result<(), Failure> {
        request(unit, &["--no-block", "--no-ask-password", "--job-mode=replace", "stop", "--", unit], deadline)
    }

    pub(super) fn reload(&self, deadline: Deadline) -> Result<(), Failure> {
        request("a reload", &["--no-ask-password", "daemon-reload"], deadline)
    }
}

fn request(unit: &str, arguments: &[&str], deadline: Deadline) -> Result<(), Failure> {
    let asked = systemctl(arguments, deadline)?;
    if asked.succeeded() {
        return Ok(());
    }
    Err(Failure::Final(Error::Refused {
        unit: unit.to_owned(),
        name: format!("systemctl: exit status {}", asked.status.unwrap_or(-1)),
        text: asked.last_words(),
    }))
}

fn systemctl(arguments: &[&str], deadline: Deadline) -> Result<Finished, Failure> {
    program::run(Path::new(PROGRAM), arguments, deadline.at_most(ANSWER))
        .map_err(|error| Failure::NoAnswer(format!("{PROGRAM}: {error}")))
}

/// Reads what `systemctl show` prints: a property a line, some of them several times.
#[must_use]
pub fn parse(name: &str, shown: &str) -> Unit {
    let values = |key: &'static str| {
        shown.lines().filter_map(move |line| line.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v))
    };
    let text = |key: &'static str| values(key).next().unwrap_or_default().to_owned();
    Unit {
        name: name.to_owned(),
        load: text("LoadState"),
        active: text("ActiveState"),
        sub: text("SubState"),
        result: text("Result"),
        enabled: text("UnitFileState"),
        main_pid: text("MainPID").parse().ok().filter(|pid| *pid > 0),
        job: !matches!(text("Job").as_str(), "" | "0"),
        can_start: text("CanStart") == "yes",
        kill_mode: text("KillMode"),
        exec_start: values("ExecStart").next().and_then(command),
        environment_files: values("EnvironmentFiles")
            .map(|value| PathBuf::from(value.split(" (").next().unwrap_or(value)))
            .collect(),
        environment: text("Environment").split_whitespace().map(str::to_owned).collect(),
        listen: values("Listen").filter_map(|value| value.strip_suffix(" (Stream)")).map(str::to_owned).collect(),
        bind_ipv6_only: text("BindIPv6Only"),
        accept: text("Accept") == "yes",
    }
}

/// `{ path=/usr/sbin/sshd ; argv[]=/usr/sbin/sshd -D $SSHD_OPTS ; ignore_errors=no ; … }`
fn command(value: &str) -> Option<ExecStart> {
    let field = |key: &str| value.split(" ; ").find_map(|part| part.trim_start_matches("{ ").strip_prefix(key));
    Some(ExecStart {
        path: PathBuf::from(field("path=")?),
        arguments: field("argv[]=")?.split_whitespace().skip(1).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_as_systemctl_shows_it() {
        let unit = parse(
            "ssh.service",
            "MainPID=60\nResult=success\nExecStart={ path=/usr/sbin/sshd ; argv[]=/usr/sbin/sshd -D $SSHD_OPTS ; ignore_errors=no ; pid=60 }\n\
             EnvironmentFiles=/etc/default/ssh (ignore_errors=yes)\nKillMode=process\nLoadState=loaded\nActiveState=active\n\
             SubState=running\nUnitFileState=enabled\nCanStart=yes\nJob=\n",
        );
        assert_eq!((unit.active.as_str(), unit.main_pid, unit.job, unit.can_start), ("active", Some(60), false, true));
        assert_eq!(unit.environment_files, [PathBuf::from("/etc/default/ssh")]);
        assert_eq!(unit.exec_start.map(|exec| exec.arguments), Some(vec!["-D".to_owned(), "$SSHD_OPTS".to_owned()]));
    }

    #[test]
    fn a_socket_keeps_its_stream_addresses_only() {
        let unit = parse(
            "ssh.socket",
            "Listen=0.0.0.0:22 (Stream)\nListen=[::]:22 (Stream)\nListen=/run/x (FIFO)\nAccept=no\nJob=14\n",
        );
        assert_eq!(unit.listen, ["0.0.0.0:22", "[::]:22"]);
        assert!(unit.job && !unit.accept && unit.main_pid.is_none());
    }
}
