//! Every layout of sshd: an orphan at the addresses that were declared, an upgrade, and what was declared is what serves
//! afterwards.

use crate::machine::Machine;

/// A layout, and what is to be seen of it when all is well.
struct Layout<'a> {
    root: &'a str,
    /// Declares it; run before anything is started.
    declare: &'a str,
    /// Where people log in: arguments of ssh.
    logins: &'a [&'a str],
    /// `ActiveState` of ssh.socket and ssh.service afterwards.
    active: &'a str,
}

const SERVICE: &str = "inactive\nactive\n";
const SOCKET_AND_SERVICE: &str = "active\nactive\n";

impl Layout<'_> {
    fn assert_logins(&self, machine: &Machine) {
        for login in self.logins {
            let output = machine.sh(&format!("ssh {login} echo logged in"));
            assert_eq!(output.stdout, "logged in\n", "{login}: {output:#?}\n{}", machine.state());
        }
    }

    /// sshd serves what is declared, and systemd knows nothing of it; then apt replaces openssh-server.
    fn is_mended(&self) {
        let machine = Machine::with_package(self.root);
        machine.sh(&format!("systemctl stop ssh.socket ssh.service\n{}\nsystemctl daemon-reload", self.declare)).ok();
        let enabled = machine.sh("systemctl is-enabled ssh.socket ssh.service").stdout;
        // By hand, with the options that the unit gives it.
        let orphan = machine
            .sh(". /etc/default/ssh; mkdir -p /run/sshd; /usr/sbin/sshd $SSHD_OPTS; until [ -s /run/sshd.pid ]; do :; done; cat /run/sshd.pid")
            .ok();
        let orphan: i32 = orphan.stdout.trim().parse().unwrap_or_else(|_| panic!("{orphan:?}"));
        self.assert_logins(&machine);
        let run = machine.upgrade().ok();
        assert!(run.stdout.contains("REPAIRED"), "{run:#?}\n{}", machine.state());
        assert!(!machine.is_alive(orphan));
        self.assert_logins(&machine);
        assert_eq!(machine.sh("systemctl is-active ssh.socket ssh.service").stdout, self.active);
        assert_eq!(machine.sh("systemctl is-enabled ssh.socket ssh.service").stdout, enabled);
        let check = machine.sh("sshd-mend check");
        assert_eq!(check.status, 0, "{check:#?}");
    }

    /// The main process of an active unit is stale.
    fn is_restarted(&self) {
        let machine = Machine::with_package(self.root);
        machine.sh(&format!("systemctl stop ssh.socket ssh.service\n{}\nsystemctl daemon-reload", self.declare)).ok();
        machine.sh("systemctl start ssh.service").ok();
        self.assert_logins(&machine);
        let before = machine.sh("systemctl show -P MainPID ssh.service").stdout;
        machine.sh("cp -p /usr/sbin/sshd /usr/sbin/sshd.new && mv /usr/sbin/sshd.new /usr/sbin/sshd").ok();
        assert_eq!(machine.sh("sshd-mend check").status, 1);
        let hook = machine.sh("sshd-mend hook").ok();
        assert!(hook.stdout.contains("REPAIRED"), "{hook:#?}\n{}", machine.state());
        assert_ne!(machine.sh("systemctl show -P MainPID ssh.service").stdout, before);
        self.assert_logins(&machine);
        assert_eq!(machine.sh("sshd-mend check").status, 0);
    }
}

const LOOPBACK: &[&str] = &["root@127.0.0.1", "root@::1"];

#[test]
fn the_service_of_debian_13() {
    Layout { root: "trixie", declare: "", logins: LOOPBACK, active: SERVICE }.is_mended();
}

#[test]
fn the_service_of_debian_12() {
    Layout { root: "bookworm", declare: "", logins: LOOPBACK, active: SERVICE }.is_mended();
}

#[test]
fn the_socket_of_debian_12() {
    let declare = "systemctl -q disable ssh.service; systemctl -q enable ssh.socket";
    Layout { root: "bookworm", declare, logins: LOOPBACK, active: SOCKET_AND_SERVICE }.is_mended();
}

