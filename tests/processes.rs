//! Facts about processes: read from trees that look like /proc, and from real processes where the kernel matters.
#![allow(missing_docs)]

use procfs::process::Process as ProcDirectory;
use sshd_mend::observe::Proc;
use sshd_mend::snapshot::Process;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const HEADER: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

/// A tree that looks like /proc, on a machine whose root directory is `root` beside it.
struct Tree {
    directory: TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { directory: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir_all(tree.root().join("usr/sbin")).expect("a directory");
        std::fs::write(tree.root().join("usr/sbin/sshd"), "new").expect("a file");
        tree.process(1, "/lib/systemd/systemd", 0);
        let net = tree.proc().join("1/net");
        std::fs::create_dir_all(&net).expect("a directory");
        let row = |inode: u32, local: &str, state: &str| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100 0 0 10 0\n"
            )
        };
        let tcp = [
            row(501, "00000000:0016", "0A"),
            row(502, "0100007F:0899", "0A"),
            row(601, "0100007F:0016", "01"),
            row(503, "00000000:0017", "0A"),
        ];
        std::fs::write(net.join("tcp"), format!("{HEADER}{}", tcp.concat())).expect("a file");
        tree
    }

    fn proc(&self) -> PathBuf {
        self.directory.path().join("proc")
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A process of root's with the host's namespaces.
    fn process(&self, pid: i32, exe: &str, parent: i32) -> PathBuf {
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
        let rest = "0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        std::fs::write(own.join("stat"), format!("{pid} (sshd) S {parent} {pid} {pid} {rest}\n")).expect("a file");
        let status = std::fs::read_to_string("/proc/self/status")
            .expect("/proc")
            .lines()
            .map(|line| match line.split(':').next() {
                Some("Uid") => "Uid:\t0\t0\t0\t0\n".to_owned(),
                Some("Name") => "Name:\tsshd\n".to_owned(),
                _ => format!("{line}\n"),
            })
            .collect::<String>();
        std::fs::write(own.join("status"), status).expect("a file");
        std::fs::write(own.join("cgroup"), "0::/system.slice/ssh.service\n").expect("a file");
        own
    }

    /// A listener on 0.0.0.0:22 that runs `image`, an absolute path on the test's own machine.
    fn listener(&self, pid: i32, image: &Path) -> PathBuf {
        let own = self.process(pid, image.to_str().expect("UTF-8"), 1);
        symlink("socket:[501]", own.join("fd/3")).expect("a link");
        symlink("/dev/null", own.join("fd/0")).expect("a link");
        own
    }

    fn facts(&self, pid: i32) -> Option<Process> {
        let proc = Proc::below(&self.proc(), "1", 1_700_000_000).expect("a tree");
        let sockets = proc.listening().expect("a table");
        let directory = ProcDirectory::new_with_root(self.proc().join(pid.to_string())).expect("a process");
        proc.facts(&directory, &self.root().join("usr/sbin/sshd"), &sockets)
            .expect("facts")
            .map(|observed| observed.process)
    }
}

fn set(texts: &[&str]) -> BTreeSet<SocketAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn a_listener_is_read_as_it_is() {
    let tree = Tree::new();
    tree.listener(200, &tree.root().join("usr/sbin/sshd"));
    let facts = tree.facts(200).expect("a process");
    assert_eq!((facts.pid, facts.started_ticks, facts.parent), (200, 4242, 1));
    assert_eq!(facts.listening, set(&["0.0.0.0:22"]));
    assert_eq!(facts.unit.as_deref(), Some("ssh.service"));
    assert!(facts.at_program_path && !facts.connected && !facts.stdin_is_socket && !facts.parent_is_sshd);
    let here = facts.surroundings;
    assert!(here.pid_namespace && here.network_namespace && here.user_namespace && here.root_directory);
    assert_eq!((facts.real_uid, facts.effective_uid), (0, 0));
}

