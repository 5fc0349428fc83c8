//! Places where there is nothing to repair: the hook is silent and exits with 0, whatever is wrong on the host outside.

use crate::machine::Machine;

/// Where a hook may run without any business of its own: a name, what prepares the place, and what starts a command there.
const PLACES: &[(&str, &str, &str)] = &[
    ("a chroot without /proc", "", "chroot /srv/root"),
    (
        "a chroot with the host's /proc and /run",
        "mount --bind /proc /srv/root/proc; mount --rbind /run /srv/root/run",
        "chroot /srv/root",
    ),
    (
        "a container without systemd",
        "",
        "unshare --pid --fork --mount-proc --net --mount sh -c 'mount -t tmpfs none /run; exec \"$@\"' sh",
    ),
    ("a network of its own", "", "unshare --net"),
    ("a user who is not root", "", "setpriv --reuid=user --regid=user --clear-groups"),
    ("a user namespace", "", "setpriv --reuid=user --regid=user --clear-groups unshare --user --map-root-user"),
];

/// What a package run does, and then the hook of apt as apt starts it.
const PACKAGE_RUN: &str = "cd /tmp; dpkg --configure --pending; apt-get -q=2 check
hook=$(sed -n 's/^DPkg::Post-Invoke { .\\(.*\\).; };/\\1/p' /etc/apt/apt.conf.d/99sshd-mend)
[ -n \"$hook\" ]; sh -c \"$hook\"";

#[track_caller]
fn assert_silent(machine: &Machine, place: &str, command: &str) {
    let output = machine.sh(command);
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""), "{place}");
}

/// On a machine that has a stale orphan, which survives all of it.
#[test]
fn the_hook_is_silent_where_it_has_no_business() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.script("chroot.sh", &["/srv/root"]).ok();
    assert_silent(
        &machine,
        "a package run in a chroot",
        &format!("chroot /srv/root sh -e -s <<'PACKAGE_RUN'\n{PACKAGE_RUN}\nPACKAGE_RUN"),
    );
    for (place, prepare, enter) in PLACES {
        machine.sh(prepare).ok();
        // The program does run there, and sees what kind of place it is.
        let check = machine.sh(&format!("{enter} /usr/sbin/sshd-mend check"));
        assert!(check.status == 3 && check.stdout.contains("UNKNOWN"), "{place}: {check:#?}");
        assert_silent(&machine, place, &format!("{enter} /usr/sbin/sshd-mend hook"));
        assert!(machine.is_alive(listener), "{place}");
    }
    machine.sh("mkdir -p /srv/dpkg/var/lib/dpkg; touch /srv/dpkg/var/lib/dpkg/status").ok();
    assert_silent(&machine, "another root for dpkg", "dpkg --root=/srv/dpkg --configure --pending");
    assert!(machine.is_alive(listener));
    // On the host itself it has something to report.
    assert_eq!(machine.sh("sshd-mend check").status, 1);
}

/// What is below /run is the host's, where a rescue may serve. (The files of the package are, too, in this chroot.)
#[test]
fn a_removal_in_a_chroot_leaves_the_host_alone() {
    let machine = Machine::with_package("trixie");
    machine.script("chroot.sh", &["/srv/root"]).ok();
    machine.sh("mount --bind /proc /srv/root/proc; mount --rbind /run /srv/root/run").ok();
    let of_host = "/run/sshd-mend/intent /run/systemd/system/sshd-mend-rescue-x.socket";
    machine.sh(&format!("mkdir -p /run/sshd-mend /run/systemd/system; touch {of_host}")).ok();
    machine.sh("chroot /srv/root dpkg -r sshd-mend").ok();
    machine.sh("chroot /srv/root dpkg -P sshd-mend").ok();
    machine.sh(&format!("ls {of_host}")).ok();
    machine.sh("[ ! -e /run/systemd/system/ssh.service.d ]").ok();
}

#[test]
fn without_openssh_server_the_hook_is_silent() {
    let machine = Machine::with_package("trixie");
    let removal = machine.sh("DEBIAN_FRONTEND=noninteractive apt-get purge -y openssh-server 2>&1").ok();
    assert!(!removal.stdout.contains("sshd-mend:"), "{removal:#?}");
    machine.sh("[ ! -e /usr/sbin/sshd ]").ok();
    assert_silent(&machine, "no OpenSSH server", "sshd-mend hook");
    for command in ["check", "repair"] {
        machine.sh(&format!("sshd-mend {command} --json")).assert_verdict("not-applicable", 0);
    }
}

/// Somebody has stopped or disabled it on purpose, and nothing of it is started again.
#[test]
fn where_ssh_was_stopped_or_disabled_the_hook_is_silent() {
    let machine = Machine::with_package("trixie");
    for (place, command, finding) in [
        ("stopped", "systemctl stop ssh.service", Some("stopped")),
        ("disabled", "systemctl --quiet disable ssh.service", None),
        ("masked", "systemctl --quiet mask ssh.service ssh.socket", None),
    ] {
        machine.sh(command).ok();
        machine.assert_no_login();
        let check = machine.sh("sshd-mend check --json");
        let found = check.json()["findings"][0]["code"].as_str().map(str::to_owned);
        assert_eq!(found.as_deref(), finding, "{place}: {check:#?}");
        assert_silent(&machine, place, "sshd-mend hook");
        assert_eq!(machine.active("ssh.service"), "inactive", "{place}");
        assert_eq!(machine.sh("ss -Hltn 'sport = :22'").ok().stdout, "", "{place}");
    }
}
