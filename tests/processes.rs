//! Facts about processes, read from trees that look like /proc. What only a kernel can show: tests/kernel.rs.
#![allow(missing_docs)]

mod support;

use procfs::process::Process as ProcDirectory;
use proptest::prelude::*;
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::observe::processes::Proc;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use support::addresses;
use tempfile::TempDir;

/// When the tree's machine was booted, in seconds since 1970.
const BOOT: u64 = 1_700_000_000;
/// `/proc/PID/stat` from its fifth field on; 4242 is the start.
const STAT: &str = "0 0 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0";

/// The sockets in LISTEN of the tree's machine.
fn listening() -> Vec<ListenSocket> {
    let socket = |inode, address: &str| ListenSocket {
        address: address.parse().expect("an address"),
        ipv6_only: false,
        device_bound: false,
        vrf: false,
        inode,
    };
    vec![socket(501, "0.0.0.0:22"), socket(502, "127.0.0.1:2201"), socket(503, "0.0.0.0:80")]
}

/// A tree that looks like /proc, on a machine whose root directory is `root` beside it.
struct Tree {
    directory: TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { directory: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir_all(tree.root().join("usr/sbin")).expect("a directory");
        std::fs::write(tree.program(), "new").expect("a file");
        let init = tree.process(1, Path::new("/lib/systemd/systemd"), 0);
        symlink("socket:[503]", init.join("fd/40")).expect("a link");
        tree
    }

