//! Names of units, programs and files that more than one module needs.

/// The service of Debian's and Ubuntu's openssh-server.
pub const SERVICE: &str = "ssh.service";
/// Its socket.
pub const SOCKET: &str = "ssh.socket";
/// What `ssh.service` starts unless its `ExecStart=` names another sshd.
pub const DEFAULT_PROGRAM: &str = "/usr/sbin/sshd";
/// sshd's privilege separation directory, compiled into Debian's sshd (`--with-privsep-path`).
pub const RUNTIME_DIRECTORY: &str = "/run/sshd";
/// While this file exists, the units of openssh-server do not start sshd.
pub const NOT_TO_BE_RUN: &str = "/etc/ssh/sshd_not_to_be_run";
/// The unit in which effects run.
pub const REPAIR_UNIT: &str = "sshd-mend-repair.service";

/// In which `NOTIFY=` is run.
pub const NOTIFY_UNIT: &str = "sshd-mend-notify.service";
/// Has it looked again in two minutes.
pub const RETRY_TIMER: &str = "sshd-mend-retry.timer";
/// Where intents, outcomes and requests are kept: gone after a reboot, as every listener that they name is.
pub const RECORD: &str = "/run/sshd-mend";
/// Where units that last until the next boot are written.
pub const RUNTIME_UNITS: &str = "/run/systemd/system";

/// A unit's name without its suffix.
pub fn stem(unit: &str) -> &str {
    unit.rsplit_once('.').map_or(unit, |(stem, _)| stem)
}

/// The part of our units' names that tells the instance: systemd takes what follows a first "@" for the name of an
/// instance of a template.
fn own_stem(unit: &str) -> String {
    stem(unit).replace('@', "-at-")
}

/// The socket unit of an instance's rescue.
pub fn rescue_socket(instance: &str) -> String {
    format!("sshd-mend-rescue-{}.socket", own_stem(instance))
}

/// What [`rescue_socket`] starts for each connection.
pub fn rescue_service(instance: &str) -> String {
    format!("sshd-mend-rescue-{}@.service", own_stem(instance))
}

/// The unit that starts an instance again, or else its rescue, without any program of ours.
pub fn fallback(instance: &str) -> String {
    format!("sshd-mend-fallback-{}.service", own_stem(instance))
}
