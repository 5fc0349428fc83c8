//! Everything that is tried before an instance's listener may be replaced.

use std::collections::BTreeSet;
use std::path::Path;

use super::options::{self, are_known, options};
use super::policy::{self, POLICY_RC_D};
use super::unit_files::texts;
use super::{basis, control_group, package, sandbox, server, unit_settings};
use crate::host::deadline::Deadline;
use crate::model::names::{SERVICE, SOCKET};
use crate::model::snapshot::{Instance, Snapshot};
use crate::model::trial::{Check, OtherProcesses, Package, Policy, Trial, Trials};

/// Tries the programs of these instances. One that is slow uses up its own share of the time and no other's.
pub fn trials(snapshot: &Snapshot, instances: &[String], ask_policy: bool, deadline: Deadline) -> Trials {
    let involved: Vec<&Instance> = instances.iter().filter_map(|name| snapshot.instance(name)).collect();
    let left = (1..=u32::try_from(involved.len()).unwrap_or(u32::MAX)).rev();
    let tried = involved.into_iter().zip(left).map(|(instance, left)| {
        let share = deadline.at_most(deadline.remaining() / left);
        (instance.name().to_owned(), trial(snapshot, instance, ask_policy, share))
    });
    tried.collect()
}

fn trial(snapshot: &Snapshot, instance: &Instance, ask_policy: bool, deadline: Deadline) -> Trial {
    let unit = instance.runs_sshd();
    let options = options(unit);
    let program = &instance.program.path;
    // dpkg-query takes as long as sshd does.
    let (tried, package) = std::thread::scope(|scope| {
        let package = scope.spawn(|| package::package(program, deadline));
        let tried = match (&unit.exec_start, unit.sshd()) {
            (Some(exec), None) => {
                let what =
                    format!("{} starts {}, which is not an sshd and cannot be tried", unit.name, exec.path.display());
                (Check::Passed, Check::Failed(what), None)
            }
            _ => server::try_program(program, &options, deadline),
        };
        (tried, package.join())
    });
    let (config, handshake, declared) = tried;
    let package = package.unwrap_or_else(|_| Package::Unconfigured("dpkg-query could not be asked".to_owned()));
    let files = texts(&unit.files);
    let is_per_connection = unit.name != instance.name();
    let odd_option = options::other_mode(unit, is_per_connection);
    let odd_option = odd_option.map(|flag| format!("its option -{flag} makes sshd end instead of serving"));
    let start_hindrance = odd_option.or_else(|| unit_settings::hindrance(&unit.name, &files, deadline));
    let start_hindrance =
        start_hindrance.or_else(|| unit_settings::log_file(&options::log_file(unit)?, &files)).or_else(|| {
            let socket = Some(&instance.socket).filter(|socket| instance.uses_socket() && !socket.is_active())?;
            unit_settings::hindrance(&socket.name, &texts(&socket.files), deadline)
        });
    let of_socket = instance.socket.tcp_addresses().filter(|_| !instance.socket.free_bind);
    let bindable = of_socket.chain(declared.iter().flatten().map(|(address, _)| *address));
    Trial {
        config,
        handshake,
        start_hindrance,
        exec_condition: unit_settings::has_exec_condition(&files),
        untried: sandbox::untried(unit),
        unassigned: server::unassigned(bindable),
        own_device_bound: declared.iter().flatten().filter(|(_, bound)| **bound).map(|(address, _)| *address).collect(),
        changed: basis::is_changed(instance),
        own_addresses: declared.map(|declared| declared.into_keys().collect()),
        package,
        options,
        // What cannot be read of its environment may be a rule, too.
        service_files: if are_known(unit) { files } else { Vec::new() },
        socket_files: texts(&instance.socket.files),
        other_processes: other_processes(snapshot, instance),
        policy: if ask_policy { policy(snapshot, instance, deadline) } else { Policy::Allows },
        timed_out: deadline.has_passed(),
    }
}

fn policy(snapshot: &Snapshot, instance: &Instance, deadline: Deadline) -> Policy {
    let units = if snapshot.is_main(instance) { vec![SERVICE, SOCKET] } else { vec![instance.name()] };
    policy::ask(Path::new(POLICY_RC_D), units.into_iter(), deadline)
}

fn other_processes(snapshot: &Snapshot, instance: &Instance) -> OtherProcesses {
    let service = &instance.service;
    if service.spares_other_processes() {
        return OtherProcesses::Known(Vec::new());
    }
    // A unit that systemd has lost track of has processes, and no control group in systemd's words.
    let of_processes = snapshot.processes.iter().map(|process| (&process.unit, &process.control_group));
    let of_children = snapshot.children.iter().map(|child| (&child.unit, &child.control_group));
    let left_over = of_processes.chain(of_children).filter(|(unit, _)| unit.as_deref() == Some(instance.name()));
    let mut groups: BTreeSet<&str> = left_over.map(|(_, group)| group.as_str()).collect();
    groups.insert(&service.control_group);
    let mut pids = BTreeSet::new();
    for group in groups {
        match control_group::processes(group) {
            Ok(found) => pids.extend(found),
            Err(error) => return OtherProcesses::Unknown(format!("{group}: {error}")),
        }
    }
    OtherProcesses::Known(pids.into_iter().filter(|pid| service.main_pid != Some(*pid)).collect())
}
