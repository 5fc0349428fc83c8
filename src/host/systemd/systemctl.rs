//! systemd through `/usr/bin/systemctl`, which reaches it over /run/systemd/private: without dbus-daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::command::{self, Finished};
use super::super::deadline::{Deadline, elapsed_since};
use super::error::{Error, Failure, verb};
use crate::model;
use crate::model::plan::Job;
use crate::model::unit::{ActiveState, Enablement, ExecStart, KillMode, Listen, LoadState, Unit};

const PROGRAM: &str = "/usr/bin/systemctl";
/// Limits one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,Result,UnitFileState,MainPID,NRestarts,Job,CanStart,NeedDaemonReload,\
                          KillMode,ControlGroup,ExecStart,EnvironmentFiles,Environment,PrivateNetwork,\
                          NetworkNamespacePath,FragmentPath,DropInPaths,TriggeredBy,Listen,BindIPv6Only,Accept,FreeBind,\
                          BindToDevice,ControlPID,ConsistsOf,RequiredBy,BoundBy,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic,\
                          RuntimeDirectory,RuntimeDirectoryPreserve";

pub(super) struct Systemctl;

impl Systemctl {
    pub(super) fn unit(&self, name: &str) -> Result<Unit, Failure> {
        let shown = systemctl(&["show", "--property", PROPERTIES, "--", name])?;
        if !shown.succeeded() {
            return Err(Failure::NoAnswer(shown.last_words()));
        }
        Ok(parse(name, &shown.output))
    }

    pub(super) fn failed_services(&self) -> Result<Vec<String>, Failure> {
        let arguments =
            ["list-units", "--plain", "--no-legend", "--full", "--type=service", "--state=failed,activating"];
        let listed = systemctl(&arguments)?;
        if !listed.succeeded() {
            return Err(Failure::NoAnswer(listed.last_words()));
        }
        Ok(listed.output.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    pub(super) fn is_stopping(&self) -> Result<bool, Failure> {
        // Its exit status is 1 for every state but `running`.
        let answer = systemctl(&["is-system-running"])?;
        match answer.output.trim() {
            "stopping" => Ok(true),
            "running" | "degraded" | "starting" | "initializing" | "maintenance" => Ok(false),
            _ => Err(Failure::NoAnswer(answer.last_words())),
        }
    }

    pub(super) fn reset_failed(&self, unit: &str) -> Result<(), Failure> {
        // It fails for a unit that is not loaded, which is neither failed nor counted.
        systemctl(&["reset-failed", "--", unit]).map(|_| ())
    }

    pub(super) fn enqueue(&self, job: Job, unit: &str) -> Result<(), Failure> {
        request(unit, &["--no-block", "--no-ask-password", "--job-mode=fail", verb(job), "--", unit])
    }

    pub(super) fn abort(&self, unit: &str) -> Result<(), Failure> {
        request(unit, &["--no-block", "--no-ask-password", "--job-mode=replace", "stop", "--", unit])
    }

    pub(super) fn reload(&self) -> Result<(), Failure> {
        request("a reload", &["--no-ask-password", "daemon-reload"])
    }
}

fn request(unit: &str, arguments: &[&str]) -> Result<(), Failure> {
    let asked = systemctl(arguments)?;
    if asked.succeeded() {
        return Ok(());
    }
    Err(Failure::Final(Error::Refused {
        unit: unit.to_owned(),
        name: format!("systemctl: exit status {}", asked.status.unwrap_or(-1)),
        text: asked.last_words(),
    }))
}

fn systemctl(arguments: &[&str]) -> Result<Finished, Failure> {
    command::run(Path::new(PROGRAM), arguments, Deadline::after(CALL_TIMEOUT))
        .map_err(|error| Failure::NoAnswer(format!("{PROGRAM}: {error}")))
}

/// Reads what `systemctl show` prints: a property a line, some of them several times.
pub fn parse(name: &str, shown: &str) -> Unit {
    let values = |key: &'static str| {
        shown.lines().filter_map(move |line| line.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v))
    };
    let text = |key: &'static str| values(key).next().unwrap_or_default().to_owned();
    let id = text("Id");
    let words = |key: &'static str| text(key).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let active = ActiveState::parse(&text("ActiveState"));
    let is_starting = active == ActiveState::Activating;
    let makes_runtime_directory = words("RuntimeDirectory").iter().any(|name| name == "sshd");
    Unit {
        name: if id.is_empty() { name.to_owned() } else { id },
        load: LoadState::parse(&text("LoadState")),
        active,
        starting_for: is_starting
            .then(|| text("InactiveExitTimestampMonotonic").parse().ok().map(elapsed_since))
            .flatten(),
        last_started: elapsed_since(text("ActiveEnterTimestampMonotonic").parse().unwrap_or_default()),
        sub: text("SubState"),
        result: text("Result"),
        enablement: Enablement::parse(&text("UnitFileState")),
        main_pid: text("MainPID").parse().ok().filter(|pid| *pid > 0),
        control_pid: text("ControlPID").parse().ok().filter(|pid| *pid > 0),
        restarts: text("NRestarts").parse().unwrap_or(0),
        job: !matches!(text("Job").as_str(), "" | "0"),
        can_start: text("CanStart") == "yes",
        needs_reload: text("NeedDaemonReload") == "yes",
        kill_mode: KillMode::parse(&text("KillMode")),
        control_group: text("ControlGroup"),
        exec_start: values("ExecStart").next().and_then(command),
        environment_files: values("EnvironmentFiles")
            .map(|value| PathBuf::from(value.split(" (").next().unwrap_or(value)))
            .collect(),
        environment: model::words::words(&text("Environment")),
        own_network: text("PrivateNetwork") == "yes" || !text("NetworkNamespacePath").is_empty(),
        removes_runtime_directory: makes_runtime_directory && text("RuntimeDirectoryPreserve") != "yes",
        needs_runtime_directory: !makes_runtime_directory,
        files: words("FragmentPath").into_iter().chain(words("DropInPaths")).map(PathBuf::from).collect(),
        triggered_by: words("TriggeredBy"),
        stopped_along: ["ConsistsOf", "RequiredBy", "BoundBy"].into_iter().flat_map(words).collect(),
        listen: values("Listen").filter_map(|value| value.strip_suffix(" (Stream)")).map(Listen::parse).collect(),
        ipv6_only: text("BindIPv6Only") == "ipv6-only",
        accept: text("Accept") == "yes",
        free_bind: text("FreeBind") == "yes",
        device_bound: !text("BindToDevice").is_empty(),
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
        assert_eq!(
            (unit.active, unit.main_pid, unit.job, unit.can_start),
            (ActiveState::Active, Some(60), false, true)
        );
        assert_eq!(unit.environment_files, [PathBuf::from("/etc/default/ssh")]);
        assert_eq!(unit.exec_start.map(|exec| exec.arguments), Some(vec!["-D".to_owned(), "$SSHD_OPTS".to_owned()]));
    }

    #[test]
    fn a_socket_keeps_its_stream_addresses_only() {
        let unit = parse(
            "ssh.socket",
            "Listen=0.0.0.0:22 (Stream)\nListen=[::]:22 (Stream)\nListen=/run/x (FIFO)\nAccept=no\nJob=14\n",
        );
        assert_eq!(unit.listen, ["0.0.0.0:22", "[::]:22"].map(Listen::parse));
        assert!(unit.job && !unit.accept && unit.main_pid.is_none());
    }
}
