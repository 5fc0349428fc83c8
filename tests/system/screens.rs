//! What `check` shows of each finding, word for word, its exit status, and what `--json` says of the same.

use crate::machine::{Machine, script};

/// Pids, dates, versions and durations differ from run to run.
fn normalised(text: &str) -> String {
    text.lines().map(|line| normalised_line(line) + "\n").collect()
}

fn normalised_line(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut previous = "";
    for word in line.split(' ') {
        let digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
        words.push(match previous {
            "sshd" if digits.len() < word.len() => format!("PID{digits}"),
            "since" => word.replace(|c: char| c.is_ascii_digit(), "0"),
            _ if previous.starts_with("(python3") && digits.len() < word.len() => format!("PID{digits}"),
            _ if word.starts_with("(python3") => "(python3".to_owned(),
            _ if word.starts_with("SSH-2.0-") => "BANNER;".to_owned(),
            _ => word.to_owned(),
        });
        // The second half of a banner.
        if previous.starts_with("SSH-2.0-") {
            words.pop();
        }
        previous = word;
    }
    words.join(" ")
}

impl Machine {
    /// `check` prints what is in tests/system/screens/NAME.txt, and exits with this status; `--json` has this verdict and
    /// these findings. With SSHD_MEND_WRITE_SCREENS=1 the file is written.
    #[track_caller]
    fn shows(&self, name: &str, status: i32, verdict: &str, findings: &[&str]) {
        let check = self.sh("sshd-mend check");
        let shown = normalised(&check.stdout);
        let path = script("screens").join(name).with_extension("txt");
        if std::env::var_os("SSHD_MEND_WRITE_SCREENS").is_some() {
            std::fs::write(&path, &shown).expect("a file");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(shown, expected, "{}\n{}", path.display(), self.state());
        let json = self.sh("sshd-mend check --json").json();
        let codes: Vec<&str> = json["findings"]
            .as_array()
            .expect("findings")
            .iter()
            .filter_map(|finding| finding["code"].as_str())
            .collect();
        assert_eq!((check.status, json["verdict"].as_str()), (status, Some(verdict)), "{json:#}");
        assert_eq!(codes, findings, "{json:#}");
    }

    #[track_caller]
    fn refuses_as_foreign(&self, other: i32) {
        let repair = self.sh("sshd-mend repair --json");
        assert_eq!((repair.status, &repair.json()["refusal"]["code"]), (2, &"foreign-listener".into()), "{repair:#?}");
        assert!(self.is_alive(other));
    }
}

#[test]
fn healthy() {
    let machine = Machine::with_package("trixie");
    machine.shows("healthy", 0, "healthy", &[]);
}

#[test]
fn the_lockout() {
    let machine = Machine::with_package("trixie");
    machine.locked_out();
    machine.shows("the-lockout", 2, "broken", &["stale-orphan", "runtime-directory-missing"]);
}

#[test]
fn stale_orphan() {
    let (machine, _) = Machine::with_stale_orphan("trixie");
    machine.sh("mkdir -p /run/sshd").ok();
    machine.assert_login();
    machine.shows("stale-orphan", 1, "at-risk", &["stale-orphan"]);
}

#[test]
fn stale_service() {
    let machine = Machine::with_package("trixie");
    machine.replace_program("/usr/sbin/sshd");
    machine.shows("stale-service", 1, "at-risk", &["stale-service"]);
}

#[test]
fn listener_dead() {
    let machine = Machine::with_package("trixie");
    machine.sh("cp /bin/false /usr/lib/openssh/sshd-session.new; mv /usr/lib/openssh/sshd-session.new /usr/lib/openssh/sshd-session").ok();
    machine.assert_no_login();
    machine.shows("listener-dead", 2, "broken", &["listener-dead", "would-not-restart"]);
}

#[test]
fn runtime_directory_missing() {
    let machine = Machine::with_package("trixie");
    machine.sh("rmdir /run/sshd").ok();
    machine.assert_no_login();
    machine.shows("runtime-directory-missing", 2, "broken", &["runtime-directory-missing"]);
}

#[test]
fn socket_detached() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl -q enable ssh.socket").ok();
    machine.shows("socket-detached", 0, "healthy", &["socket-detached"]);
}

#[test]
fn stopped() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl stop ssh.service").ok();
    machine.shows("stopped", 2, "stopped", &["stopped"]);
    // Somebody did that on purpose.
    assert_eq!(machine.sh("sshd-mend hook").ok().stdout, "");
    assert_eq!(machine.sh("sshd-mend repair").status, 2);
    assert_eq!(machine.active("ssh.service"), "inactive");
}

#[test]
fn disabled() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl -q disable --now ssh.service").ok();
    machine.shows("disabled", 0, "healthy", &[]);
}

