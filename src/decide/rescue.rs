//! The rescue of an instance: which program serves in place of its units, with which options, at which addresses, by which
//! rules. Equivalent to what it replaces, or there is none.
//!
//! Everything is decided before a listener is terminated, from the text of the units' files.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::served::lost_addresses;
use crate::model::plan::{Rescue, RescuePlan, Start};
use crate::model::process::Process;
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::trial::{Check, Trial};

/// Settings of `[Service]` that say how the unit runs its own program. Everything else is a rule of the unit, and carried
/// over.
const NOT_CARRIED_BY_SERVICE: &[&str] = &[
    "Type",
    "ExecStart",
    "ExecStartPre",
    "ExecStartPost",
    "ExecCondition",
    "ExecReload",
    "ExecStop",
    "ExecStopPost",
    "ExitType",
    "Restart",
    "RestartSec",
    "RestartMode",
    "RestartSteps",
    "RestartMaxDelaySec",
    "RestartPreventExitStatus",
    "RestartForceExitStatus",
    "SuccessExitStatus",
    "RemainAfterExit",
    "PIDFile",
    "GuessMainPID",
    "BusName",
    "NotifyAccess",
    "Sockets",
    "NonBlocking",
    "TimeoutSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "TimeoutAbortSec",
    "TimeoutStartFailureMode",
    "TimeoutStopFailureMode",
    "RuntimeMaxSec",
    "RuntimeRandomizedExtraSec",
    "WatchdogSec",
    "WatchdogSignal",
    "KillMode",
    "KillSignal",
    "RestartKillSignal",
    "SendSIGHUP",
    "SendSIGKILL",
    "FinalKillSignal",
    "StandardInput",
    "StandardOutput",
    "StandardError",
    "FileDescriptorStoreMax",
    "FileDescriptorStorePreserve",
    "OpenFile",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve",
    "StartLimitInterval",
    "StartLimitIntervalSec",
    "StartLimitBurst",
    "StartLimitAction",
];

/// Settings of `[Socket]` that the rescue's own take the place of.
const NOT_CARRIED_BY_SOCKET: &[&str] = &[
    "ListenStream",
    "ListenDatagram",
    "ListenSequentialPacket",
    "ListenFIFO",
    "ListenSpecial",
    "ListenNetlink",
    "ListenMessageQueue",
    "ListenUSBFunction",
    "BindIPv6Only",
    "Accept",
    "Service",
    "FreeBind",
    "MaxConnections",
    "MaxConnectionsPerSource",
    "ExecStartPre",
    "ExecStartPost",
    "ExecStopPre",
    "ExecStopPost",
    "TimeoutSec",
    "TriggerLimitIntervalSec",
    "TriggerLimitBurst",
    "PollLimitIntervalSec",
    "PollLimitBurst",
    "FileDescriptorName",
    "Symlinks",
    "RemoveOnStop",
    "FlushPending",
    "Writable",
    "PassFileDescriptorsToExec",
    "DeferTrigger",
    "DeferTriggerMaxSec",
];

/// Rules of a service that apply to a socket only if the socket's unit has them, too: systemd filters by the control group
/// of the unit that made the socket (systemd.resource-control(5)).
const FILTERS: &[&str] = &[
    "IPAddressAllow",
    "IPAddressDeny",
    "IPIngressFilterPath",
    "IPEgressFilterPath",
    "SocketBindAllow",
    "SocketBindDeny",
    "RestrictNetworkInterfaces",
    "NFTSet",
    "Slice",
];