#[test]
fn sockets_tell_what_a_process_does() {
    for (number, link, listening, connected, stdin) in [
        (4, "socket:[502]", &["0.0.0.0:22", "127.0.0.1:2201"][..], false, false),
        (4, "socket:[601]", &["0.0.0.0:22"], true, false),
        (4, "socket:[999]", &["0.0.0.0:22"], true, false), // of no kind that is known: perhaps VSOCK
        (4, "/tmp/socket:[601]", &["0.0.0.0:22"], false, false),
        (4, "pipe:[601]", &["0.0.0.0:22"], false, false),
    ] {
        let tree = Tree::new();
        let own = tree.listener(200, &tree.root().join("usr/sbin/sshd"));
        symlink(link, own.join("fd").join(number.to_string())).expect("a link");
        let facts = tree.facts(200).expect("a process");
        assert_eq!(
            (facts.listening, facts.connected, facts.stdin_is_socket),
            (set(listening), connected, stdin),
            "{link}"
        );
    }
    let tree = Tree::new();
    let own = tree.process(200, tree.root().join("usr/sbin/sshd").to_str().expect("UTF-8"), 1);
    symlink("socket:[501]", own.join("fd/0")).expect("a link");
    assert!(tree.facts(200).expect("a process").stdin_is_socket);
}

#[test]
fn rows_after_the_listening_ones_are_not_read() {
    let tree = Tree::new();
    let own = tree.process(200, tree.root().join("usr/sbin/sshd").to_str().expect("UTF-8"), 1);
    // The tree's table has a row in LISTEN after one that is not, as the kernel's never has.
    symlink("socket:[503]", own.join("fd/3")).expect("a link");
    let facts = tree.facts(200).expect("a process");
    assert!(facts.listening.is_empty() && facts.connected);
}

#[test]
fn another_namespace_or_root_is_seen() {
    for link in ["ns/pid", "ns/net", "ns/user", "root"] {
        let tree = Tree::new();
        let own = tree.listener(200, &tree.root().join("usr/sbin/sshd"));
        let other = tree.directory.path().join("other");
        std::fs::create_dir(&other).expect("a directory");
        std::fs::remove_file(own.join(link)).expect("the link");
        symlink(&other, own.join(link)).expect("a link");
        let here = tree.facts(200).expect("a process").surroundings;
        let same = [here.pid_namespace, here.network_namespace, here.user_namespace, here.root_directory];
        assert_eq!(same.iter().filter(|same| !**same).count(), 1, "{link}: {here:?}");
    }
}

#[test]
fn a_process_without_a_program_is_none() {
    let tree = Tree::new();
    let own = tree.listener(200, &tree.root().join("usr/sbin/sshd"));
    std::fs::remove_file(own.join("exe")).expect("the link");
    assert_eq!(tree.facts(200), None);
}

#[test]
fn a_child_of_an_sshd_is_known_by_its_parent() {
    let tree = Tree::new();
    tree.listener(200, &tree.root().join("usr/sbin/sshd"));
    let own = tree.listener(201, &tree.root().join("usr/sbin/sshd"));
    let stat = std::fs::read_to_string(own.join("stat")).expect("a file").replace("S 1 ", "S 200 ");
    std::fs::write(own.join("stat"), stat).expect("a file");
    assert!(tree.facts(201).expect("a process").parent_is_sshd);
}

#[test]
fn only_sshds_are_looked_at_whatever_the_others_are_called() {
    let tree = Tree::new();
    tree.listener(200, &tree.root().join("usr/sbin/sshd"));
    tree.process(201, "/usr/sbin/sshd (deleted)", 1);
    tree.process(202, "/usr/lib/openssh/sshd-session", 1);
    tree.process(203, "/usr/bin/bash", 1);
    let own = tree.process(204, "/x", 1);
    std::fs::remove_file(own.join("exe")).expect("the link");
    symlink(OsStr::from_bytes(b"/tmp/\xff\n\x1b[2J/sshd"), own.join("exe")).expect("a link");
    std::fs::create_dir(tree.proc().join("self-made")).expect("a directory");
    let pids = Proc::below(&tree.proc(), "1", 0).expect("a tree").sshd_pids(Path::new("/usr/sbin/sshd")).expect("pids");
    assert_eq!(pids, [200, 201, 202, 204]);
}

/// The real /proc, where the test process stands for the host: PID 1 is not everywhere a test's to look at.
fn host() -> Proc {
    Proc::below(Path::new("/proc"), "self", 0).expect("/proc")
}

