//! systemd's D-Bus interface (org.freedesktop.systemd1(5)) on the system bus.
//!
//! The bus's address is fixed: the default one comes from the environment, which package managers hand on from their
//! callers. No property is cached: `UnitFileState` sends no change signals.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zbus::blocking::{Connection, Proxy, connection};
use zbus::proxy::CacheProperties;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::super::deadline::elapsed_since;
use super::error::{Error, Failure};
use crate::model::plan::Job;
use crate::model::unit::{ActiveState, Enablement, ExecStart, KillMode, Listen, LoadState, Unit};

const SOCKET: &str = "/run/dbus/system_bus_socket";
const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// Limits one call. systemd answers within milliseconds; while it reloads, within a second or two.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Is there a bus to ask at all.
pub(super) fn is_there() -> bool {
    Path::new(SOCKET).exists()
}

/// A connection to systemd.
pub(super) struct Bus {
    connection: Connection,
    manager: Proxy<'static>,
    removed: Mutex<Receiver<(String, String)>>,
}

/// `ExecStart`: path, argv, ignore failure, four times, pid, code, status.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// Name, description, load, active and sub state, the unit that it follows, path, and a queued job.
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Bus {
    pub(super) fn connect() -> Result<Self, Failure> {
        let address = format!("unix:path={SOCKET}");
        let connection = connection::Builder::address(address.as_str())
            .map(|builder| builder.method_timeout(CALL_TIMEOUT))
            .and_then(connection::Builder::build)
            .map_err(|error| no_answer(&error))?;
        let manager = proxy(&connection, OBJECT.to_owned(), MANAGER).map_err(|error| no_answer(&error))?;
        // First the match, then Subscribe, then jobs: no JobRemoved can be missed.
        let signals = manager.receive_signal("JobRemoved").map_err(|error| no_answer(&error))?;
        manager.call_method("Subscribe", &()).map_err(|error| no_answer(&error))?;
        let (sender, removed) = channel();
        std::thread::Builder::new()
            .name("JobRemoved".to_owned())
            .spawn(move || {
                for signal in signals {
                    let Ok((_, _, unit, result)) =
                        signal.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
                    else {
                        continue;
                    };
                    if sender.send((unit, result)).is_err() {
                        break;
                    }
                }
            })
            .map_err(|error| Failure::NoAnswer(error.to_string()))?;
        Ok(Self { connection, manager, removed: Mutex::new(removed) })
    }

    pub(super) fn unit(&self, name: &str) -> Result<Unit, Failure> {
        let path: OwnedObjectPath = self.manager.call("LoadUnit", &name).map_err(|error| failure(name, error))?;
        let unit = Properties::of(&self.connection, &path, name, "Unit")?;
        let kind = match name.rsplit_once('.').map(|(_, suffix)| suffix) {
            Some("service") => "Service",
            Some("socket") => "Socket",
            _ => "Unit",
        };
        let typed = if kind == "Unit" || unit.text("LoadState") != "loaded" {
            Properties(HashMap::new())
        } else {
            Properties::of(&self.connection, &path, name, kind)?
        };
        let (job, _): (u32, OwnedObjectPath) = unit.value("Job").unwrap_or_default();
        let commands: Vec<Command> = typed.value("ExecStart").unwrap_or_default();
        let environment_files: Vec<(String, bool)> = typed.value("EnvironmentFiles").unwrap_or_default();
        let listen: Vec<(String, String)> = typed.value("Listen").unwrap_or_default();
        let fragment: String = unit.text("FragmentPath");
        let drop_ins: Vec<String> = unit.value("DropInPaths").unwrap_or_default();
        let files = std::iter::once(fragment).chain(drop_ins).filter(|path| !path.is_empty());
        let load = LoadState::parse(&unit.text("LoadState"));
        // systemd answers for a unit that it does not know, and `Id` is what was asked for then.
        let id = unit.text("Id");
        let active = ActiveState::parse(&unit.text("ActiveState"));
        let is_starting = active == ActiveState::Activating;
        Ok(Unit {
            name: if id.is_empty() { name.to_owned() } else { id },
            load,
            active,
            starting_for: is_starting
                .then(|| unit.value("InactiveExitTimestampMonotonic").map(elapsed_since))
                .flatten(),
            sub: unit.text("SubState"),
            result: typed.text("Result"),
            enablement: Enablement::parse(&unit.text("UnitFileState")),
            main_pid: typed.value::<u32>("MainPID").and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
            control_pid: typed
                .value::<u32>("ControlPID")
                .and_then(|pid| i32::try_from(pid).ok())
                .filter(|pid| *pid > 0),
            restarts: typed.value("NRestarts").unwrap_or(0),
            job: job != 0,
            can_start: unit.value("CanStart").unwrap_or(false),
            needs_reload: unit.value("NeedDaemonReload").unwrap_or(false),
            kill_mode: KillMode::parse(&typed.text("KillMode")),
            control_group: typed.text("ControlGroup"),
            exec_start: commands.into_iter().next().map(|command| ExecStart {
                path: PathBuf::from(command.0),
                arguments: command.1.into_iter().skip(1).collect(),
            }),
            environment_files: environment_files.into_iter().map(|(path, _)| PathBuf::from(path)).collect(),
            environment: typed.value("Environment").unwrap_or_default(),
            own_network: typed.value("PrivateNetwork").unwrap_or(false)
                || !typed.text("NetworkNamespacePath").is_empty(),
            removes_runtime_directory: typed
                .value::<Vec<String>>("RuntimeDirectory")
                .is_some_and(|names| names.iter().any(|name| name == "sshd"))
                && typed.text("RuntimeDirectoryPreserve") != "yes",
            files: files.map(PathBuf::from).collect(),
            triggered_by: unit.value("TriggeredBy").unwrap_or_default(),
            stopped_along: STOPPED_ALONG
                .iter()
                .flat_map(|kind| unit.value::<Vec<String>>(kind).unwrap_or_default())
                .collect(),
            listen: listen.iter().filter(|(kind, _)| kind == "Stream").map(|(_, text)| Listen::parse(text)).collect(),
            ipv6_only: typed.text("BindIPv6Only") == "ipv6-only",
            accept: typed.value("Accept").unwrap_or(false),
            free_bind: typed.value("FreeBind").unwrap_or(false),
            device_bound: !typed.text("BindToDevice").is_empty(),
        })
    }

    /// Services that have failed, or wait for their next start after a failure.
    pub(super) fn failed_services(&self) -> Result<Vec<String>, Failure> {
        let listed: Vec<ListedUnit> = self
            .manager
            .call("ListUnitsByPatterns", &(&["failed", "activating"][..], &["*.service"][..]))
            .map_err(|error| failure("the list of units", error))?;
        Ok(listed.into_iter().map(|unit| unit.0).collect())
    }

    pub(super) fn is_stopping(&self) -> Result<bool, Failure> {
        let state: String = self.manager.get_property("SystemState").map_err(|error| failure("the system", error))?;
        Ok(state == "stopping")
    }

    pub(super) fn reset_failed(&self, unit: &str) -> Result<(), Failure> {
        match self.manager.call_method("ResetFailedUnit", &unit) {
            Ok(_) => Ok(()),
            // Not loaded, so neither failed nor counted.
            Err(error) if error_name(&error) == "org.freedesktop.systemd1.NoSuchUnit" => Ok(()),
            Err(error) => Err(failure(unit, error)),
        }
    }

    pub(super) fn enqueue(&self, job: Job, unit: &str) -> Result<(), Failure> {
        let method = match job {
            Job::Start => "StartUnit",
            Job::Stop => "StopUnit",
            Job::Restart => "RestartUnit",
        };
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        while removed.try_recv().is_ok() {} // results of earlier jobs
        drop(removed);
        let _: OwnedObjectPath = self.manager.call(method, &(unit, "fail")).map_err(|error| failure(unit, error))?;
        Ok(())
    }

    pub(super) fn abort(&self, unit: &str) -> Result<(), Failure> {
        let _: OwnedObjectPath =
            self.manager.call("StopUnit", &(unit, "replace")).map_err(|error| failure(unit, error))?;
        Ok(())
    }

    pub(super) fn reload(&self) -> Result<(), Failure> {
        self.manager.call_method("Reload", &()).map(|_| ()).map_err(|error| failure("a reload", error))
    }

    /// The result of a job for `unit` that ended since the last one was queued, if one does within `limit`.
    pub(super) fn job_result(&self, unit: &str, limit: Duration) -> Option<String> {
        let until = Instant::now() + limit;
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match removed.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((name, result)) if name == unit => return Some(result),
                Ok(_) => {}
                Err(_) => {
                    // A connection that broke ends the thread at once; the caller goes on by the unit's state.
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    return None;
                }
            }
        }
    }
}