/// The links and drop-ins of Ubuntu 24.04's package and of its generator.
#[test]
fn ubuntus() {
    let declare = "systemctl -q disable ssh.service; systemctl -q enable ssh.socket
        mkdir -p /etc/systemd/system/ssh.service.requires /run/systemd/generator/ssh.socket.d /etc/systemd/system/ssh.socket.d
        ln -s /usr/lib/systemd/system/ssh.socket /etc/systemd/system/ssh.service.requires/ssh.socket
        printf '[Socket]\\nListenStream=\\nListenStream=0.0.0.0:22\\nListenStream=[::]:22\\nBindIPv6Only=ipv6-only\\nFreeBind=yes\\n' >/etc/systemd/system/ssh.socket.d/addresses.conf";
    for root in ["trixie", "bookworm"] {
        Layout { root, declare, logins: LOOPBACK, active: SOCKET_AND_SERVICE }.is_mended();
    }
}

/// Debian 12 and 13 ship no `ssh@.service`: who wants it brings it.
#[test]
fn a_socket_with_a_service_for_each_connection() {
    let declare = "systemctl -q disable ssh.service; systemctl -q enable ssh.socket
        mkdir -p /etc/systemd/system/ssh.socket.d
        printf '[Socket]\\nAccept=yes\\n' >/etc/systemd/system/ssh.socket.d/accept.conf";
    let template = "printf '[Service]\\nExecStart=-/usr/sbin/sshd -i\\nStandardInput=socket\\nRuntimeDirectory=sshd\\nRuntimeDirectoryPreserve=yes\\nRuntimeDirectoryMode=0755\\n' >/etc/systemd/system/ssh@.service";
    let machine = Machine::with_package("trixie");
    machine.incident();
    machine.sh(&format!("{declare}\nsystemctl daemon-reload")).ok();
    machine.upgrade_without_hook().ok();
    let refused = machine.sh("sshd-mend repair --json").json();
    assert_eq!(refused["refusal"]["code"], "unit-missing", "{refused:#}");
    let declare = format!("{declare}\n{template}");
    Layout { root: "trixie", declare: &declare, logins: LOOPBACK, active: "active\ninactive\n" }.is_mended();
}

#[test]
fn ports_and_addresses() {
    let config = |text: &str| format!("printf '{text}' >/etc/ssh/sshd_config.d/layout.conf");
    let address = "ip addr add 192.0.2.7/32 dev lo; ip addr add fe80::7/64 dev lo nodad";
    for (declare, logins) in [
        (config("Port 2222\\n"), &["-p 2222 root@127.0.0.1"][..]),
        (config("Port 22\\nPort 2222\\n"), &["root@127.0.0.1", "-p 2222 root@::1"]),
        (format!("{address}; {}", config("ListenAddress 192.0.2.7\\n")), &["root@192.0.2.7"]),
        (config("AddressFamily inet6\\n"), &["root@::1"]),
        (format!("{address}; {}", config("ListenAddress fe80::7%%lo\\n")), &["root@fe80::7%lo"]),
        ("echo 'SSHD_OPTS=\"-p 2223\"' >/etc/default/ssh".to_owned(), &["-p 2223 root@127.0.0.1"]),
    ] {
        Layout { root: "trixie", declare: &declare, logins, active: SERVICE }.is_mended();
    }
}

#[test]
fn with_and_without_the_alias() {
    for declare in [
        "rm -f /etc/systemd/system/sshd.service",
        "ln -sf /usr/lib/systemd/system/ssh.service /etc/systemd/system/sshd.service",
    ] {
        Layout { root: "trixie", declare, logins: LOOPBACK, active: SERVICE }.is_mended();
    }
}

#[test]
fn a_mount_namespace_of_its_own_and_a_path_through_a_link() {
    let drop_in = |text: &str| {
        format!(
            "mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\n{text}' >/etc/systemd/system/ssh.service.d/layout.conf"
        )
    };
    for declare in [
        drop_in("PrivateTmp=yes\\nProtectSystem=full\\nProtectHome=read-only\\nReadWritePaths=/run\\n"),
        drop_in("ExecStart=\\nExecStart=/sbin/sshd -D $SSHD_OPTS\\n"),
    ] {
        Layout { root: "trixie", declare: &declare, logins: LOOPBACK, active: SERVICE }.is_restarted();
    }
}

