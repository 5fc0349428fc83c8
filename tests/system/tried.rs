//! HEALTHY means that it was tried: what would not start again, what still uses old libraries, what serves in place of a
//! unit that has failed, how far a client gets.

use crate::machine::{Machine, Output};

const MISTAKE: &str = "printf 'NoSuchOption yes\\n' >/etc/ssh/sshd_config.d/mistake.conf";
const COMPLAINT: &str = "/etc/ssh/sshd_config.d/mistake.conf: line 1: Bad configuration option: NoSuchOption";

impl Output {
    /// The status, the finding, and these texts on the screen.
    #[track_caller]
    pub fn warns(&self, status: i32, texts: &[&str]) {
        assert_eq!(self.status, status, "{self:#?}");
        for text in texts {
            assert!(self.stdout.contains(text), "no \"{text}\" in {self:#?}");
        }
    }
}

#[test]
fn a_mistake_in_the_configuration_under_a_running_sshd() {
    let machine = Machine::with_package("trixie");
    // What passes is remembered, and tried again once it has changed.
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.sh(MISTAKE).ok();
    machine.sh("sshd-mend check").warns(1, &["SSHD WARNING - AT RISK", "would not start again", COMPLAINT]);
    let json = machine.sh("sshd-mend check --json");
    json.assert_verdict("at-risk", 1);
    json.assert_finding("would-not-restart");
    machine.sh("sshd-mend hook").warns(0, &[COMPLAINT]);
    machine.sh("sshd-mend repair").warns(1, &[COMPLAINT]);
    machine.assert_login();
    machine.sh("rm /etc/ssh/sshd_config.d/mistake.conf; sshd-mend check").ok();
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
}

#[test]
fn host_keys_that_are_gone_under_a_running_sshd() {
    let machine = Machine::with_package("trixie");
    machine.sh("rm /etc/ssh/ssh_host_*").ok();
    machine.sh("sshd-mend check").warns(1, &["would not start again", "no hostkeys available"]);
    machine.sh("sshd-mend hook").warns(0, &["no hostkeys available"]);
    machine.sh("ssh-keygen -q -A; sshd-mend check").ok();
}

/// Ubuntu's default. The next connection makes systemd start it, and the failure takes the socket down.
#[test]
fn the_same_where_the_socket_waits_for_the_first_connection() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::with_package(suite);
        machine
            .sh("systemctl -q disable --now ssh.service; mkdir -p /run/sshd; systemctl -q enable --now ssh.socket")
            .ok();
        assert_eq!(machine.active("ssh.service"), "inactive");
        machine.sh("sshd-mend check").warns(0, &["systemd listens at", "the sshd on disk was tried and answers"]);
        assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
        machine.sh(MISTAKE).ok();
        machine
            .sh("sshd-mend check")
            .warns(2, &["SSHD CRITICAL - BROKEN", "will not start for the next connection", COMPLAINT]);
        machine.sh("sshd-mend hook").warns(0, &["SSHD CRITICAL", COMPLAINT]);
        assert_eq!(machine.active("ssh.service"), "inactive", "nothing was started");
        machine.sh("rm /etc/ssh/sshd_config.d/mistake.conf; sshd-mend check").ok();
        // Until it is started, /run/sshd may be missing: what can be tried is valid.
        machine.sh("rmdir /run/sshd").ok();
        machine.sh("sshd-mend check").warns(0, &["the configuration of the sshd on disk is valid"]);
        machine.assert_login();
    }
}

/// A library that is replaced as dpkg does it. As long as the listener answers, nobody is told by the hook.
#[test]
fn libraries_from_before_an_upgrade() {
    let machine = Machine::with_package("trixie");
    machine.sh("sshd-mend hook").ok();
    machine.replace_program("$(ldd /usr/sbin/sshd | awk '/libcrypto/ {print $3}' | xargs readlink -f)");
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    machine.sh("sshd-mend check").warns(0, &["still uses libraries from before an upgrade", "libcrypto.so.3"]);
    machine.sh("sshd-mend check --json").assert_finding("stale-libraries");
    // The listener's next child fails: every connection is closed.
    machine.sh("mv /usr/lib/openssh/sshd-session /usr/lib/openssh/moved").ok();
    machine.sh("sshd-mend hook").warns(0, &["SSHD CRITICAL", "libcrypto.so.3"]);
    machine.sh("sshd-mend check").warns(2, &["closes every", "libcrypto.so.3"]);
    machine
        .sh("mv /usr/lib/openssh/moved /usr/lib/openssh/sshd-session; systemctl restart ssh.service; sshd-mend check")
        .ok();
}

