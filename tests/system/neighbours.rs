//! Machines on which something else starts an sshd, or serves SSH beside it: the real programs, from Debian's packages.

use crate::machine::Machine;

impl Machine {
    /// The process that listens at port 22.
    fn holder(&self) -> i32 {
        self.number("ss -Hltnp 'sport = :22' | sed -n 's/.*pid=\\([0-9]*\\),fd=[0-9]*)).*/\\1/p' | head -n 1")
    }

    fn wait_for_login(&self) {
        self.wait_until("somebody serves", |machine| machine.login().status == 0);
    }
}

/// An sshd that was started by hand, by a job of at, or by whatever starts it once, is an orphan like any other.
#[test]
fn an_sshd_that_at_has_started() {
    let machine = Machine::with_package("trixie");
    machine.install("at");
    machine
        .sh("systemctl start atd.service; systemctl stop ssh.service; mkdir -p /run/sshd; echo /usr/sbin/sshd | at now")
        .ok();
    machine.wait_for_login();
    let listener = machine.holder();
    let mut session = machine.open_session("bystander");
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("sshd-mend hook").ok();
    machine.assert_replaced(listener);
    session.assert_open();
    assert_eq!(machine.active("ssh.service"), "active");
}

/// A supervisor starts its sshd again as soon as it ends. Whoever is first has the port; people can log in either way, and
/// no listener stays stale.
fn under_a_supervisor(package: &str, start: &str) {
    let machine = Machine::with_package("trixie");
    machine.install(package);
    machine.sh("systemctl stop ssh.service; mkdir -p /run/sshd").ok();
    machine.sh(start).ok();
    machine.wait_for_login();
    let listener = machine.holder();
    let mut session = machine.open_session("bystander");
    machine.replace_program("/usr/sbin/sshd");
    let repair = machine.sh("sshd-mend repair --json");
    machine.assert_login();
    assert!(!machine.is_alive(listener), "{repair:#?}\n{}", machine.state());
    session.assert_open();
    assert!(["repaired", "unverified"].contains(&repair.json()["verdict"].as_str().unwrap_or_default()), "{repair:#?}");
    for _ in 0..3 {
        machine.sh("sshd-mend hook").ok();
        machine.assert_login();
    }
    machine.wait_for_end_of_repair();
    machine.assert_login();
}

#[test]
fn an_sshd_under_runit() {
    under_a_supervisor(
        "runit",
        "mkdir /etc/service/sshd; printf '#!/bin/sh\\nexec /usr/sbin/sshd -D\\n' >/etc/service/sshd/run; chmod +x /etc/service/sshd/run
         systemd-run --quiet --unit=runit runsvdir -P /etc/service",
    );
}

#[test]
fn an_sshd_under_supervisor() {
    under_a_supervisor(
        "supervisor",
        "printf '[program:sshd]\\ncommand=/usr/sbin/sshd -D\\n' >/etc/supervisor/conf.d/sshd.conf; supervisorctl update",
    );
}

/// monit starts the unit again while it is repaired: both want the same.
#[test]
fn a_unit_that_monit_watches() {
    let machine = Machine::with_package("trixie");
    machine.install("monit");
    let listener = machine.incident();
    machine
        .sh("sed -i 's/set daemon .*/set daemon 1/' /etc/monit/monitrc; printf 'check process sshd with pidfile /run/sshd.pid\\nstart program = \"/usr/bin/systemctl start ssh.service\"\\n' >/etc/monit/conf.d/sshd
             systemctl restart monit.service")
        .ok();
    let mut session = machine.open_session("bystander");
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("sshd-mend hook").ok();
    machine.assert_replaced(listener);
    machine.sh("systemctl stop ssh.service ssh.socket").ok();
    machine.wait_for_login();
    session.assert_open();
}

/// Another SSH server at a port of its own is nobody's business.
#[test]
fn dropbear_at_another_port() {
    let machine = Machine::with_package("trixie");
    machine.install("dropbear-bin");
    machine.sh("mkdir -p /etc/dropbear; systemd-run --quiet --unit=dropbear dropbear -F -R -p 2222; systemctl is-active dropbear").ok();
    let dropbear = machine.main_pid("dropbear.service");
    let listener = machine.incident();
    machine.replace_program("/usr/sbin/sshd");
    machine.replace_program("/usr/sbin/dropbear");
    machine.sh("sshd-mend hook").ok();
    machine.assert_replaced(listener);
    assert!(machine.is_alive(dropbear));
}

/// Another SSH server took the place of sshd, which is disabled: there is nothing to do, and nothing is said.
#[test]
fn tinyssh_instead_of_sshd() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl -q disable --now ssh.service").ok();
    machine.install("tinysshd");
    machine.sh("systemctl enable --now tinysshd.socket; ss -Hltn 'sport = :22' | grep -q LISTEN").ok();
    machine.replace_program("/usr/sbin/sshd");
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.sh("sshd-mend check").ok();

    machine.sh("systemctl -q enable ssh.service").ok();
    assert_ne!(
        machine.sh("systemctl start ssh.service; sleep 0.1; systemctl is-active ssh.service").status,
        0,
        "the port is taken"
    );
    let repair = machine.sh("sshd-mend repair --json");
    repair.assert_verdict("refused", 2);
    assert_eq!(repair.json()["refusal"]["code"], "foreign-listener", "{repair:#?}");
    assert_eq!(machine.active("tinysshd.socket"), "active");
}

/// xinetd listens, and starts an sshd for each connection: none of them is a listener.
#[test]
fn sshd_under_xinetd() {
    let machine = Machine::with_package("trixie");
    machine.install("xinetd");
    machine
        .sh("systemctl -q disable --now ssh.service; mkdir -p /run/sshd
             printf 'service ssh\\n{\\nsocket_type = stream\\nwait = no\\nuser = root\\nserver = /usr/sbin/sshd\\nserver_args = -i\\n}\\n' >/etc/xinetd.d/ssh
             systemctl restart xinetd.service")
        .ok();
    machine.wait_for_login();
    let mut session = machine.open_session("bystander");
    machine.replace_program("/usr/sbin/sshd");
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.sh("sshd-mend check").ok();
    machine.sh("sshd-mend repair").ok();
    machine.assert_login();
    session.assert_open();
}

/// What systemd 257 generates by itself: a socket of the file system, and VSOCK on virtual machines, with an sshd for each
/// connection.
#[test]
fn the_sockets_that_systemd_generates() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl is-active sshd-unix-local.socket; [ -S /run/ssh-unix-local/socket ]").ok();
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.sh("sshd-mend check").ok();
    let listener = machine.incident();
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("sshd-mend hook").ok();
    machine.assert_replaced(listener);
    machine.assert_declared_units_are_back();
    machine.sh("systemctl is-active sshd-unix-local.socket").ok();
}
