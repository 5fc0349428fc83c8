//! systemd's D-Bus interface (org.freedesktop.systemd1(5)) on the system bus.
//!
//! The bus's address is fixed: the default one comes from the environment, which package managers hand on from their
//! callers. No property is cached: `UnitFileState` sends no change signals. zbus's `Proxy` is not used: its cache and its streams
//! would be a twentieth of the program.

use futures_core::Stream;
use std::collections::HashMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use zbus::zvariant::{DynamicDeserialize, DynamicType, OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream, connection, message};

use super::super::deadline::{Deadline, elapsed_since, elapsed_since_date};
use super::error::{Error, Failure};
use crate::model::plan::Job;
use crate::model::unit::{ActiveState, Enablement, ExecStart, KillMode, Listen, LoadState, Unit};

const SOCKET: &str = "/run/dbus/system_bus_socket";
const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Limits one call. systemd answers within milliseconds; while it reloads, within a second or two.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Signals that zbus keeps until somebody takes them. Once it has as many, it reads no answer either.
const QUEUED: usize = 4096;

/// Is there a bus to ask at all.
pub(super) fn is_there() -> bool {
    Path::new(SOCKET).exists()
}

/// A connection to systemd, for one thread.
pub(super) struct Bus {
    runtime: Rc<Runtime>,
    connection: Connection,
    /// JobRemoved, since a job was queued last.
    removed: Option<MessageStream>,
}