/// In an emergency somebody starts one with systemd-run: it is not to be ended before ssh.service can start.
#[test]
fn an_sshd_of_another_unit_that_serves_while_ssh_service_has_failed() {
    for port in ["1022", "22"] {
        let machine = Machine::with_package("trixie");
        // Each automatic restart would remove /run/sshd from under the other one.
        machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false\nRestart=no");
        assert_ne!(machine.sh("systemctl restart ssh.service").status, 0);
        machine
            .sh(&format!(
                "mkdir -p /run/sshd; systemd-run --quiet --unit=breakglass /usr/sbin/sshd -D -o PidFile=none -p {port}"
            ))
            .ok();
        let login = format!("-p {port} root@127.0.0.1");
        machine.wait_until("it serves", |machine| machine.sh(&format!("ssh {login} true")).status == 0);
        let check = machine.sh("sshd-mend check");
        check.warns(2, &["ssh.service has failed", "of breakglass.service serves"]);
        assert!(!check.stdout.contains("nobody listens"), "{check:#?}");
        let repair = machine.sh("sshd-mend repair");
        assert_ne!(repair.status, 0, "{repair:#?}");
        if port == "22" {
            check.warns(2, &["systemctl stop breakglass.service; systemctl start ssh.service'"]);
        }
        machine.assert_login_at(&login);
        machine.remove_drop_in("ssh.service");
        machine
            .sh(match port {
                "22" => "systemctl stop breakglass.service; systemctl start ssh.service",
                _ => "sshd-mend repair",
            })
            .ok();
        machine.assert_login();
        machine.sh("sshd-mend check").ok();
    }
}

/// Each automatic restart of a unit that fails removes /run/sshd. A repair in vain is no reason that the other one stops
/// serving.
#[test]
fn a_repair_in_vain_does_not_close_the_sshd_of_another_unit() {
    for (restarts, command) in [("", "sshd-mend repair"), ("RestartSec=4", "sshd-mend hook")] {
        let machine = Machine::with_package("trixie");
        let failing = "[Service]\nExecStartPre=/bin/false";
        machine.drop_in("ssh.service", &format!("{failing}\nRestart=no"));
        assert_ne!(machine.sh("systemctl restart ssh.service").status, 0);
        machine
            .sh("mkdir -p /run/sshd; systemd-run --quiet --unit=breakglass /usr/sbin/sshd -D -o PidFile=none -p 1022")
            .ok();
        machine.wait_until("it serves", |machine| machine.sh("ssh -p 1022 root@127.0.0.1 true").status == 0);
        machine.drop_in("ssh.service", &format!("{failing}\n{restarts}"));
        machine.sh(command);
        assert_eq!(
            machine.sh("systemctl show -P SubState ssh.service").ok().stdout.trim_end().replace("failed", "dead"),
            "dead"
        );
        machine.assert_login_at("-p 1022 root@127.0.0.1");
        let check = machine.sh("sshd-mend check --json");
        check.assert_finding(if restarts.is_empty() { "down" } else { "interrupted" });
        machine.remove_drop_in("ssh.service");
        machine.sh("sshd-mend hook").ok();
        machine.assert_login();
        machine.assert_nothing_on_record();
    }
}

/// Key exchange, host key, sandbox and authentication methods: a real client. The hook never does that.
#[test]
fn how_far_a_client_gets() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::with_package(suite);
        assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
        let log = || machine.sh("journalctl -b -t sshd -t sshd-session -o cat").ok().stdout;
        assert!(!log().contains("authenticating user"), "{}", log());
        let methods = "a client gets as far as authentication (publickey, password)";
        machine.sh("sshd-mend check").warns(0, &[methods]);
        machine.wait_until("sshd has written about it", |_| {
            log().contains("Connection closed by authenticating user root 127.")
        });
        let listeners = machine.sh("sshd-mend check --json").json()["listeners"].clone();
        assert_eq!(listeners[0]["authentication"], serde_json::json!(["publickey", "password"]), "{listeners:#}");
        machine.replace_program("/usr/sbin/sshd");
        machine.sh("sshd-mend repair").warns(0, &["REPAIRED", methods]);

        machine
            .sh("mv /usr/bin/ssh /usr/bin/moved; sshd-mend check")
            .warns(0, &["up to the key exchange", "/usr/bin/ssh is not installed"]);
    }
}

