//! docs/fleet.md: each command is read from the page, and run in its order.

use crate::controller::{Controller, Host, checkout};
use crate::machine::package;
use crate::network::Network;

/// Where a block of commands is to be run.
#[derive(Debug, PartialEq)]
enum At {
    Controller,
    /// Of the host that nobody can log into.
    Console,
}

/// The blocks of the page, with the number of the section in which each is.
fn blocks(page: &str) -> Vec<(usize, At, String)> {
    let (mut section, mut blocks, mut open): (usize, Vec<_>, Option<(At, String)>) = (0, Vec::new(), None);
    for line in page.lines() {
        match (&mut open, line) {
            (None, "```sh") => open = Some((At::Controller, String::new())),
            (None, "```sh console") => open = Some((At::Console, String::new())),
            (None, line) => {
                assert!(!line.starts_with("```") && !line.starts_with("    "), "a block of no known kind: {line}");
                section += usize::from(line.starts_with("## "));
            }
            (Some(_), "```") => {
                let (at, text) = open.take().expect("a block");
                blocks.push((section, at, text));
            }
            (Some((_, text)), line) => *text += &format!("{line}\n"),
        }
    }
    blocks
}

#[test]
fn every_command_of_the_page_works_in_its_order() {
    let network = Network::new();
    let names = ["web1", "web2", "web3"].into_iter().enumerate();
    let hosts: Vec<Host> = names.map(|(number, name)| Host::boot(&network, "trixie-managed", name, number)).collect();
    let [pilot, stale, _] = hosts.as_slice() else { unreachable!() };
    let controller = Controller::new(&network);
    controller.manages(&hosts);
    controller
        .sh("printf '\\n[pilot]\\nweb1\\n' >>inventory.ini; mkdir -p sshd-mend/packaging/out; rm -r a/collections")
        .ok();
    std::os::unix::fs::symlink(
        checkout().join("packaging/ansible"),
        controller.directory().join("sshd-mend/packaging/ansible"),
    )
    .expect("a link");
    std::fs::copy(package(), controller.directory().join("sshd-mend/packaging/out/sshd-mend_0_amd64.deb"))
        .expect("a copy");
    // The incident, at one host of the pilot and at one that is not of it.
    let listeners: Vec<i32> = [pilot, stale]
        .map(|host| {
            host.machine.without_prevention();
            let listener = host.machine.incident();
            host.machine.upgrade().ok();
            listener
        })
        .to_vec();

    let page = std::fs::read_to_string(checkout().join("docs/fleet.md")).expect("the page");
    let blocks = blocks(&page);
    assert!(blocks.len() >= 9, "{blocks:#?}");
    for (section, at, commands) in blocks {
        if at == At::Console {
            stale.machine.sh(&commands).ok();
            continue;
        }
        let output = controller.sh(&commands).ok();
        match section {
            2 => {
                assert!(pilot.machine.is_alive(listeners[0]), "the pilot touched something: {output:#?}");
                assert_ne!(stale.machine.sh("[ -e /usr/sbin/sshd-mend ]").status, 0, "not of the pilot");
            }
            3 => assert!(output.stdout.contains("2 not installed"), "{output:#?}"),
            4 => assert_eq!(stale.machine.sh("grep -c ^HOOK=repair /etc/default/sshd-mend").stdout, "1\n"),
            5 => {
                let alive =
                    [(pilot, listeners[0]), (stale, listeners[1])].map(|(host, pid)| host.machine.is_alive(pid));
                assert_eq!(alive, [false, false], "{output:#?}");
            }
            6 => assert_eq!(pilot.machine.sh("systemctl is-enabled sshd-mend.timer").stdout, "enabled\n"),
            8 => {}
            _ => assert!(!output.stdout.is_empty()),
        }
    }
    for host in &hosts {
        assert_ne!(host.machine.sh("[ -e /usr/sbin/sshd-mend ]").status, 0, "{} still has it", host.name);
        assert!(controller.logs_in(&host.address), "{}", host.name);
    }
}