#[test]
fn another_instance_is_restarted_through_its_unit() {
    let machine = Machine::with_package("trixie");
    let orphan = machine.incident();
    machine
        .sh("sed 's/sshd -D/sshd -D -p 2222 -o PidFile=none/; /^Alias/d' /usr/lib/systemd/system/ssh.service >/etc/systemd/system/sshd-2222.service
             systemctl daemon-reload; systemctl start sshd-2222.service")
        .ok();
    let mut session = machine.open_session("survivor");
    machine.upgrade_without_hook().ok();
    let before = machine.sh("systemctl show -P MainPID sshd-2222.service").stdout;

    // What speaks against its restart keeps nobody from being let in at port 22.
    machine
        .sh("sed -i 's/-p 2222/-p 2222 -o Nonsense=1/' /etc/systemd/system/sshd-2222.service; systemctl daemon-reload")
        .ok();
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 1, "one thing is left: {repair:#?}\n{}", machine.state());
    assert!(!machine.is_alive(orphan));
    assert_eq!(machine.sh("systemctl show -P MainPID sshd-2222.service").stdout, before, "its listener lives");
    machine.assert_login();
    let check = machine.sh("sshd-mend repair --json").json();
    assert_eq!(check["refusal"]["code"], "config-invalid", "{check:#}");

    machine.sh("sed -i 's/ -o Nonsense=1//' /etc/systemd/system/sshd-2222.service; systemctl daemon-reload").ok();
    let repair = machine.sh("sshd-mend repair");
    assert_eq!(repair.status, 0, "{repair:#?}\n{}", machine.state());
    assert_ne!(machine.sh("systemctl show -P MainPID sshd-2222.service").stdout, before);
    machine.sh("ssh -p 2222 root@127.0.0.1 true").ok();
    machine.assert_login();
    assert!(machine.session_is_open("survivor", &mut session));
    session.kill().expect("the client is ours");
    session.wait().expect("the client ends");
    assert_eq!(machine.sh("sshd-mend check").status, 0);
}

/// What goes wrong with one instance ends no way in to the other.
#[test]
fn one_instance_that_fails_takes_no_other_along() {
    let instance = "sed 's/sshd -D/sshd -D -p 2222 -o PidFile=none/; /^Alias/d; s/^RuntimeDirectory=.*/RuntimeDirectory=sshd-2222/' /usr/lib/systemd/system/ssh.service >/etc/systemd/system/sshd-2222.service
        systemctl daemon-reload; systemctl start sshd-2222.service";
    for (spoil, rescued) in [
        // systemd refuses to restart the instance: it goes on as it is.
        (
            "mkdir -p /etc/systemd/system/sshd-2222.service.d; printf '[Unit]\\nRefuseManualStop=yes\\n' >/etc/systemd/system/sshd-2222.service.d/x.conf",
            false,
        ),
        // ssh.service cannot start: it is rescued, and the instance goes on meanwhile.
        (
            "mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\nExecStartPre=/bin/false\\n' >/etc/systemd/system/ssh.service.d/x.conf",
            true,
        ),
    ] {
        let machine = Machine::with_package("trixie");
        let orphan = machine.incident();
        machine.sh(instance).ok();
        machine.upgrade_without_hook().ok();
        machine.sh(&format!("{spoil}; systemctl daemon-reload")).ok();
        let repair = machine.sh("sshd-mend repair --json");
        assert_ne!(repair.status, 0, "{repair:#?}");
        assert_eq!(repair.json()["verdict"] == "rescued", rescued, "{repair:#?}\n{}", machine.state());
        assert!(!machine.is_alive(orphan));
        machine.assert_login();
        machine.sh("ssh -p 2222 root@127.0.0.1 true").ok();
        if !rescued {
            assert_eq!(machine.sh("systemctl is-active ssh.service").stdout, "active\n");
        }
    }
}