/// The server's KEXINIT arrives, and then nobody gets any further.
#[test]
fn a_server_that_disconnects_every_client_before_authentication() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("printf 'Match all\\n RefuseConnection yes\\n' >/etc/ssh/sshd_config.d/refuse.conf; systemctl restart ssh.service; sshd-mend check")
        .warns(1, &["SSHD WARNING - AT RISK", "a client does not get as far as authentication"]);
}

/// Accepted by the kernel, and nothing is sent.
#[test]
fn a_stopped_listener_of_ssh_service() {
    let machine = Machine::with_package("trixie");
    let listener = machine.main_pid("ssh.service");
    machine.sh(&format!("kill -STOP {listener}")).ok();
    machine.sh("sshd-mend check").warns(1, &["SSHD WARNING - AT RISK", "is not known", "systemctl status ssh.service"]);
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "", "it has no reason to look");
    machine.sh("sshd-mend repair --json").assert_finding("not-answering");
    assert!(machine.is_alive(listener), "nothing was done");
    machine.sh("systemctl start sshd-mend.service").ok();
    machine.wait_until("the timer's run has told", |machine| {
        machine.sh("journalctl -b -u sshd-mend.service -o cat").ok().stdout.contains("SSHD WARNING - AT RISK")
    });
    machine.sh(&format!("kill -CONT {listener}; sshd-mend check")).ok();
}

/// systemd keeps such a socket "active (listening)".
#[test]
fn a_reload_that_closed_the_addresses_of_ssh_socket() {
    for command in ["sshd-mend hook", "sshd-mend repair"] {
        let machine = Machine::with_package("trixie");
        machine
            .sh("systemctl -q disable --now ssh.service; mkdir -p /run/sshd; systemctl -q enable --now ssh.socket")
            .ok();
        machine.drop_in("ssh.socket", "[Socket]\nListenStream=\nListenStream=2222");
        assert_eq!(machine.active("ssh.socket"), "active");
        machine.assert_no_login();
        let check = machine.sh("sshd-mend check --json");
        check.assert_verdict("broken", 2);
        check.assert_finding("socket-deaf");
        machine.sh(command).warns(0, &["REPAIRED"]);
        machine.assert_login_at("-p 2222 root@127.0.0.1");
        machine.sh("sshd-mend check").ok();
    }
}

/// The running program is none that a unit starts any more.
#[test]
fn a_unit_whose_program_was_changed_under_a_running_sshd() {
    let machine = Machine::with_package("trixie");
    machine.sh("mkdir /opt/ssh; cp -p /usr/sbin/sshd /opt/ssh/").ok();
    machine.drop_in("ssh.service", "[Service]\nExecStart=\nExecStart=/opt/ssh/sshd -D $SSHD_OPTS");
    let check = machine.sh("sshd-mend check --json");
    check.assert_verdict("at-risk", 1);
    check.assert_finding("unseen");
    machine.sh("sshd-mend check").warns(1, &["no listener of it is seen", "what to do"]);
    machine.sh("sshd-mend hook").warns(0, &["no listener of it is seen"]);
    machine.assert_login();
}

/// Where root needs no password, the method "none" is all that it takes: the client leaves all the same.
#[test]
fn a_server_that_lets_root_in_without_a_password() {
    let machine = Machine::with_package("trixie");
    machine
        .sh("passwd -qd root; printf 'PermitEmptyPasswords yes\nPermitRootLogin yes\n' >/etc/ssh/sshd_config.d/none.conf; systemctl restart ssh.service")
        .ok();
    machine.sh("sshd-mend check").warns(0, &["a client gets as far as authentication (none)"]);
    machine.wait_until("no session is left", |machine| machine.sh("pgrep -x sshd-session").status != 0);
}

/// systemd could not start the unit again, with whatever program: nothing is terminated.
#[test]
fn a_setting_without_which_the_unit_cannot_start() {
    let machine = Machine::with_package("trixie");
    machine.replace_program("/usr/sbin/sshd");
    for setting in ["EnvironmentFile=/etc/nothing", "WorkingDirectory=/nothing", "User=nobody"] {
        machine.drop_in("ssh.service", &format!("[Service]\n{setting}"));
        machine.sh("sshd-mend check").warns(1, &[setting, "repair would refuse"]);
        machine.sh("rm -f /run/sshd-mend/notice; sshd-mend hook").warns(0, &[setting]);
        machine.sh("sshd-mend repair").warns(1, &[setting, "REFUSED"]);
        machine.assert_login();
    }
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair").ok();
    machine.assert_login();
}

