//! `NOTIFY=`: an administrator's program is told what came of a run, and whatever it does changes nothing.

use crate::machine::Machine;

const FILES: &str = "/usr/share/doc/sshd-mend/monitoring";
const UNIT: &str = "sshd-mend-notify.service";

/// A machine whose program writes what it is told to /var/lib/told, one file for each run.
fn told() -> Machine {
    let machine = Machine::with_package("trixie");
    machine
        .sh("mkdir /var/lib/told; printf '#!/bin/sh\\nexec cat >/var/lib/told/$$\\n' >/usr/local/sbin/tell; chmod 755 /usr/local/sbin/tell
             echo NOTIFY=/usr/local/sbin/tell >/etc/default/sshd-mend")
        .ok();
    machine
}

fn wait_for_rest(machine: &Machine) {
    machine
        .wait_until("the program has ended", |machine| ["inactive", "failed"].contains(&machine.active(UNIT).as_str()));
}

fn times_told(machine: &Machine) -> i32 {
    wait_for_rest(machine);
    machine.number("ls /var/lib/told | wc -l")
}

#[test]
fn what_was_done_or_refused_is_told_once_an_hour() {
    let machine = told();
    machine.sh("sshd-mend check; sshd-mend repair; sshd-mend hook").ok();
    assert_eq!(times_told(&machine), 0, "nothing was done");
    machine.locked_out();
    assert_eq!(machine.sh("sshd-mend check; sshd-mend repair --dry-run").status, 2);
    assert_eq!(times_told(&machine), 0, "nothing was done");
    machine.sh("sshd-mend hook").ok();
    machine.wait_until("it is told", |machine| times_told(machine) == 1);
    let json = machine.sh("cat /var/lib/told/*").ok().json();
    assert_eq!(json["verdict"], "repaired", "{json:#}");
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("echo NoSuchOption yes >/etc/ssh/sshd_config.d/mistake.conf; sshd-mend hook; sshd-mend hook").ok();
    assert_eq!(machine.sh("sshd-mend repair").status, 1);
    machine.wait_until("the refusal is told", |machine| times_told(machine) == 2);
    machine.sh("rm /etc/ssh/sshd_config.d/mistake.conf; sshd-mend repair").ok();
    machine.wait_until("the repair is told", |machine| times_told(machine) == 3);
}

/// What comes while it runs is told after it, although it fails.
#[test]
fn a_failure_loses_no_later_outcome() {
    let machine = told();
    machine
        .sh("cat >/usr/local/sbin/tell <<'E'
#!/bin/sh
run=$(ls /var/lib/told | wc -l)
cat >/var/lib/told/$run
[ $run = 0 ] || exit 0
until [ -e /var/lib/go ]; do sleep 0.1; done
exit 7
E
             echo NoSuchOption yes >/etc/ssh/sshd_config.d/mistake.conf")
        .ok();
    machine.replace_program("/usr/sbin/sshd");
    machine.sh("sshd-mend hook").ok();
    machine.wait_until("the refusal is being told", |machine| machine.sh("[ -s /var/lib/told/0 ]").status == 0);
    machine.sh("rm /etc/ssh/sshd_config.d/mistake.conf; sshd-mend repair; touch /var/lib/go").ok();
    machine.wait_until("the repair is told", |machine| machine.sh("[ -s /var/lib/told/1 ]").status == 0);
    assert_eq!(times_told(&machine), 2);
    assert_eq!(machine.sh("cat /var/lib/told/0").ok().json()["verdict"], "refused");
    assert_eq!(machine.sh("cat /var/lib/told/1").ok().json()["verdict"], "repaired");
}

/// It hangs, is missing, fails, or somebody else could have written it: the repair is as quick and as good as without it.
#[test]
fn a_program_that_cannot_be_used_changes_nothing() {
    for (what, make, message) in [
        ("hangs", "printf '#!/bin/sh\\nexec sleep 1000\\n' >/srv/tell; chmod 755 /srv/tell", "did not end in time"),
        ("fails", "printf '#!/bin/sh\\nexit 7\\n' >/srv/tell; chmod 755 /srv/tell", "ended with status 7"),
        ("is missing", "true", "there is no such program"),
        (
            "is another user's",
            "cp /bin/true /srv/tell; chown user /srv/tell",
            "somebody else than root can write /srv/tell",
        ),
        (
            "is in another user's directory",
            "cp /bin/true /srv/tell; chown user /srv",
            "somebody else than root can write /srv",
        ),
        ("is no program", "cp /bin/true /srv/tell; chmod 644 /srv/tell", "it is no program"),
    ] {
        let machine = Machine::with_package("trixie");
        machine.sh(&format!("{make}; echo NOTIFY=/srv/tell >/etc/default/sshd-mend")).ok();
        let is_seen_before = !["hangs", "fails"].contains(&what);
        let check = machine.sh("sshd-mend check").ok().stdout;
        assert_eq!(check.contains(message), is_seen_before, "{what}: {check}");
        machine.locked_out();
        let repair = machine.sh("sshd-mend repair --json").ok();
        let json = repair.json();
        assert_eq!(json["verdict"], "repaired", "{what}: {json:#}");
        assert!(json["duration_ms"].as_u64().is_some_and(|took| took < 15_000), "{what}: {json:#}");
        machine.assert_login();
        machine.wait_until("it has failed", |machine| machine.active(UNIT) == "failed");
        let journal = machine.sh("journalctl -q -o cat -t sshd-mend").ok().stdout;
        assert!(journal.contains(message), "{what}: {journal}");
        assert_eq!(machine.number("pgrep -c sleep || :"), 0, "{what}: nothing of it is left");
    }
}

/// It runs as root, and yet it cannot stop sshd, write to the record, or talk to systemd.
#[test]
fn the_program_is_confined() {
    let machine = told();
    machine
        .sh("printf '#!/bin/sh\\nexec >/var/lib/told/tried 2>&1\\nsystemctl stop ssh.service && echo stopped\\n: >/run/sshd-mend/intent && echo written\\nrm -rf /run/sshd && echo removed\\n' >/usr/local/sbin/tell")
        .ok();
    machine.locked_out();
    machine.sh("sshd-mend repair").ok();
    machine.wait_until("it ran", |machine| machine.sh("[ -s /var/lib/told/tried ]").status == 0);
    wait_for_rest(&machine);
    let tried = machine.sh("cat /var/lib/told/tried").ok().stdout;
    assert!(!["stopped", "written", "removed"].iter().any(|done| tried.lines().any(|line| line == *done)), "{tried}");
    machine.sh("sshd-mend check").ok();
    machine.assert_login();
}

#[test]
fn a_mail_comes_to_root() {
    let machine = Machine::with_package("trixie");
    machine.install("exim4-daemon-light");
    machine
        .sh(&format!(
            "install -m 0755 {FILES}/notify-mail /usr/local/sbin/sshd-mend-mail
             echo NOTIFY=/usr/local/sbin/sshd-mend-mail >/etc/default/sshd-mend"
        ))
        .ok();
    machine.locked_out();
    machine.sh("sshd-mend repair").ok();
    machine.wait_until("the mail is there", |machine| {
        let mail = machine.sh("cat /var/mail/*").stdout;
        mail.contains("SSH was repaired, or needs you") && mail.contains("\"verdict\": \"repaired\"")
    });
}

#[test]
fn a_webhook_gets_the_outcome() {
    let machine = Machine::with_package("trixie");
    machine.install("curl");
    machine
        .sh(&format!(
            "install -m 0755 {FILES}/notify-webhook /usr/local/sbin/sshd-mend-webhook
             echo NOTIFY=/usr/local/sbin/sshd-mend-webhook >/etc/default/sshd-mend
             cat >/srv/server.py <<'END'
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        open('/srv' + self.path, 'wb').write(body)
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', 8080), Handler).serve_forever()
END
             systemd-run -q python3 /srv/server.py; until ss -Hltn 'sport = :8080' | grep -q LISTEN; do :; done"
        ))
        .ok();
    machine.locked_out();
    machine.sh("sshd-mend repair").ok();
    machine.wait_until("it was posted", |machine| machine.sh("[ -s /srv/sshd-mend ]").status == 0);
    wait_for_rest(&machine);
    assert_eq!(machine.sh("cat /srv/sshd-mend").ok().json()["verdict"], "repaired");
}