/// `ExecStart`: path, argv, ignore failure, four times, pid, code, status.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// Name, description, load, active and sub state, the unit that it follows, path, and a queued job.
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Bus {
    /// `runtime`: that of the calling thread, entered, as it has to be when this is dropped.
    pub(super) fn connect(runtime: &Rc<Runtime>) -> Result<Self, Failure> {
        let connected = runtime.block_on(async {
            // With an address instead, the library starts a thread to connect.
            let stream =
                UnixStream::connect(SOCKET).await.map_err(|error| zbus::Error::InputOutput(Arc::new(error)))?;
            connection::Builder::unix_stream(stream).method_timeout(CALL_TIMEOUT).build().await
        });
        let connection = connected.map_err(|error: zbus::Error| no_answer(&error))?;
        Ok(Self { runtime: Rc::clone(runtime), connection, removed: None })
    }

    /// Calls a method of the manager.
    fn call<A, R>(&self, method: &'static str, arguments: &A, about: &str) -> Result<R, Failure>
    where
        A: serde::Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        let reply = self.runtime.block_on(self.ask(OBJECT, MANAGER, method, arguments));
        reply.and_then(|reply| reply.body().deserialize()).map_err(|error| failure(about, error))
    }

    async fn ask<A>(&self, path: &str, interface: &str, method: &str, arguments: &A) -> zbus::Result<Message>
    where
        A: serde::Serialize + DynamicType,
    {
        self.connection.call_method(Some(NAME), path, Some(interface), method, arguments).await
    }

    pub(super) fn unit(&self, name: &str) -> Result<Unit, Failure> {
        // systemd loads a unit that is asked for by its path, and for no interface in particular tells the properties of all.
        let unit = self.properties(name)?;
        let (job, _): (u32, OwnedObjectPath) = unit.value("Job").unwrap_or_default();
        let commands: Vec<Command> = unit.value("ExecStart").unwrap_or_default();
        let environment_files: Vec<(String, bool)> = unit.value("EnvironmentFiles").unwrap_or_default();
        let listen: Vec<(String, String)> = unit.value("Listen").unwrap_or_default();
        let fragment: String = unit.text("FragmentPath");
        let drop_ins: Vec<String> = unit.value("DropInPaths").unwrap_or_default();
        let files = std::iter::once(fragment).chain(drop_ins).filter(|path| !path.is_empty());
        let load = LoadState::parse(&unit.text("LoadState"));
        // systemd answers for a unit that it does not know, and `Id` is what was asked for then.
        let id = unit.text("Id");
        let active = ActiveState::parse(&unit.text("ActiveState"));
        let is_starting = active == ActiveState::Activating;
        let directories: Vec<String> = unit.value("RuntimeDirectory").unwrap_or_default();
        let makes_runtime_directory = directories.iter().any(|name| name == "sshd");
        Ok(Unit {
            name: if id.is_empty() { name.to_owned() } else { id },
            load,
            active,
            starting_for: is_starting
                .then(|| unit.value("InactiveExitTimestampMonotonic").map(elapsed_since))
                .flatten(),
            // The one clock stands still while the machine sleeps, the other may be set: the earlier of both.
            last_started: elapsed_since(unit.value("ActiveEnterTimestampMonotonic").unwrap_or_default()).max(
                unit.value("ActiveEnterTimestamp").filter(|at| *at > 0).map(elapsed_since_date).unwrap_or_default(),
            ),
            sub: unit.text("SubState"),
            result: unit.text("Result"),
            enablement: Enablement::parse(&unit.text("UnitFileState")),
            main_pid: unit.value::<u32>("MainPID").and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
            control_pid: unit.value::<u32>("ControlPID").and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
            restarts: unit.value("NRestarts").unwrap_or(0),
            job: job != 0,
            can_start: unit.value("CanStart").unwrap_or(false),
            needs_reload: unit.value("NeedDaemonReload").unwrap_or(false),
            kill_mode: KillMode::parse(&unit.text("KillMode")),
            control_group: unit.text("ControlGroup"),
            exec_start: commands.into_iter().next().map(|command| ExecStart {
                path: PathBuf::from(command.0),
                arguments: command.1.into_iter().skip(1).collect(),
            }),
            environment_files: environment_files.into_iter().map(|(path, _)| PathBuf::from(path)).collect(),
            environment: unit.value("Environment").unwrap_or_default(),
            own_network: unit.value("PrivateNetwork").unwrap_or(false) || !unit.text("NetworkNamespacePath").is_empty(),
            removes_runtime_directory: makes_runtime_directory && unit.text("RuntimeDirectoryPreserve") != "yes",
            needs_runtime_directory: !makes_runtime_directory,
            files: files.map(PathBuf::from).collect(),
            triggered_by: unit.value("TriggeredBy").unwrap_or_default(),
            stopped_along: STOPPED_ALONG
                .iter()
                .flat_map(|kind| unit.value::<Vec<String>>(kind).unwrap_or_default())
                .collect(),
            listen: listen.iter().filter(|(kind, _)| kind == "Stream").map(|(_, text)| Listen::parse(text)).collect(),
            ipv6_only: unit.text("BindIPv6Only") == "ipv6-only",
            accept: unit.value("Accept").unwrap_or(false),
            free_bind: unit.value("FreeBind").unwrap_or(false),
            device_bound: !unit.text("BindToDevice").is_empty(),
        })
    }

    /// Services that have failed, or wait for their next start after a failure.
    pub(super) fn failed_services(&self) -> Result<Vec<String>, Failure> {
        let patterns = (&["failed", "activating"][..], &["*.service"][..]);
        let listed: Vec<ListedUnit> = self.call("ListUnitsByPatterns", &patterns, "the list of units")?;
        Ok(listed.into_iter().map(|unit| unit.0).collect())
    }

    /// The unit runs, or a job for it is queued. A unit that is not loaded stays so.
    pub(super) fn is_busy(&self, unit: &str) -> Result<bool, Failure> {
        let no_states: [&str; 0] = [];
        let listed: Vec<ListedUnit> = self.call("ListUnitsByPatterns", &(&no_states[..], &[unit][..]), unit)?;
        Ok(listed.iter().any(|unit| unit.7 != 0 || !ActiveState::parse(&unit.3).is_at_rest()))
    }

    pub(super) fn is_stopping(&self) -> Result<bool, Failure> {
        let state = self.runtime.block_on(self.ask(OBJECT, PROPERTIES, "Get", &(MANAGER, "SystemState")));
        let state = state.and_then(|reply| Ok(String::try_from(reply.body().deserialize::<OwnedValue>()?)?));
        Ok(state.map_err(|error| failure("the system", error))? == "stopping")
    }

    pub(super) fn reset_failed(&self, unit: &str) -> Result<(), Failure> {
        match self.runtime.block_on(self.ask(OBJECT, MANAGER, "ResetFailedUnit", &unit)) {
            Ok(_) => Ok(()),
            // Not loaded, so neither failed nor counted.
            Err(error) if error_name(&error) == "org.freedesktop.systemd1.NoSuchUnit" => Ok(()),
            Err(error) => Err(failure(unit, error)),
        }
    }

    pub(super) fn enqueue(&mut self, job: Job, unit: &str) -> Result<(), Failure> {
        let method = match job {
            Job::Start => "StartUnit",
            Job::Stop => "StopUnit",
            Job::Restart => "RestartUnit",
        };
        self.watch_jobs()?;
        let _: OwnedObjectPath = self.call(method, &(unit, "fail"), unit)?;
        Ok(())
    }

    /// First the match, then Subscribe, then jobs: no JobRemoved can be missed.
    ///
    /// The match is for the unique name that systemd has now. Anybody can send a signal to this connection alone, past the
    /// match that the bus has; against a unique name zbus compares it again. For another one it would keep the signal, and
    /// read no answer of systemd any more once its queue is full.
    fn watch_jobs(&mut self) -> Result<(), Failure> {
        const DAEMON: &str = "org.freedesktop.DBus";
        self.removed = None;
        let signals = self.runtime.block_on(async {
            let bus = "/org/freedesktop/DBus";
            let owner = self.connection.call_method(Some(DAEMON), bus, Some(DAEMON), "GetNameOwner", &NAME).await?;
            let rule = MatchRule::builder()
                .msg_type(message::Type::Signal)
                .sender(owner.body().deserialize::<String>()?)?
                .path(OBJECT)?
                .interface(MANAGER)?
                .member("JobRemoved")?
                .build();
            let signals = MessageStream::for_match_rule(rule, &self.connection, Some(QUEUED)).await?;
            match self.ask(OBJECT, MANAGER, "Subscribe", &()).await {
                Err(error) if error_name(&error) == "org.freedesktop.systemd1.AlreadySubscribed" => Ok(signals),
                subscribed => subscribed.map(|_| signals),
            }
        });
        self.removed = Some(signals.map_err(|error: zbus::Error| no_answer(&error))?);
        Ok(())
    }

    pub(super) fn abort(&self, unit: &str) -> Result<(), Failure> {
        let _: OwnedObjectPath = self.call("StopUnit", &(unit, "replace"), unit)?;
        Ok(())
    }

    pub(super) fn reload(&self) -> Result<(), Failure> {
        self.call("Reload", &(), "a reload")
    }

    /// The result of a job for `unit` that ended since the last one was queued, if one does within `limit`.
    pub(super) fn job_result(&mut self, unit: &str, limit: Duration) -> Option<String> {
        let deadline = Deadline::after(limit);
        loop {
            match self.next_result(deadline.remaining()) {
                Some((name, result)) if name == unit => return Some(result),
                Some(_) => {}
                None => {
                    // A connection that broke has no more signals; the caller goes on by the unit's state.
                    std::thread::sleep(deadline.remaining());
                    return None;
                }
            }
        }
    }

    /// The unit and the result of the next job that ends.
    fn next_result(&mut self, limit: Duration) -> Option<(String, String)> {
        let signals = self.removed.as_mut()?;
        let next = poll_fn(|context| Pin::new(&mut *signals).poll_next(context));
        let signal = self.runtime.block_on(async { tokio::time::timeout(limit, next).await }).ok()??.ok()?;
        let (_, _, unit, result) = signal.body().deserialize::<(u32, OwnedObjectPath, String, String)>().ok()?;
        Some((unit, result))
    }

    fn properties(&self, unit: &str) -> Result<Properties, Failure> {
        let path = format!("{OBJECT}/unit/{}", escaped(unit));
        let all = self.runtime.block_on(async {
            let reply = self.ask(&path, PROPERTIES, "GetAll", &"").await?;
            reply.body().deserialize()
        });
        all.map(Properties).map_err(|error| failure(unit, error))
    }
}

/// As part of an object path (bus_label_escape in systemd's bus-label.c).
fn escaped(unit: &str) -> String {
    let is_kept = |index: usize, byte: u8| byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit());
    let of_byte = |(index, byte): (usize, u8)| match is_kept(index, byte) {
        true => char::from(byte).to_string(),
        false => format!("_{byte:02x}"),
    };
    unit.bytes().enumerate().map(of_byte).collect()
}

/// Dependencies by which a stop of one unit stops others (systemd.unit(5)).
const STOPPED_ALONG: [&str; 3] = ["ConsistsOf", "RequiredBy", "BoundBy"];

/// All properties of a unit.
struct Properties(HashMap<String, OwnedValue>);

impl Properties {
    fn value<T: TryFrom<OwnedValue>>(&self, name: &str) -> Option<T> {
        T::try_from(self.0.get(name)?.try_clone().ok()?).ok()
    }

    fn text(&self, name: &str) -> String {
        self.value(name).unwrap_or_default()
    }
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
