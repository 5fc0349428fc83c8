//! Configurations that are valid and unusual: each with the incident in its middle, which is repaired.

use crate::machine::Machine;

/// The repair reaches its end, and what is declared serves.
#[track_caller]
fn assert_repaired(machine: &Machine, listener: i32) {
    let repair = machine.sh("sshd-mend repair --json");
    let json = repair.json();
    assert_eq!((repair.status, &json["verdict"]), (0, &"repaired".into()), "{json:#}\n{}", machine.state());
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    machine.sh("sshd-mend check").ok();
}

/// ssh.service fails and is started again by systemd, over and over; each attempt removes /run/sshd.
#[test]
fn a_unit_that_restarts_itself_is_stopped_first() {
    for (root, every) in [("trixie", "100ms"), ("trixie", "1s"), ("bookworm", "1s"), ("bookworm", "5s")] {
        let machine = Machine::with_package(root);
        machine.sh("systemctl stop ssh.service; mkdir -p /run/sshd; /usr/sbin/sshd; until [ -s /run/sshd.pid ]; do :; done").ok();
        let listener = machine.number("cat /run/sshd.pid");
        machine.replace_program("/usr/sbin/sshd");
        machine.drop_in(
            "ssh.service",
            &format!("[Service]\nRestart=always\nRestartSec={every}\nRestartPreventExitStatus=\n[Unit]\nStartLimitIntervalSec=0"),
        );
        assert_ne!(machine.sh("systemctl start ssh.service").status, 0, "the port is taken");
        machine
            .wait_until("it restarts itself", |machine| machine.number("systemctl show -P NRestarts ssh.service") > 1);
        assert_repaired(&machine, listener);
    }
}

/// An orphan serves, and the stock unit fails for a reason of its own. Nothing can be done about that, and /run/sshd stays.
#[test]
fn a_unit_that_fails_before_its_program_leaves_the_orphan_or_a_rescue() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.sh("systemctl -q disable ssh.socket; systemctl -q enable ssh.service").ok();
    machine.replace_program("/usr/sbin/sshd");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false\n[Unit]\nStartLimitIntervalSec=0");
    assert_ne!(machine.sh("systemctl start ssh.service").status, 0);
    machine.wait_until("it restarts itself", |machine| machine.number("systemctl show -P NRestarts ssh.service") > 1);
    let repair = machine.sh("sshd-mend repair --json");
    machine.assert_login();
    assert_eq!(repair.status, 2, "{repair:#?}");
    assert!(!machine.is_alive(listener), "{repair:#?}");
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login();
}

/// sshd serves, and systemd waits for it to say so until it kills it and starts it again.
#[test]
fn a_unit_whose_start_never_ends_is_left_to_systemd() {
    let units = [
        "[Service]\nTimeoutStartSec=20\nUnsetEnvironment=NOTIFY_SOCKET",
        "[Service]\nType=forking\nTimeoutStartSec=20\nExecStart=\nExecStart=/usr/sbin/sshd",
    ];
    for unit in units {
        let machine = Machine::with_package("trixie");
        machine.drop_in("ssh.service", unit);
        machine.sh("systemctl restart --no-block ssh.service").ok();
        machine.wait_until("systemd starts it again", |machine| {
            machine.number("systemctl show -P NRestarts ssh.service") > 0 && machine.login().status == 0
        });
        machine.replace_program("/usr/sbin/sshd");
        let hook = machine.sh("sshd-mend hook").ok();
        assert!(hook.stdout.contains("job-pending"), "{hook:#?}");
        machine.assert_login();
    }
}

/// `sshd -T` tells where it listens only for some connection.
#[test]
fn a_match_for_a_local_port() {
    for root in ["trixie", "bookworm"] {
        let machine = Machine::with_package(root);
        machine.sh("printf 'Match LocalPort 2200\n X11Forwarding no\n' >/etc/ssh/sshd_config.d/a.conf; systemctl restart ssh.service").ok();
        machine.replace_program("/usr/sbin/sshd");
        assert_repaired(&machine, machine.main_pid("ssh.service"));
    }
}