/// What serves if the units do not start.
pub(super) fn rescue(
    snapshot: &Snapshot,
    instance: &Instance,
    trial: &Trial,
    replaced: &[&Process],
    start: &Start,
) -> RescuePlan {
    let none = |why: String| RescuePlan::None(why);
    let rescue = &instance.rescue;
    if replaced.is_empty() && rescue.is_active() {
        return RescuePlan::Prepared(rescue.name.clone());
    }
    if replaced.is_empty() {
        return match snapshot.intent_of(instance.name()) {
            Some(intent) if intent.rescue => RescuePlan::Prepared(rescue.name.clone()),
            Some(_) => none("the interrupted repair had prepared none".to_owned()),
            None => none("nothing is terminated".to_owned()),
        };
    }
    if instance.is_elsewhere() || trial.handshake != Check::Passed {
        return none(format!("what {} starts could not be tried", instance.name()));
    }
    if instance.per_connection.is_some() && instance.uses_socket() {
        return none(format!("{} starts a service for each connection", instance.socket.name));
    }
    let unit = instance.per_connection.as_ref().filter(|_| instance.uses_socket()).unwrap_or(&instance.service);
    if trial.service_files.len() < unit.files.len() || trial.socket_files.len() < instance.socket.files.len() {
        return none("a file of its units could not be read".to_owned());
    }
    let with_socket = start.reset.contains(&instance.socket.name) || instance.socket.is_active();
    let service = section(&trial.service_files, "Service");
    let service_settings = without(&service, NOT_CARRIED_BY_SERVICE);
    let socket_settings = match with_socket {
        true => without(&section(&trial.socket_files, "Socket"), NOT_CARRIED_BY_SOCKET),
        false => only(&service, FILTERS),
    };
    let settings = || service_settings.iter().chain(&socket_settings);
    // A specifier means something else in a unit of another name (systemd.unit(5), "Specifiers").
    if let Some(line) = settings().find(|line| line.replace("%%", "").contains('%')) {
        return none(format!("a setting of its unit depends on the unit's name: {line}"));
    }
    if trial.options.iter().any(|option| option.chars().any(char::is_control)) {
        return none("its options cannot be written into a unit".to_owned());
    }
    let sockets: Vec<_> = replaced.iter().flat_map(|process| &process.sockets).collect();
    let device_bound = instance.socket.device_bound && with_socket;
    if sockets.iter().any(|socket| socket.device_bound) && !device_bound {
        return none("the listener is bound to a network interface, and no unit says so".to_owned());
    }
    // One socket unit has one BindIPv6Only= for all its addresses.
    let is_wildcard = |address: &SocketAddr| address.is_ipv6() && address.ip().is_unspecified();
    let rescued = rescue.tcp_addresses().filter(|_| rescue.is_active()).map(|address| (address, rescue.ipv6_only));
    let served: Vec<(SocketAddr, bool)> =
        sockets.iter().map(|socket| (socket.address, socket.ipv6_only)).chain(rescued).collect();
    let mut addresses: BTreeSet<SocketAddr> = served.iter().map(|(address, _)| *address).collect();
    let mut wildcards = served.iter().filter(|(address, _)| is_wildcard(address)).map(|(_, ipv6_only)| *ipv6_only);
    let ipv6_only = wildcards.next().unwrap_or(false);
    if wildcards.any(|other| other != ipv6_only) {
        return none("some of its addresses serve IPv6 only, and some IPv4 too".to_owned());
    }
    // What an interrupted repair has terminated is served by nobody now.
    let lost = lost_addresses(snapshot, instance);
    if lost.iter().any(is_wildcard) {
        return none("the interrupted repair did not record whether an address serves IPv4 too".to_owned());
    }
    addresses.extend(lost);
    RescuePlan::Prepare(Box::new(Rescue {
        instance: instance.name().to_owned(),
        conflicts: instance.units().into_iter().filter(|unit| unit.exists()).map(|unit| unit.name.clone()).collect(),
        start: start.clone(),
        ipv6_only,
        addresses,
        program: instance.program.path.clone(),
        options: trial.options.clone(),
        service_settings,
        socket_settings,
    }))
}

/// A socket unit filters who may connect to it.
pub(super) fn has_filters(socket_files: &[String]) -> bool {
    !only(&section(socket_files, "Socket"), FILTERS).is_empty()
}

/// The settings in a section of a unit's files, one a line, continuations joined (config_parse in systemd's
/// conf-parser.c).
fn section(files: &[String], name: &str) -> Vec<String> {
    let mut settings = Vec::new();
    for file in files {
        let mut inside = false;
        let mut take = |line: &str| {
            let line = line.trim();
            match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(section) => inside = section == name,
                None if inside && line.contains('=') => settings.push(line.to_owned()),
                None => {}
            }
        };
        let mut pending = String::new();
        for line in file.trim_start_matches('\u{feff}').lines() {
            if line.trim_start().starts_with(['#', ';']) {
                continue;
            }
            pending.push_str(line.trim_start());
            // Two backslashes are one that is escaped.
            let backslashes = pending.chars().rev().take_while(|c| *c == '\\').count();
            if backslashes % 2 == 1 {
                pending.pop();
                pending.push(' ');
            } else {
                take(&std::mem::take(&mut pending));
            }
        }
        take(&pending);
    }
    settings
}

fn key(setting: &str) -> &str {
    setting.split_once('=').map_or(setting, |(key, _)| key.trim())
}

fn without(settings: &[String], keys: &[&str]) -> Vec<String> {
    settings.iter().filter(|setting| !keys.contains(&key(setting))).cloned().collect()
}

fn only(settings: &[String], keys: &[&str]) -> Vec<String> {
    settings.iter().filter(|setting| keys.contains(&key(setting))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_a_section_are_those_of_all_files_in_order() {
        let unit = "[Unit]\nDescription=x\n[Service]\n# no\nExecStart=/usr/sbin/sshd -D \\\n  -p 22\nUser = root\n[Install]\nAlias=y\n";
        let drop_in = "[Service]\nIPAddressDeny=any\n";
        let settings = section(&[unit.to_owned(), drop_in.to_owned()], "Service");
        assert_eq!(settings, ["ExecStart=/usr/sbin/sshd -D  -p 22", "User = root", "IPAddressDeny=any"]);
        assert_eq!(without(&settings, NOT_CARRIED_BY_SERVICE), ["User = root", "IPAddressDeny=any"]);
        assert_eq!(only(&settings, FILTERS), ["IPAddressDeny=any"]);
    }
}
