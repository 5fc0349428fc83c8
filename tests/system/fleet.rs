//! Many hosts, managed from one with Ansible: the collection in packaging/ansible, against machines with addresses of their own.

use crate::controller::{Controller, Host, checkout};
use crate::machine::{Output, package};
use crate::network::Network;

/// What Ansible counts of a host at the end of a run, by its word: `changed`, `unreachable`, `failed`, …
fn counted(output: &Output, host: &str, what: &str) -> usize {
    let recap = output.stdout.split("PLAY RECAP").nth(1).unwrap_or_else(|| panic!("no recap: {output:#?}"));
    let line = recap.lines().find(|line| line.split_whitespace().next() == Some(host));
    let line = line.unwrap_or_else(|| panic!("nothing about {host}: {output:#?}"));
    let count = line.split(&format!("{what}=")).nth(1).and_then(|rest| rest.split_whitespace().next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{what}: {line}"))
}

/// The states of the hosts in the report, by their names.
fn states(controller: &Controller<'_>) -> Vec<(String, String)> {
    let report = controller.report();
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().expect("a text").to_owned();
    let mut states: Vec<_> =
        report.as_array().expect("rows").iter().map(|row| (text(row, "host"), text(row, "state"))).collect();
    states.sort();
    states
}

fn expected(states: &[(&str, &str)]) -> Vec<(String, String)> {
    states.iter().map(|(host, state)| ((*host).to_owned(), (*state).to_owned())).collect()
}

/// The incident and its upgrade: the listener is stale, and serves. Returns its pid.
fn stale(host: &Host) -> i32 {
    host.machine.install_package();
    host.machine.without_prevention();
    let listener = host.machine.incident();
    host.machine.upgrade_without_hook().ok();
    listener
}

#[test]
fn the_collection_is_clean_by_ansible_lint() {
    let network = Network::new();
    let controller = Controller::new(&network);
    let lint =
        |path: &str| controller.sh(&format!("cd {path}; ansible-lint --offline --project-dir . --profile production"));
    controller.sh(&format!("cp -r {}/packaging/ansible copy", checkout().display())).ok();
    lint("copy").ok();
    controller.sh("sed -i 's/ansible.builtin.apt:/apt:/' copy/roles/sshd_mend/tasks/file.yml").ok();
    assert_ne!(lint("copy").status, 0, "it sees what is wrong");
}

#[test]
fn three_of_four_in_the_incident_and_others() {
    let network = Network::new();
    let boot = |(number, name): (usize, &'static str)| Host::boot(&network, "trixie-managed", name, number);
    let hosts: Vec<Host> = ["healthy", "locked-out", "stale", "no-python", "refused", "not-installed"]
        .into_iter()
        .enumerate()
        .map(boot)
        .collect();
    let [healthy, locked_out, stale_host, no_python, refused, _] = hosts.as_slice() else { unreachable!() };
    healthy.machine.install_package();
    locked_out.machine.install_package();
    locked_out.machine.without_prevention();
    locked_out.machine.locked_out();
    let listeners = [stale(stale_host), stale(no_python)];
    no_python.machine.sh("rm /usr/bin/python3*").ok();
    let kept = stale(refused);
    refused.machine.sh("echo Nonsense >>/etc/ssh/sshd_config").ok();

    let controller = Controller::new(&network);
    let user = "ansible_user=user";
    healthy
        .machine
        .sh("cp -r /root/.ssh /home/user/; chown -R user: /home/user/.ssh; echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/user")
        .ok();
    controller.inventory(
        hosts.iter().map(|host| (host.name, host.address.as_str(), if host.name == healthy.name { user } else { "" })),
    );
    let report = controller.play("report", "").ok();
    let found = [
        ("healthy", "ok"),
        ("locked-out", "unreachable"),
        ("no-python", "warning"),
        ("not-installed", "not installed"),
        ("refused", "warning"),
        ("stale", "warning"),
    ];
    assert_eq!(states(&controller), expected(&found), "{report:#?}");
    assert!(report.stdout.contains("6 hosts: 1 unreachable, 1 not installed, 3 warning, 1 ok"), "{}", report.stdout);
    assert!(report.stdout.contains("perhaps it is locked out"), "{}", report.stdout);
    let rows = controller.report();
    assert_eq!(rows[0]["host"], "locked-out", "the worst is first: {rows:#}");
    assert!(
        rows.as_array().expect("rows").iter().any(|row| row["outcome"]["findings"][0]["code"] == "stale-orphan"),
        "{rows:#}"
    );

    let check = controller.play("repair", "--check");
    assert_eq!(
        (counted(&check, "stale", "changed"), counted(&check, "healthy", "changed")),
        (1, 0),
        "{}",
        check.stdout
    );
    assert!(stale_host.machine.is_alive(listeners[0]), "a check changed something: {}", check.stdout);
    let repair = controller.play("repair", "");
    assert_eq!(repair.status, 2, "two were left out: {repair:#?}");
    for host in [stale_host, no_python] {
        assert_eq!(counted(&repair, host.name, "changed"), 1, "{}", repair.stdout);
    }
    for host in [healthy, refused] {
        assert_eq!(
            (counted(&repair, host.name, "changed"), counted(&repair, host.name, "failed")),
            (0, 0),
            "{}",
            repair.stdout
        );
    }
    assert_eq!(counted(&repair, "not-installed", "failed"), 1, "{}", repair.stdout);
    assert_eq!(counted(&repair, "locked-out", "failed"), 1, "{}", repair.stdout);
    assert!(!stale_host.machine.is_alive(listeners[0]) && !no_python.machine.is_alive(listeners[1]));
    assert!(refused.machine.is_alive(kept), "what was refused is as it was");
    for host in [healthy, stale_host, no_python, refused] {
        assert!(controller.logs_in(&host.address), "{}", host.name);
    }

    // The person at the console.
    locked_out.machine.sh("sshd-mend repair").ok();
    refused.machine.sh("sed -i '$d' /etc/ssh/sshd_config").ok();
    let repair = controller.play("repair", "--limit '!not-installed'").ok();
    assert_eq!(counted(&repair, "refused", "changed"), 1, "{}", repair.stdout);
    let report = controller.play("report", "--limit '!not-installed'").ok();
    assert!(report.stdout.contains("5 hosts: 5 ok"), "{}", report.stdout);
    // And nothing is left to do.
    let repair = controller.play("repair", "--limit '!not-installed'").ok();
    assert!(hosts[..5].iter().all(|host| counted(&repair, host.name, "changed") == 0), "{}", repair.stdout);
}

/// A connection from before stays open when nobody can log in any more.
#[test]
fn an_open_connection_does_not_make_a_host_look_alive_and_is_a_way_in() {
    let network = Network::new();
    let host = Host::boot(&network, "trixie-managed", "web1", 0);
    host.machine.install_package();
    host.machine.without_prevention();
    let controller = Controller::new(&network);
    let hosts = [host];
    controller.manages(&hosts);
    controller.sh("ansible -i inventory.ini all -m ansible.builtin.raw -a true").ok();
    hosts[0].machine.locked_out();
    controller.sh("ansible -i inventory.ini all -m ansible.builtin.raw -a true").ok();
    controller.play("report", "").ok();
    assert_eq!(states(&controller), expected(&[("web1", "unreachable")]));
    let repair = controller.play("repair", "").ok();
    assert_eq!(counted(&repair, "web1", "changed"), 1, "{}", repair.stdout);
    assert!(controller.logs_in(&hosts[0].address));
}

#[test]
fn the_repair_stops_at_the_first_host_that_is_not_proven() {
    let network = Network::new();
    let names = ["web1", "web2", "web3", "web4"].into_iter().enumerate();
    let hosts: Vec<Host> = names.map(|(number, name)| Host::boot(&network, "trixie-managed", name, number)).collect();
    let listeners: Vec<i32> = hosts.iter().map(stale).collect();
    let controller = Controller::new(&network);
    controller.manages(&hosts);
    // For the host itself the repair succeeds: the fresh sshd lets a client get as far as authentication, but not this one further.
    hosts[1].machine.sh("echo 'AllowUsers user' >>/etc/ssh/sshd_config").ok();
    // Whatever strategy the controller is set to.
    let repair = controller.sh(
        "ANSIBLE_STRATEGY=free ansible-playbook -i inventory.ini sshd_mend.fleet.repair -e '{\"sshd_mend_batches\": [1, 1, 2]}'",
    );
    assert_eq!(repair.status, 2, "{repair:#?}");
    assert!(repair.stdout.contains("web2 is not proven: a new login fails"), "{}", repair.stdout);
    let alive: Vec<bool> = hosts.iter().zip(&listeners).map(|(host, pid)| host.machine.is_alive(*pid)).collect();
    assert_eq!(alive, [false, false, true, true], "{}", repair.stdout);
}

#[test]
fn the_role_writes_settings_first_and_is_idempotent() {
    let network = Network::new();
    let hosts = [Host::boot(&network, "trixie-managed", "web1", 0), Host::boot(&network, "trixie-managed", "web2", 1)];
    let [one, bare] = &hosts;
    bare.machine.sh("rm /usr/bin/python3*").ok();
    // A package run of a host in the incident: with HOOK=repair the installation itself would repair it.
    one.machine.without_prevention();
    let listener = one.machine.incident();
    one.machine.upgrade().ok();
    let controller = Controller::new(&network);
    controller.manages(&hosts);
    let arguments = format!("-e sshd_mend_package_file={} -e sshd_mend_timer=true", package().display());
    let limited = format!("{arguments} --limit web1");

    let check = controller.play("install", &format!("{limited} --check --diff")).ok();
    assert!(counted(&check, "web1", "changed") >= 2, "{}", check.stdout);
    assert_ne!(
        one.machine.sh("[ -e /etc/default/sshd-mend ] || [ -e /usr/sbin/sshd-mend ]").status,
        0,
        "a check changed something"
    );

    let installed = controller.play("install", &arguments);
    assert_eq!(installed.status, 2, "{installed:#?}");
    assert_eq!(
        (counted(&installed, "web1", "failed"), counted(&installed, "web2", "failed")),
        (0, 1),
        "{}",
        installed.stdout
    );
    assert!(installed.stdout.contains("There is no python3"), "{}", installed.stdout);
    assert_eq!(one.machine.sh("grep -v '^#' /etc/default/sshd-mend").ok().stdout, "HOOK=report\n");
    assert!(one.machine.is_alive(listener), "the hook did more than report");
    assert_eq!(one.machine.active("sshd-mend.timer"), "active");

    for mode in ["", "--check"] {
        let again = controller.play("install", &format!("{limited} {mode}")).ok();
        assert_eq!(counted(&again, "web1", "changed"), 0, "{mode}: {}", again.stdout);
    }
    let active = controller.play(
        "install",
        &format!("{limited} -e sshd_mend_hook=repair -e '{{\"sshd_mend_settings\": {{\"GRACE\": 7}}}}'"),
    );
    assert_eq!(counted(&active.ok(), "web1", "changed"), 1);
    assert_eq!(one.machine.sh("grep -v '^#' /etc/default/sshd-mend").ok().stdout, "HOOK=repair\nGRACE=7\n");
    let wrong = controller.play("install", &format!("{limited} -e sshd_mend_hook=perhaps"));
    assert_eq!(wrong.status, 2, "{wrong:#?}");
    assert!(wrong.stdout.contains("value of sshd_mend_hook must be one of"), "{}", wrong.stdout);
}

/// An apt repository inside the machine, signed out here; returns the public key's file.
fn repository(host: &Host, controller: &Controller<'_>) -> String {
    host.machine.copy_in(&package(), "sshd-mend.deb");
    let release = host
        .machine
        .sh("mkdir -p /srv/repo/dists/stable/main/binary-amd64; cd /srv/repo; cp /lab/sshd-mend.deb .; rm /etc/apt/sources.list
             apt-ftparchive packages . >dists/stable/main/binary-amd64/Packages
             cd dists/stable; apt-ftparchive -o APT::FTPArchive::Release::Codename=stable -o APT::FTPArchive::Release::Components=main \
                 -o APT::FTPArchive::Release::Architectures=amd64 release . >/lab/Release; cat /lab/Release")
        .ok();
    std::fs::write(controller.directory().join("Release"), release.stdout).expect("a file");
    let signed = controller
        .sh("mkdir -p -m 0700 gnupg; export GNUPGHOME=$PWD/gnupg
             gpg --batch --quiet --passphrase '' --quick-generate-key 'The test <root@localhost>' 2>gpg.log
             gpg --armor --export >key.asc; gpg --batch --quiet --clearsign <Release; gpgconf --kill all")
        .ok();
    host.machine.sh(&format!("cat >/srv/repo/dists/stable/InRelease <<'E'\n{}E", signed.stdout)).ok();
    controller.directory().join("key.asc").display().to_string()
}

#[test]
fn the_role_installs_from_a_repository_whose_signature_is_right() {
    let network = Network::new();
    let hosts = [Host::boot(&network, "trixie-managed", "web1", 0)];
    let controller = Controller::new(&network);
    controller.manages(&hosts);
    let key = repository(&hosts[0], &controller);
    let arguments = format!("-e sshd_mend_repository=file:/srv/repo -e sshd_mend_repository_key={key}");
    hosts[0].machine.sh("cd /srv/repo/dists/stable; cp InRelease kept; sed -i 's/^Date: ./&1/' InRelease").ok();
    let refused = controller.play("install", &arguments);
    assert_eq!((refused.status, counted(&refused, "web1", "failed")), (2, 1), "{refused:#?}");
    assert_ne!(hosts[0].machine.sh("[ -e /usr/sbin/sshd-mend ]").status, 0);
    hosts[0].machine.sh("cd /srv/repo/dists/stable; mv kept InRelease").ok();
    let installed = controller.play("install", &arguments).ok();
    assert_eq!(counted(&installed, "web1", "changed"), 1, "{}", installed.stdout);
    hosts[0].machine.sh("sshd-mend check").ok();
    for mode in ["", "--check"] {
        let again = controller.play("install", &format!("{arguments} {mode}")).ok();
        assert_eq!(counted(&again, "web1", "changed"), 0, "{mode}: {}", again.stdout);
    }
}

#[test]
fn a_host_that_wants_a_password_is_a_row_and_no_error() {
    let network = Network::new();
    let hosts = [Host::boot(&network, "trixie-managed", "web1", 0), Host::boot(&network, "trixie-managed", "web2", 1)];
    hosts[0].machine.install_package();
    hosts[1]
        .machine
        .sh("cp -r /root/.ssh /home/user/; chown -R user: /home/user/.ssh; echo 'user ALL=(ALL) ALL' >/etc/sudoers.d/user")
        .ok();
    let controller = Controller::new(&network);
    let entries = [(&hosts[0], ""), (&hosts[1], "ansible_user=user")];
    controller.inventory(entries.map(|(host, variables)| (host.name, host.address.as_str(), variables)));
    let report = controller.play("report", "").ok();
    assert_eq!(states(&controller), expected(&[("web1", "ok"), ("web2", "unreadable")]), "{report:#?}");
}

#[test]
fn a_host_that_returns_nonsense_is_a_row_and_no_error() {
    let answers = [
        ("text", "printf 'no such thing\\n\\033[2J'"),
        ("json", "echo '{\"schema\": 2, \"exit_status\": \"{{ 1 }}\"}'"),
        ("deep", "head -c 100000 /dev/zero | tr '\\0' '['"),
        ("nothing", ":"),
        ("list", "echo '{\"schema\": 2, \"exit_status\": []}'"),
        ("nan", "echo '{\"schema\": 2, \"exit_status\": 0, \"x\": NaN}'"),
        (
            "nested",
            "printf '{\"schema\": 2, \"exit_status\": 0, \"x\": '; head -c 900 /dev/zero | tr '\\0' '['; head -c 900 /dev/zero | tr '\\0' ']'; echo '}'",
        ),
        (
            "odd",
            "echo '{\"schema\": 2, \"exit_status\": 1, \"findings\": [7, {\"message\": \"{{ 7 * 7 }}\\u001b[2J\"}], \"refusal\": []}'",
        ),
    ];
    let network = Network::new();
    let host = Host::boot(&network, "trixie-managed", "web1", 0);
    let controller = Controller::new(&network);
    controller.inventory(answers.iter().map(|(name, _)| (*name, host.address.as_str(), "")));
    for (name, script) in answers {
        host.machine
            .sh(&format!("cat >/usr/sbin/sshd-mend <<'E'\n#!/bin/sh\n{script}\nE\nchmod 755 /usr/sbin/sshd-mend"))
            .ok();
        let report = controller.play("report", &format!("--limit {name}")).ok();
        let expected = if name == "odd" { "warning" } else { "unreadable" };
        let rows = controller.report();
        assert_eq!(rows[0]["state"], expected, "{name}: {rows:#}\n{report:#?}");
        assert!(!report.stdout.contains('\u{1b}') && !report.stdout.contains("49"), "{name}: {report:#?}");
        let repair = controller.play("repair", &format!("--limit {name}"));
        assert_eq!(repair.status, if name == "odd" { 0 } else { 2 }, "{name}: {repair:#?}");
    }
}