/// Dependencies by which a stop of one unit stops others (systemd.unit(5)).
const STOPPED_ALONG: [&str; 3] = ["ConsistsOf", "RequiredBy", "BoundBy"];

/// All properties of one interface of a unit.
struct Properties(HashMap<String, OwnedValue>);

impl Properties {
    fn of(connection: &Connection, path: &OwnedObjectPath, unit: &str, kind: &str) -> Result<Self, Failure> {
        let properties = proxy(connection, path.to_string(), "org.freedesktop.DBus.Properties")
            .map_err(|error| no_answer(&error))?;
        let all = properties
            .call("GetAll", &format!("org.freedesktop.systemd1.{kind}"))
            .map_err(|error| failure(unit, error))?;
        Ok(Self(all))
    }

    fn value<T: TryFrom<OwnedValue>>(&self, name: &str) -> Option<T> {
        T::try_from(self.0.get(name)?.try_clone().ok()?).ok()
    }

    fn text(&self, name: &str) -> String {
        self.value(name).unwrap_or_default()
    }
}

fn proxy(connection: &Connection, path: String, interface: &'static str) -> zbus::Result<Proxy<'static>> {
    zbus::blocking::proxy::Builder::new(connection)
        .destination(NAME)?
        .path(path)?
        .interface(interface)?
        .cache_properties(CacheProperties::No)
        .build()
}

fn no_answer(error: &zbus::Error) -> Failure {
    Failure::NoAnswer(error.to_string())
}

fn error_name(error: &zbus::Error) -> &str {
    match error {
        zbus::Error::MethodError(name, _, _) => name.as_str(),
        _ => "",
    }
}

/// Errors that the bus itself raises mean that nobody answered; systemd's own are its answer.
fn failure(unit: &str, error: zbus::Error) -> Failure {
    match &error {
        zbus::Error::MethodError(name, text, _)
            if !name.starts_with("org.freedesktop.DBus.Error.") || is_answer(name) =>
        {
            Failure::Final(Error::Refused {
                unit: unit.to_owned(),
                name: name.to_string(),
                text: text.clone().unwrap_or_default(),
            })
        }
        _ => no_answer(&error),
    }
}

/// Names in D-Bus's own space that systemd uses for refusals.
fn is_answer(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("AccessDenied" | "InvalidArgs" | "InteractiveAuthorizationRequired"))
}