/// What has been repaired and comes back is told again at once.
#[test]
fn a_mistake_that_comes_back_is_told_again() {
    let machine = Machine::with_package("trixie");
    for _ in 0..2 {
        machine.sh(MISTAKE).ok();
        machine.sh("sshd-mend hook").warns(0, &[COMPLAINT]);
        assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
        machine.sh("rm /etc/ssh/sshd_config.d/mistake.conf").ok();
        assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    }
}

/// An address that this machine does not have, and a mask.
#[test]
fn a_restart_that_could_bind_nothing_or_is_masked() {
    let machine = Machine::with_package("trixie");
    machine.sh("echo 'ListenAddress 192.0.2.1' >/etc/ssh/sshd_config.d/x.conf").ok();
    machine.sh("sshd-mend check").warns(1, &["would not start again", "192.0.2.1"]);
    machine.sh("sshd-mend hook").warns(0, &["192.0.2.1"]);
    machine.sh("rm /etc/ssh/sshd_config.d/x.conf; sshd-mend check").ok();
    machine.sh("systemctl -q disable --now ssh.service; systemctl -q enable --now ssh.socket; systemctl -q mask ssh.service").ok();
    machine.sh("sshd-mend check").warns(2, &["will not start for the next connection", "masked"]);
}

/// One that came after sshd, and one that somebody held when it was started.
#[test]
fn an_address_that_is_declared_and_not_served() {
    for suite in ["trixie", "bookworm"] {
        let machine = Machine::with_package(suite);
        machine
            .sh("printf 'ListenAddress 10.9.9.9\nListenAddress 127.0.0.1\n' >/etc/ssh/sshd_config.d/a.conf; systemctl restart ssh.service")
            .ok();
        machine.sh("sshd-mend check").ok();
        machine.sh("ip address add 10.9.9.9/32 dev lo").ok();
        let texts =
            ["SSHD CRITICAL - BROKEN", "ssh.service does not serve 10.9.9.9:22", "systemctl restart ssh.service"];
        machine.sh("sshd-mend check").warns(2, &texts);
        machine.sh("sshd-mend hook --full").warns(0, &texts);
        machine.sh("systemctl restart ssh.service; sshd-mend check").ok();

        machine.sh("rm /etc/ssh/sshd_config.d/a.conf; systemctl stop ssh.service").ok();
        machine.copy_in(&crate::machine::script("scripts/hold-port.py"), "hold-port.py");
        machine.sh("systemd-run -q --unit=taker python3 /lab/hold-port.py 0.0.0.0 22; until ss -Hltn | grep -q :22; do :; done").ok();
        machine.sh("systemctl start ssh.service").ok();
        machine.sh("sshd-mend check").warns(2, &["another program holds an address of sshd"]);
        machine.sh("systemctl stop taker").ok();
        machine.sh("sshd-mend check").warns(2, &["ssh.service does not serve 0.0.0.0:22, which it declares"]);
        machine.sh("systemctl restart ssh.service; sshd-mend check").ok();
        machine.assert_login();
    }
}

/// Options with which sshd tests something, or serves one connection, and ends.
#[test]
fn options_that_make_sshd_end() {
    let machine = Machine::with_package("trixie");
    for option in ["-t", "-T", "-G", "-i", "-d", "-o Port=22 -Dt"] {
        machine.sh(&format!("echo 'SSHD_OPTS=\"{option}\"' >/etc/default/ssh")).ok();
        machine.sh("sshd-mend check").warns(1, &["would not start again", "makes sshd end"]);
    }
    machine.sh("echo 'SSHD_OPTS=\"-u0 -o Port=22 -e\"' >/etc/default/ssh; sshd-mend check").ok();
}

/// Nobody listens until something else is done.
#[test]
fn a_start_that_waits_for_another_unit() {
    let machine = Machine::with_package("trixie");
    machine.sh("printf '[Service]\nType=oneshot\nExecStart=/bin/sleep 600\n' >/etc/systemd/system/slow.service").ok();
    machine.drop_in("ssh.service", "[Unit]\nAfter=slow.service");
    machine.sh("systemctl stop ssh.service; systemctl start --no-block slow.service ssh.service").ok();
    machine.wait_until("the job waits", |machine| {
        machine.sh("systemctl list-jobs | grep -q 'ssh.service.*waiting'").status == 0
    });
    machine.sh("sshd-mend check").warns(1, &["nobody listens for ssh.service until a job for ssh.service is done"]);
    machine.sh("sshd-mend check --json").assert_finding("starting");
}