/// A child that ends with the test, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a copy of sleep under another name.
fn sleeping(program: &Path) -> Running {
    std::fs::copy("/bin/sleep", program).expect("a copy");
    loop {
        match Command::new(program).arg("1000").stdout(Stdio::null()).spawn() {
            // Another test's fork may hold our copy open for writing until it execs.
            Err(error) if error.raw_os_error() == Some(26) => {}
            child => return Running(child.expect("a child")),
        }
    }
}

fn facts_of(child: &Running, program: &Path) -> Process {
    let proc = host();
    let directory = ProcDirectory::new(i32::try_from(child.0.id()).expect("a pid")).expect("a process");
    proc.facts(&directory, program, &[]).expect("facts").expect("a process").process
}

#[test]
fn stale_is_what_the_kernel_says_and_not_what_it_is_called() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("sshd");
    let child = sleeping(&program);
    let facts = facts_of(&child, &program);
    assert!(!facts.stale() && facts.at_program_path, "{facts:?}");

    // As dpkg replaces a file: the new one beside the old, renamed over it.
    let new = directory.path().join("sshd.dpkg-new");
    std::fs::copy("/bin/sleep", &new).expect("a copy");
    std::fs::rename(&new, &program).expect("renamed");
    let facts = facts_of(&child, &program);
    assert!(
        facts.stale() && facts.at_program_path && facts.exe.to_string_lossy().ends_with("sshd (deleted)"),
        "{facts:?}"
    );

    std::fs::remove_file(&program).expect("removed");
    let facts = facts_of(&child, &program);
    assert!(facts.stale() && facts.at_program_path && facts.on_disk.is_none(), "{facts:?}");
}

#[test]
fn a_file_that_is_really_named_deleted_is_not_stale() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("sshd");
    std::fs::copy("/bin/sleep", &program).expect("a copy");
    let child = sleeping(&directory.path().join("sshd (deleted)"));
    let facts = facts_of(&child, &program);
    assert!(!facts.stale() && !facts.at_program_path, "{facts:?}");
}

/// Only this test looks at the test process itself, whose sockets other tests do not touch.
#[test]
fn kinds_of_sockets_are_told_apart_by_the_kernel() {
    let own = || {
        let proc = host();
        let sockets = proc.listening().expect("a table");
        let directory = ProcDirectory::myself().expect("a process");
        proc.facts(&directory, Path::new("/none"), &sockets).expect("facts").expect("a process").process
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let _local = (UnixStream::pair().expect("sockets"), UnixDatagram::unbound().expect("a socket"));
    let facts = own();
    assert!(facts.listening.contains(&address) && !facts.connected, "{facts:?}");

    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    assert!(own().connected, "a kind that is not known to be harmless");
    drop(udp);
    assert!(!own().connected);

    let client = TcpStream::connect(address).expect("a connection");
    assert!(own().connected);
    drop(client);
    assert!(!own().connected);
}

/// Like a listener that hands its connections on: it holds one at every look, and never the same for long.
#[test]
fn connections_that_are_handed_on_make_no_session() {
    let child = Command::new("/usr/bin/python3").args(["-c", ACCEPTOR]).stdout(Stdio::piped()).spawn();
    let mut child = Running(child.expect("python3"));
    let mut port = String::new();
    BufReader::new(child.0.stdout.as_mut().expect("a pipe")).read_line(&mut port).expect("a line");
    let sockets = || host().listening().expect("a table");
    let directory = ProcDirectory::new(i32::try_from(child.0.id()).expect("a pid")).expect("a process");
    for _ in 0..20 {
        let facts =
            host().facts(&directory, Path::new("/none"), &sockets()).expect("facts").expect("a process").process;
        assert!(facts.listening.contains(&format!("127.0.0.1:{}", port.trim()).parse().expect("an address")));
        assert!(!facts.connected, "{facts:?}");
    }
}

const ACCEPTOR: &str = "
import socket, threading, time
listener = socket.create_server(('127.0.0.1', 0))
port = listener.getsockname()[1]
print(port, flush=True)
while True:
    client = socket.create_connection(('127.0.0.1', port)); held = listener.accept()[0]
    client.close(); time.sleep(0.002); held.close()
";
