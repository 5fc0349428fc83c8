//! Facts about the replacement: would the program on disk serve connections, and on which addresses?
//!
//! Gathered only when a listener is to be ended or restarted. It starts programs that only look (`sshd -t`, `sshd -T`,
//! `sshd -i` on a socketpair of our own, dpkg-query, policy-rc.d), writes nothing, and judges nothing: that is
//! [`crate::plan`]'s.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::diagnosis::Diagnosis;
use crate::observe::{RUNTIME_DIRECTORY, SERVICE, SOCKET};
use crate::probe::{Attempt, handshake};
use crate::program;
use crate::snapshot::{Snapshot, Unit};
use options::options;

pub mod options;

/// For one program that only looks. `sshd -t` takes 20 ms.
const LOOK: Duration = Duration::from_secs(10);
/// For policy-rc.d, which is the administrator's script.
const POLICY: Duration = Duration::from_secs(5);
const POLICY_RC_D: &str = "/usr/sbin/policy-rc.d";
const DPKG_QUERY: &str = "/usr/bin/dpkg-query";
/// invoke-rc.d's "action not allowed" (policy-rc.d's specification in sysvinit, /usr/share/doc/init-system-helpers).
const DENIED: i32 = 101;

/// What is known about the replacement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// The program with the options of ssh.service.
    pub server: Server,
    /// The same with the options of other units that have a stale listener: further instances of sshd.
    pub instances: BTreeMap<String, Server>,
    /// Whether dpkg has finished with the package that owns the program.
    pub package: Package,
    /// policy-rc.d's answer. Only the hook asks it.
    pub policy: Policy,
}

/// What the program on disk does with the options of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `sshd -t`
    pub config: Check,
    /// `sshd -i` up to its KEXINIT.
    pub handshake: Check,
    /// The addresses that sshd binds when no socket unit gives it any. `None`: not known, see `config`.
    pub own_addresses: Option<Vec<SocketAddr>>,
}

impl Preflight {
    /// A check has to wait until `/run/sshd` is there again.
    #[must_use]
    pub fn needs_runtime_directory(&self) -> bool {
        let servers = std::iter::once(&self.server).chain(self.instances.values());
        servers.into_iter().any(|server| server.config == Check::NeedsRuntimeDirectory)
    }
}

/// A check of the program on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// It passed.
    Passed,
    /// It failed, in the program's own words.
    Failed(String),
    /// It cannot be made before `/run/sshd` is there again, and nothing before that was wrong.
    NeedsRuntimeDirectory,
}

/// dpkg's view of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Package {
    /// Installed and configured, or owned by no package at all.
    Ready,
    /// In the middle of something: package and dpkg's status.
    Unconfigured(String),
}

/// What policy-rc.d says about a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// There is none, nobody asked, or it allows the restart.
    Allows,
    /// It denies the restart, or gave no usable answer: why.
    Denies(String),
}

/// Gathers what is known about the replacement of a listener.
#[must_use]
pub fn preflight(snapshot: &Snapshot, diagnosis: &Diagnosis, ask_policy: bool, deadline: Deadline) -> Preflight {
    let program = &snapshot.program.path;
    let stale = |unit: &&Unit| diagnosis.listeners.iter().any(|l| l.stale && l.unit.as_deref() == Some(&unit.name));
    let instances: Vec<&Unit> = snapshot.other_units.iter().filter(stale).collect();
    let policy = if ask_policy {
        let units = [SERVICE, SOCKET].into_iter().chain(instances.iter().map(|unit| unit.name.as_str()));
        ask(Path::new(POLICY_RC_D), units, deadline)
    } else {
        Policy::Allows
    };
    Preflight {
        server: server(program, &snapshot.service, deadline),
        instances: instances.iter().map(|unit| (unit.name.clone(), server(program, unit, deadline))).collect(),
        package: package(program, deadline),
        policy,
    }
}

/// The addresses that ssh.service would serve by itself. `None` if the program does not tell.
#[must_use]
pub fn own_addresses(program: &Path, service: &Unit, deadline: Deadline) -> Option<Vec<SocketAddr>> {
    let options = options(service);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    effective(program, "-T", &options, deadline).or_else(|| effective(program, "-G", &options, deadline))
}

fn server(program: &Path, unit: &Unit, deadline: Deadline) -> Server {
    let options = options(unit);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let config = check_config(program, &options, deadline);
    let handshake = match &config {
        Check::Passed => check_handshake(program, &options, deadline),
        Check::Failed(_) => Check::Failed("its configuration is not valid".to_owned()),
        Check::NeedsRuntimeDirectory => Check::NeedsRuntimeDirectory,
    };
    let own_addresses = match &config {
        Check::Failed(_) => None,
        Check::Passed => effective(program, "-T", &options, deadline),
        // `-T` needs /run/sshd; `-G` does not, but came with 9.3.
        Check::NeedsRuntimeDirectory => effective(program, "-G", &options, deadline),
    };
    Server { config, handshake, own_addresses }
}

fn check_config(program: &Path, options: &[&str], deadline: Deadline) -> Check {
    match program::run(program, &[&["-t"], options].concat(), deadline.at_most(LOOK)) {
        Ok(finished) if finished.succeeded() => Check::Passed,
        // Said only after configuration and host keys have passed (main, sshd.c).
        Ok(finished)
            if finished.output.trim() == format!("Missing privilege separation directory: {RUNTIME_DIRECTORY}") =>
        {
            Check::NeedsRuntimeDirectory
        }
        Ok(finished) => Check::Failed(finished.last_words()),
        Err(error) => Check::Failed(format!("{} -t: {error}", program.display())),
    }
}