    fn proc(&self) -> PathBuf {
        self.directory.path().join("proc")
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn program(&self) -> PathBuf {
        self.root().join("usr/sbin/sshd")
    }

    /// A process of root's with the host's namespaces.
    fn process(&self, pid: i32, exe: &Path, parent: i32) -> PathBuf {
        let own = self.proc().join(pid.to_string());
        std::fs::create_dir_all(own.join("fd")).expect("a directory");
        std::fs::create_dir_all(own.join("ns")).expect("a directory");
        for name in ["pid", "net", "user"] {
            let namespace = self.directory.path().join(name);
            std::fs::write(&namespace, "").expect("a file");
            symlink(namespace, own.join("ns").join(name)).expect("a link");
        }
        symlink(self.root(), own.join("root")).expect("a link");
        symlink(exe, own.join("exe")).expect("a link");
        put(&own, "stat", format!("{pid} (sshd) S {parent} {STAT}\n"));
        put(&own, "status", status(b"sshd", 0, 0, 0));
        put(&own, "cgroup", "0::/system.slice/ssh.service\n");
        own
    }

    /// A listener on 0.0.0.0:22 that runs the program on disk.
    fn listener(&self, pid: i32) -> PathBuf {
        let own = self.process(pid, &self.program(), 1);
        symlink("socket:[501]", own.join("fd/3")).expect("a link");
        symlink("/dev/null", own.join("fd/0")).expect("a link");
        own
    }

    fn observed(&self) -> Proc {
        Proc::below(&self.proc(), "1", BOOT).expect("a tree")
    }

    fn try_facts(&self, pid: i32) -> Result<Option<Process>, String> {
        let directory = ProcDirectory::new_with_root(self.proc().join(pid.to_string())).expect("a process");
        let facts = self.observed().facts(&directory, &listening());
        facts.map(|observed| observed.map(|observed| observed.process)).map_err(|error| error.to_string())
    }

    fn facts(&self, pid: i32) -> Process {
        self.try_facts(pid).expect("facts").expect("a process")
    }
}

/// As the kernel writes it (proc_pid_status(5)), with a name as it came.
fn status(name: &[u8], real: u32, effective: u32, tracer: i32) -> Vec<u8> {
    let mut text = b"Name:\t".to_vec();
    text.extend(name);
    text.extend(b"\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t200\nNgid:\t0\nPid:\t200\nPPid:\t1\n");
    text.extend(format!("TracerPid:\t{tracer}\nUid:\t{real}\t{effective}\t9\t9\nGid:\t7\t7\t7\t7\n").bytes());
    text
}

fn put(own: &Path, file: &str, content: impl AsRef<[u8]>) {
    std::fs::write(own.join(file), content).expect("a file");
}

#[test]
fn a_listener_is_read_as_it_is() {
    let tree = Tree::new();
    tree.listener(200);
    let facts = tree.facts(200);
    assert_eq!((facts.pid, facts.started_ticks, facts.parent), (200, 4242, 1));
    let since_boot = Duration::from_secs(4242 / procfs::ticks_per_second());
    assert_eq!(facts.started, SystemTime::UNIX_EPOCH + Duration::from_secs(BOOT) + since_boot);
    assert_eq!((facts.addresses(), facts.sockets.len()), (addresses(&["0.0.0.0:22"]), 1));
    assert_eq!(facts.unit.as_deref(), Some("ssh.service"));
    assert_eq!(facts.control_group, "/system.slice/ssh.service");
    assert_eq!((facts.exe.as_path(), facts.path.as_path()), (tree.program().as_path(), tree.program().as_path()));
    assert!(!facts.connected && !facts.stdin_is_socket && !facts.parent_is_sshd && !facts.traced);
    let here = facts.surroundings;
    assert!(here.pid_namespace && here.network_namespace && here.user_namespace && here.root_directory);
    assert_eq!((facts.real_uid, facts.effective_uid), (0, 0));
    assert_eq!(facts.probe, None);
}

#[test]
fn sockets_tell_what_a_process_does() {
    for (number, link, listening, connected) in [
        (4, "socket:[502]", &["0.0.0.0:22", "127.0.0.1:2201"][..], false),
        (4, "socket:[601]", &["0.0.0.0:22"], true), // not in LISTEN, of no kind that is known: a connection
        (4, "/tmp/socket:[601]", &["0.0.0.0:22"], false),
        (4, "pipe:[601]", &["0.0.0.0:22"], false),
        (4, "socket:[-1]", &["0.0.0.0:22"], false),
        (0, "socket:[501]", &["0.0.0.0:22"], false),
    ] {
        let tree = Tree::new();
        let own = tree.listener(200);
        let descriptor = own.join("fd").join(number.to_string());
        let _ = std::fs::remove_file(&descriptor);
        symlink(link, &descriptor).expect("a link");
        let facts = tree.facts(200);
        let seen = (facts.addresses(), facts.connected, facts.stdin_is_socket);
        assert_eq!(seen, (addresses(listening), connected, number == 0), "{link}");
    }
}

#[test]
fn sockets_are_found_by_their_holder() {
    let tree = Tree::new();
    tree.listener(200);
    assert_eq!(tree.observed().sockets_of_init().expect("inodes"), [503].into());
    assert_eq!(tree.observed().sockets_of(200).expect("inodes"), [501].into());
    assert!(tree.observed().sockets_of(201).is_err());
}

/// Thousands of descriptors cost nothing, and none that cannot be read is a reason to fail (I14).
#[test]
fn descriptors_of_other_users_are_not_even_read() {
    for (real, effective) in [(1000, 1000), (1000, 0), (0, 1000)] {
        let tree = Tree::new();
        let own = tree.listener(200);
        put(&own, "status", status(b"sshd", real, effective, 0));
        std::fs::remove_dir_all(own.join("fd")).expect("a directory");
        let facts = tree.facts(200);
        assert_eq!((facts.real_uid, facts.effective_uid), (real, effective));
        assert!(facts.sockets.is_empty() && !facts.connected && !facts.stdin_is_socket);
    }
    let tree = Tree::new();
    std::fs::remove_dir_all(tree.listener(200).join("fd")).expect("a directory");
    assert!(tree.try_facts(200).is_err(), "root's have to be known");
}

#[test]
fn a_debugger_is_seen() {
    let tree = Tree::new();
    put(&tree.listener(200), "status", status(b"sshd", 0, 0, 4711));
    assert!(tree.facts(200).traced);
}

#[test]
fn another_namespace_or_root_is_seen() {
    for link in ["ns/pid", "ns/net", "ns/user", "root"] {
        let tree = Tree::new();
        let own = tree.listener(200);
        let other = tree.directory.path().join("other");
        std::fs::create_dir(&other).expect("a directory");
        let move_away = |own: &Path| {
            std::fs::remove_file(own.join(link)).expect("the link");
            symlink(&other, own.join(link)).expect("a link");
        };
        move_away(&own);
        let here = tree.facts(200).surroundings;
        let same = [here.pid_namespace, here.network_namespace, here.user_namespace, here.root_directory];
        assert_eq!(same.iter().filter(|same| !**same).count(), 1, "{link}: {here:?}");
        assert!(!here.is_host());

        // The same about the caller: it can then not examine the host.
        let caller = tree.process(300, Path::new("/usr/bin/sshd-mend"), 1);
        symlink("300", tree.proc().join("self")).expect("a link");
        assert_eq!(tree.observed().foreign_surroundings(), None);
        move_away(&caller);
        assert!(tree.observed().foreign_surroundings().is_some(), "{link}");
    }
    assert!(Tree::new().observed().foreign_surroundings().is_some(), "a caller that this /proc does not show");
}

#[test]
fn a_process_without_a_program_is_none() {
    let tree = Tree::new();
    std::fs::remove_file(tree.listener(200).join("exe")).expect("the link");
    assert_eq!(tree.try_facts(200), Ok(None));
}

#[test]
fn a_child_of_an_sshd_is_known_by_its_parent() {
    for (exe, expected) in [("/usr/sbin/sshd (deleted)", true), ("/opt/x/sshd-session", true), ("/bin/sshd.sh", false)]
    {
        let tree = Tree::new();
        tree.process(150, Path::new(exe), 1);
        put(&tree.listener(200), "stat", format!("200 (sshd) S 150 {STAT}\n"));
        let facts = tree.facts(200);
        assert_eq!((facts.parent, facts.parent_is_sshd), (150, expected), "{exe}");
    }
}

#[test]
fn only_sshds_are_looked_at_whatever_the_others_are_called() {
    let tree = Tree::new();
    tree.listener(200);
    tree.process(201, Path::new("/usr/sbin/sshd (deleted)"), 1);
    tree.process(202, Path::new("/usr/lib/openssh/sshd-session"), 1);
    put(&tree.process(203, Path::new("/usr/bin/bash"), 1), "status", status(b"sshd", 0, 0, 0));
    tree.process(204, Path::new(OsStr::from_bytes(b"/tmp/\xff\n\x1b[2J/sshd")), 1);
    tree.process(205, Path::new("/usr/lib/openssh/sshd-auth"), 1);
    tree.process(206, Path::new("/usr/sbin/sshd\n"), 1);
    tree.process(207, Path::new("/usr/sbin/sshd (deleted) (deleted)"), 1);
    tree.process(208, Path::new("/srv/sshd/worker"), 1);
    std::fs::create_dir(tree.proc().join("self-made")).expect("a directory");
    let named = tree.observed().sshd_processes(Some(110)).expect("pids");
    assert_eq!((named.of_root, named.of_users), (vec![200, 201, 202, 204, 205], Vec::new()));
}

/// Hundreds of sessions: no descriptor of theirs is read. A process of a user's is nobody's parent.
#[test]
fn children_of_sshd_processes_are_named_and_little_more() {
    let tree = Tree::new();
    tree.listener(200);
    let user = tree.process(210, Path::new("/home/user/sshd"), 1);
    chown(&user, Some(1000), None).expect("root");
    let session = Path::new("/usr/lib/openssh/sshd-session");
    for (pid, parent) in [(201, 200), (202, 201), (203, 1), (204, 210)] {
        let process = tree.process(pid, session, parent);
        std::fs::remove_dir_all(process.join("fd")).expect("its descriptors");
    }
    let named = tree.observed().sshd_processes(Some(110)).expect("pids");
    let children: Vec<(i32, i32)> = named.children.iter().map(|child| (child.pid, child.parent)).collect();
    assert_eq!((named.of_root, children), (vec![200, 203, 204], vec![(201, 200), (202, 201)]));
    assert_eq!(named.children[0].exe, session);
}

/// sshd serves as a user of its own until somebody has authenticated.
#[test]
fn a_connection_before_authentication_is_known_by_the_user_of_its_child() {
    let tree = Tree::new();
    tree.listener(200);
    let session = Path::new("/usr/lib/openssh/sshd-session");
    tree.process(201, session, 200);
    tree.process(202, session, 200);
    for (pid, parent, user) in [(203, 201, 110), (204, 202, 1000)] {
        let child = tree.process(pid, session, parent);
        chown(&child, Some(user), None).expect("root");
    }
    let named = tree.observed().sshd_processes(Some(110)).expect("pids");
    assert_eq!(named.unauthenticated, BTreeSet::from([201]));
    assert_eq!(named.of_users, [(204, session.to_owned())]);
}

/// Whose a process is, its directory tells: nothing inside of a user's is read (I14).
#[test]
fn processes_of_users_are_named_and_nothing_more() {
    let tree = Tree::new();
    tree.listener(200);
    let own = tree.process(201, Path::new("/home/user/sshd"), 1);
    chown(&own, Some(1000), None).expect("root");
    for file in ["status", "stat", "cgroup"] {
        std::fs::remove_file(own.join(file)).expect("a file");
    }
    let named = tree.observed().sshd_processes(Some(110)).expect("pids");
    assert_eq!((named.of_root, named.of_users), (vec![200], vec![(201, PathBuf::from("/home/user/sshd"))]));
}

#[test]
fn what_the_kernel_never_writes_is_an_error_that_names_the_file() {
    for (file, content) in [
        ("status", &b""[..]),
        ("status", b"Name:\tUid: 0 0\nTracerPid:\t0\n"),
        ("status", b"Name:\tsshd\nTracerPid:\t0\nUid:\t0\n"),
        ("status", b"Name:\tsshd\nTracerPid:\t0\nUid:\t\xff\t0\n"),
        ("status", b"Name:\tsshd\nUid:\t0\t0\t0\t0\n"),
        ("stat", b""),
        ("stat", b"200 (sshd"),
        ("stat", b"200 (sshd) S 1 2 3\n"),
        ("stat", b"200 (sshd) S x 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0\n"),
    ] {
        let tree = Tree::new();
        put(&tree.listener(200), file, content);
        let error = tree.try_facts(200).expect_err("an error");
        assert!(error.contains(&format!("/proc/200/{file} is malformed")), "{error}");
    }
}

/// A name as the kernel hands it out: in `status` with line breaks and backslashes escaped, in `stat` as it is
/// (proc_task_name, fs/proc/array.c).
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let pieces =
        vec!["S 1 2 3) ", ") S 77 (", "\n", "Uid:\t7\t7\t7\t7", "TracerPid:\t7", "\\", ")", "(", " ", "\u{1b}[2J"];
    let hostile = prop::collection::vec(prop::sample::select(pieces), 1..6).prop_map(|p| p.concat().into_bytes());
    prop_oneof![hostile, prop::collection::vec(1..=255_u8, 0..64)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_name_in_any_bytes_changes_no_fact(name in any_name(), uid in 0..3_u32, tracer in 0..2_i32) {
        let tree = Tree::new();
        let own = tree.listener(200);
        put(&own, "status", status(b"sshd", 0, uid, tracer));
        let plain = tree.facts(200);
        let escaped: Vec<u8> = name.iter().flat_map(|byte| match byte {
            b'\n' => b"\\n".to_vec(),
            b'\\' => b"\\\\".to_vec(),
            byte => vec![*byte],
        }).collect();
        put(&own, "status", status(&escaped, 0, uid, tracer));
        put(&own, "stat", [b"200 (".as_slice(), &name, format!(") S 1 {STAT}\n").as_bytes()].concat());
        prop_assert_eq!(tree.facts(200), plain);
    }

    #[test]
    fn files_in_any_bytes_are_read_or_not(file in prop::sample::select(&["status", "stat", "cgroup"][..]),
                                          content in prop::collection::vec(any::<u8>(), 0..512)) {
        let tree = Tree::new();
        put(&tree.listener(200), file, &content);
        match tree.try_facts(200) {
            Ok(facts) => prop_assert!(file == "cgroup" && facts.is_some()),
            Err(error) => prop_assert!(error.contains("is malformed"), "{error}"),
        }
    }
}
