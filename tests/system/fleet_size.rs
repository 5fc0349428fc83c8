//! What a fleet costs: as many hosts as are asked for, a quarter of them in the incident. The number is CI's sample; tests/fleet
//! raises it, and prints the figures.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::controller::{Controller, address};
use crate::machine::Machine;
use crate::network::Network;
use crate::soak::number;

/// In kB, of this machine.
fn available() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn is_hit(number: usize) -> bool {
    number % 4 == 1
}

fn host(network: &Network, number: usize) -> Machine {
    let machine = Machine::boot_at(network, "trixie-managed", &address(number));
    machine.install_package();
    machine.without_prevention();
    if is_hit(number) {
        machine.incident();
        machine.upgrade_without_hook().ok();
    }
    machine
}

/// Boots them two at a time.
fn boot(network: &Network, hosts: usize) -> Vec<Machine> {
    let (next, machines) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= hosts {
                        break;
                    }
                    let machine = host(network, number);
                    machines.lock().expect("the list").push(machine);
                }
            });
        }
    });
    machines.into_inner().expect("the list")
}

#[test]
fn a_fleet_is_reported_on_and_repaired() {
    let hosts = number("SSHD_MEND_HOSTS", 6);
    let network = Network::new();
    let controller = Controller::new(&network);
    let before = available();
    let begun = Instant::now();
    let machines = boot(&network, hosts);
    let booted = begun.elapsed();
    let memory = (before - available()) / 1024;
    let entries: Vec<(String, String)> =
        (0..hosts).map(|number| (format!("host{number:03}"), address(number))).collect();
    controller.inventory(entries.iter().map(|(name, address)| (name.as_str(), address.as_str(), "")));
    let timed = |playbook: &str| {
        let begun = Instant::now();
        let output = controller.play(playbook, "").ok();
        (output, begun.elapsed().as_secs_f64())
    };
    let (report, report_took) = timed("report");
    let hit = (0..hosts).filter(|number| is_hit(*number)).count();
    let counted = format!("{hosts} hosts: {hit} warning, {} ok", hosts - hit);
    assert!(report.stdout.contains(&counted), "{}", report.stdout);
    let (repair, repair_took) = timed("repair");
    assert!(!repair.stdout.contains("is not proven"), "{}", repair.stdout);
    let (report, report_again_took) = timed("report");
    assert!(report.stdout.contains(&format!("{hosts} hosts: {hosts} ok")), "{}", report.stdout);
    println!(
        "{hosts} hosts, {hit} in the incident: booted and prepared in {:.0} s with {memory} MB ({} MB each); report {report_took:.1} s, \
         repair {repair_took:.1} s, report {report_again_took:.1} s",
        booted.as_secs_f64(),
        memory / i64::try_from(hosts).expect("a small number")
    );
    drop(machines);
}