/// Lets the program on disk serve one connection, on a socketpair: no port is needed, and no listener is touched.
fn check_handshake(program: &Path, options: &[&str], deadline: Deadline) -> Check {
    let limit = deadline.at_most(LOOK);
    let attempt = (|| -> io::Result<(Attempt, String)> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let output = OwnedFd::from(theirs.try_clone()?);
        let mut errors = program::memory_file()?;
        let mut command = program::command(program, &[&["-i", "-e"], options].concat());
        command.stdin(OwnedFd::from(theirs)).stdout(output).stderr(errors.try_clone()?);
        let child = command.spawn()?;
        drop(command); // and with it our copies of the server's end
        let attempt = handshake(&mut ours, limit);
        drop(ours);
        program::wait(child, limit)?;
        Ok((attempt, program::read_back(&mut errors)?))
    })();
    match attempt {
        Ok((Attempt::Kexinit(_), _)) => Check::Passed,
        Ok((attempt, said)) => {
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim);
            Check::Failed(last.map_or_else(|| format!("{attempt:?}"), str::to_owned))
        }
        Err(error) => Check::Failed(format!("{} -i: {error}", program.display())),
    }
}

/// Addresses from the effective configuration. `None` if the program does not tell.
fn effective(program: &Path, mode: &str, options: &[&str], deadline: Deadline) -> Option<Vec<SocketAddr>> {
    let finished = program::run(program, &[&[mode], options].concat(), deadline.at_most(LOOK)).ok()?;
    finished.succeeded().then(|| listen_addresses(&finished.output))
}

/// The `listenaddress` lines of `sshd -T`.
#[must_use]
pub fn listen_addresses(effective: &str) -> Vec<SocketAddr> {
    effective.lines().filter_map(|line| line.strip_prefix("listenaddress ")).filter_map(crate::address::parse).collect()
}

fn package(program: &Path, deadline: Deadline) -> Package {
    let query = |arguments: &[&str]| program::run(Path::new(DPKG_QUERY), arguments, deadline.at_most(LOOK));
    let path = program.display().to_string();
    let owner = match query(&["--search", "--", &path]) {
        Ok(finished) if finished.succeeded() => owner(&path, &finished.output),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Package::Unconfigured(format!("dpkg-query: {error}")),
    };
    let Some(owner) = owner else { return Package::Ready };
    match query(&["--show", "--showformat=${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status}", "--", &owner]) {
        Ok(finished) if finished.output.ends_with(" ok installed") => Package::Ready,
        Ok(finished) => Package::Unconfigured(format!("{owner} is \"{}\"", finished.output.trim())),
        Err(error) => Package::Unconfigured(format!("dpkg-query: {error}")),
    }
}

/// The package that owns a file, from what `dpkg-query --search` prints: `openssh-server: /usr/sbin/sshd`. Lines about
/// diversions start otherwise.
#[must_use]
pub fn owner(path: &str, found: &str) -> Option<String> {
    found.lines().find_map(|line| {
        let (packages, file) = line.rsplit_once(": ")?;
        (file == path && !packages.starts_with("diversion "))
            .then(|| packages.split(", ").next().unwrap_or(packages).to_owned())
    })
}

fn ask<'a>(policy: &Path, units: impl Iterator<Item = &'a str>, deadline: Deadline) -> Policy {
    if !is_executable(policy) {
        return Policy::Allows;
    }
    for unit in units {
        match program::run(policy, &[unit, "restart"], deadline.at_most(POLICY)) {
            // 104: allowed. 0: allowed; 1: unknown, 105: undefined: allowed by default, as invoke-rc.d does.
            Ok(finished) if matches!(finished.status, Some(0 | 1 | 104 | 105)) => {}
            Ok(finished) if finished.status == Some(DENIED) => {
                return Policy::Denies(format!("it denies the restart of {unit}"));
            }
            Ok(finished) => {
                return Policy::Denies(format!("it gave no usable answer for {unit}: {}", finished.last_words()));
            }
            Err(error) => return Policy::Denies(format!("it could not be asked about {unit}: {error}")),
        }
    }
    Policy::Allows
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_listenaddress() {
        let text = "port 22\nlistenaddress [::]:22\nlistenaddress 0.0.0.0:2222\npermitlisten any\n";
        assert_eq!(listen_addresses(text), ["[::]:22", "0.0.0.0:2222"].map(|a| a.parse().expect("an address")));
    }

    #[test]
    fn policy_rc_d_denies_by_101_and_by_silence() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = directory.path().join("policy-rc.d");
        let answer = |body: &str| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(&script, format!("#!/bin/sh\n{body}\n")).expect("a file");
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
            ask(&script, [SERVICE, SOCKET].into_iter(), Deadline::after(Duration::from_millis(500)))
        };
        assert_eq!(answer("exit 0"), Policy::Allows);
        assert_eq!(answer("exit 104"), Policy::Allows);
        assert!(matches!(answer("exit 101"), Policy::Denies(_)));
        assert!(matches!(answer("[ \"$1\" = ssh.socket ] && exit 101; exit 0"), Policy::Denies(_)));
        assert!(matches!(answer("exit 2"), Policy::Denies(_)));
        assert!(matches!(answer("while :; do :; done"), Policy::Denies(_)));
        assert!(matches!(answer("[ -z \"$HOME$LD_PRELOAD\" ] && exit 101"), Policy::Denies(_)));
        std::fs::remove_file(&script).expect("the file");
        let none = ask(&script, [SERVICE].into_iter(), Deadline::after(Duration::from_millis(500)));
        assert_eq!(none, Policy::Allows);
    }
}