/// A package run leaves it alone, for it serves; a person's repair replaces it.
#[test]
fn orphan() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl stop ssh.service").ok();
    let orphan = machine.orphan();
    machine.shows("orphan", 1, "at-risk", &["orphan"]);
    assert!(machine.sh("sshd-mend hook").ok().stdout.contains("AT RISK") && machine.is_alive(orphan));
    machine.sh("sshd-mend repair; sshd-mend check").ok();
    assert!(!machine.is_alive(orphan));
    machine.assert_login();
}

#[test]
fn down() {
    let machine = Machine::with_package("trixie");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    assert_ne!(machine.sh("systemctl restart ssh.service").status, 0);
    machine.wait_until("systemd has given up", |machine| machine.active("ssh.service") == "failed");
    machine.shows("down", 2, "broken", &["down"]);
}

#[test]
fn instance_down() {
    let machine = Machine::with_package("trixie");
    machine.instance("2222", "-p 2222");
    machine.drop_in("sshd-2222.service", "[Service]\nExecStartPre=/bin/false");
    assert_ne!(machine.sh("systemctl restart sshd-2222.service").status, 0);
    machine.wait_until("systemd has given up", |machine| machine.active("sshd-2222.service") == "failed");
    machine.shows("instance-down", 2, "broken", &["instance-down"]);
}

#[test]
fn interrupted() {
    let machine = Machine::with_package("trixie");
    machine
        .sh(r#"systemctl stop ssh.service; mkdir -p -m 700 /run/sshd-mend
             printf '{"boot_id":"%s","instances":[{"instance":"ssh.service","addresses":["0.0.0.0:22","[::]:22"],"units":["ssh.service"],"rescue":false}]}' \
                 $(cat /proc/sys/kernel/random/boot_id) >/run/sshd-mend/intent"#)
        .ok();
    machine.shows("interrupted", 2, "broken", &["interrupted"]);
    machine.sh("sshd-mend repair; sshd-mend check; [ ! -e /run/sshd-mend/intent ]").ok();
    machine.assert_login();
}

#[test]
fn foreign_listener_instead_of_sshd() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl stop ssh.service").ok();
    let other = machine.hold_port("::", 22);
    assert_ne!(machine.sh("systemctl start ssh.service").status, 0);
    machine.shows("foreign-listener-instead-of-sshd", 2, "broken", &["foreign-listener"]);
    machine.refuses_as_foreign(other);
    assert!(machine.sh("sshd-mend hook").ok().stdout.contains("another program holds"));
}

#[test]
fn foreign_listener_beside_sshd() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl stop ssh.service").ok();
    let other = machine.hold_port("0.0.0.0", 22);
    machine.sh("systemctl start ssh.service").ok();
    machine.shows("foreign-listener-beside-sshd", 2, "broken", &["foreign-listener"]);
    machine.refuses_as_foreign(other);
    let hook = machine.sh("sshd-mend hook").ok().stdout;
    assert!(hook.contains(&format!("0.0.0.0:22 (python3.13 {other})")), "{hook}");
}

/// An sshd of another path holds the port, stale, and is left alone for a named reason.
#[test]
fn foreign_listener_that_is_another_sshd() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl stop ssh.service; mkdir -p /opt/ssh /run/sshd; cp -p /usr/sbin/sshd /opt/ssh/").ok();
    let other = machine.number("/opt/ssh/sshd -D -o PidFile=none >/dev/null 2>&1 </dev/null & echo $!");
    machine.wait_until("it serves", |machine| machine.login().status == 0);
    machine.replace_program("/opt/ssh/sshd");
    assert_ne!(machine.sh("systemctl start ssh.service").status, 0);
    let check = machine.sh("sshd-mend -v check").stdout;
    assert!(check.contains("no unit starts its program as an OpenSSH server"), "{check}");
    machine.refuses_as_foreign(other);
}

#[test]
fn not_examined() {
    let machine = Machine::with_package("trixie");
    machine.sh("ip netns add management; ip -n management link set lo up").ok();
    machine.drop_in("ssh.service", "[Service]\nNetworkNamespacePath=/run/netns/management");
    machine.sh("systemctl restart ssh.service").ok();
    machine.shows("not-examined", 1, "at-risk", &["not-examined"]);
}

#[test]
fn rescue_active() {
    let machine = Machine::with_package("trixie");
    machine.drop_in("ssh.service", "[Service]\nExecStartPre=/bin/false");
    machine.replace_program("/usr/sbin/sshd");
    assert_eq!(machine.sh("sshd-mend repair").status, 2);
    machine.assert_login();
    machine.shows("rescue-active", 2, "rescued", &["rescue-active"]);
    machine.remove_drop_in("ssh.service");
    machine.sh("sshd-mend repair; sshd-mend check").ok();
    machine.assert_login();
}

#[test]
fn not_applicable() {
    let machine = Machine::with_package("trixie");
    machine.sh("DEBIAN_FRONTEND=noninteractive apt-get purge -y openssh-server").ok();
    machine.shows("not-applicable", 0, "not-applicable", &[]);
}