/// A socket in LISTEN is no connection, whatever its family.
#[test]
fn sockets_of_other_families_do_not_make_a_listener_a_session() {
    let machine = Machine::with_package("trixie");
    // VSOCK has no namespaces: the port must be nobody else's on this host.
    let vsock = format!("vsock::{}", std::process::id() + 100_000);
    machine.drop_in("ssh.socket", &format!("[Socket]\nListenStream={vsock}\nListenStream=/run/ssh-extra"));
    machine
        .sh("systemctl -q disable --now ssh.service; systemctl -q enable ssh.socket; systemctl start ssh.socket
             ssh root@127.0.0.1 true")
        .ok();
    let healthy = machine.sh("sshd-mend check --json").ok().json();
    assert_eq!(healthy["listeners"].as_array().map(Vec::len), Some(1), "{healthy:#}");
    machine.sh("systemctl stop ssh.service ssh.socket; mkdir -p /run/sshd").ok();
    let listener = machine.number(&format!(
        "systemd-socket-activate --listen='[::]:22' --listen={vsock} --listen=/run/ssh-extra /usr/sbin/sshd -D >/dev/null 2>&1 </dev/null &
         listener=$!; until ssh root@127.0.0.1 true 2>/dev/null; do kill -0 $listener; done; echo $listener"
    ));
    machine.replace_program("/usr/sbin/sshd");
    assert!(machine.sh(&format!("ls -l /proc/{listener}/fd")).ok().stdout.matches("socket:").count() >= 3);
    assert_repaired(&machine, listener);
}

/// Configurations that were upgraded over years: sshd says so before it says what counts.
#[test]
fn warnings_of_sshd_are_not_errors() {
    for old in [
        "echo 'UsePrivilegeSeparation yes' >/etc/ssh/sshd_config.d/old.conf",
        "echo 'HostKey /etc/ssh/ssh_host_dsa_key' >/etc/ssh/sshd_config.d/old.conf
         for type in rsa ecdsa ed25519; do echo HostKey /etc/ssh/ssh_host_${type}_key; done >>/etc/ssh/sshd_config.d/old.conf",
        "printf 'KeyRegenerationInterval 3600\\nServerKeyBits 1024\\nRSAAuthentication yes\\n' >/etc/ssh/sshd_config.d/old.conf",
    ] {
        let machine = Machine::with_package("trixie");
        machine.sh(old).ok();
        let said = machine.sh("sshd -t 2>&1").ok().stdout;
        assert!(!said.is_empty(), "{old}: the fault did not happen");
        let listener = machine.locked_out();
        let dry = machine.sh("sshd-mend repair --dry-run --json").json();
        assert_eq!(dry["refusal"], serde_json::Value::Null, "{dry:#}");
        assert_repaired(&machine, listener);
    }
}

/// A file of sshd_config.d and a host key of another user, 0600: root's sshd reads them, and so does the trial.
#[test]
fn files_of_other_users_are_read() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("echo 'HostKey /etc/ssh/vault_key' >/etc/ssh/sshd_config.d/vault.conf; chmod 600 /etc/ssh/sshd_config.d/vault.conf
             ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/vault_key; chown user /etc/ssh/vault_key /etc/ssh/sshd_config.d/vault.conf")
        .ok();
    let listener = machine.incident();
    machine.replace_program("/usr/sbin/sshd");
    assert_repaired(&machine, listener);
}

#[test]
fn addresses_bound_to_an_interface_are_known() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("echo 'ListenAddress 0.0.0.0 rdomain lo' >/etc/ssh/sshd_config.d/rdomain.conf; systemctl restart ssh.service
             ss -Hltn 'sport = :22' | grep '0.0.0.0%lo:22'; ssh root@127.0.0.1 true")
        .ok();
    let main = machine.main_pid("ssh.service");
    machine.replace_program("/usr/sbin/sshd");
    assert_repaired(&machine, main);
    // Without the interface it would serve more, with another one less: only the latter is refused.
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("echo 'ListenAddress 127.0.0.1' >/etc/ssh/sshd_config.d/rdomain.conf").ok();
    let refused = machine.sh("sshd-mend repair --json").json();
    assert_eq!(refused["refusal"]["code"], "addresses-not-covered", "{refused:#}");
}

/// systemd removes quotes in a variable; a log file of sshd's own cannot be written from the confined unit.
#[test]
fn options_of_the_unit_are_those_that_systemd_passes() {
    for (opts, port) in [("-o 'Port 2222'", 2222), ("-E /var/log/sshd.log -p 2222", 2222), (r#"-p "2222""#, 2222)] {
        let machine = Machine::with_package("trixie");
        machine
            .sh(&format!(
                "cat >/etc/default/ssh <<'END'\nSSHD_OPTS=\"{}\"\nEND\nsystemctl restart ssh.service",
                opts.replace('"', "\\\"")
            ))
            .ok();
        machine.assert_login_at(&format!("-p {port} root@127.0.0.1"));
        let main = machine.main_pid("ssh.service");
        machine.replace_program("/usr/sbin/sshd");
        for bus in ["true", "systemctl stop dbus.socket dbus.service 2>/dev/null"] {
            machine.sh(bus).ok();
            let dry = machine.sh("sshd-mend repair --dry-run --json").json();
            assert_eq!(
                (&dry["refusal"], &dry["plan"][1]["action"]),
                (&serde_json::Value::Null, &"restart-unit".into()),
                "{opts}, {bus}: {dry:#}"
            );
        }
        machine.sh("sshd-mend repair").ok();
        assert_ne!(machine.main_pid("ssh.service"), main);
        machine.assert_login_at(&format!("-p {port} root@127.0.0.1"));
    }
}
