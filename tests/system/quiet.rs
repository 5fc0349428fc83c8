//! Places where there is nothing to mend: the hook is silent and exits with 0, whatever is wrong on the host outside.

use crate::machine::Machine;

/// On a machine that has a stale orphan, which must outlive all of it.
#[test]
fn the_hook_is_silent_where_it_has_no_business() {
    let machine = Machine::with_package("trixie");
    let listener = machine.incident();
    machine.upgrade_without_hook().ok();
    machine
        .sh("mkdir /srv/root && for directory in usr etc; do mkdir /srv/root/$directory; mount --bind /$directory /srv/root/$directory; done
             for link in bin lib lib64 sbin; do ln -s usr/$link /srv/root/$link; done; mkdir /srv/root/proc /srv/root/run /srv/root/tmp /srv/root/dev /srv/root/var
             cp -a /var/lib /srv/root/var/; mkdir -p /srv/root/var/log /srv/root/var/cache/apt/archives/partial; mknod -m 666 /srv/root/dev/null c 1 3; cp -r /opt /srv/root/")
        .ok();
    for (place, command) in [
        ("a chroot without /proc", "chroot /srv/root /usr/sbin/sshd-mend hook"),
        (
            "a package run in a chroot",
            "chroot /srv/root sh -c 'cd /tmp; dpkg --configure --pending; apt-get -q=2 check; sh -c \"$(sed -n \"s/^DPkg::Post-Invoke { .\\(.*\\).; };/\\1/p\" /etc/apt/apt.conf.d/99sshd-mend)\"'",
        ),
        (
            "a chroot with the host's /proc and /run",
            "mount --bind /proc /srv/root/proc; mount --rbind /run /srv/root/run; chroot /srv/root /usr/sbin/sshd-mend hook",
        ),
        (
            "a container without systemd",
            "unshare --pid --fork --mount-proc --net --mount sh -c 'mount -t tmpfs none /run; exec /usr/sbin/sshd-mend hook'",
        ),
        ("a container's network", "unshare --net /usr/sbin/sshd-mend hook"),
        ("a user who is not root", "setpriv --reuid=user --regid=user --clear-groups /usr/sbin/sshd-mend hook"),
        (
            "a user namespace",
            "setpriv --reuid=user --regid=user --clear-groups unshare --user --map-root-user /usr/sbin/sshd-mend hook",
        ),
        (
            "another root for dpkg",
            "mkdir -p /srv/dpkg/var/lib/dpkg && touch /srv/dpkg/var/lib/dpkg/status && dpkg --root=/srv/dpkg --configure --pending",
        ),
    ] {
        let output = machine.sh(command);
        assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""), "{place}");
        assert!(machine.is_alive(listener), "{place}");
    }
    assert_eq!(machine.sh("sshd-mend check").status, 1, "and on the host itself there is something to be said");
}

#[test]
fn without_openssh_server_there_is_nothing_to_say() {
    let machine = Machine::with_package("trixie");
    let removal = machine.sh("DEBIAN_FRONTEND=noninteractive apt-get purge -y openssh-server 2>&1").ok();
    assert!(!removal.stdout.contains("sshd-mend:"), "{removal:#?}");
    let hook = machine.sh("sshd-mend hook").ok();
    assert_eq!((hook.stdout.as_str(), hook.stderr.as_str()), ("", ""));
    for command in ["check", "repair"] {
        let json = machine.sh(&format!("sshd-mend {command} --json")).ok().json();
        assert_eq!(json["verdict"], "not-applicable", "{json:#}");
    }
}
