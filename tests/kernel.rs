//! Facts about real processes, where what the kernel does is the point: stale programs, kinds of sockets, names,
//! control groups. Needs root, as the program does.
//!
//! The test process stands for the host: PID 1 is not everywhere a test's to look at.
#![allow(missing_docs)]

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, VsockAddr, bind, socket};
use procfs::process::Process as ProcDirectory;
use proptest::prelude::*;
use sshd_mend::host::sock_diag;
use sshd_mend::model::process::{ListenSocket, Process};
use sshd_mend::observe::control_group;
use sshd_mend::observe::processes::{Observed, Proc, still_connected};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

impl Running {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }

    fn directory(&self) -> ProcDirectory {
        ProcDirectory::new(self.pid()).expect("a process")
    }

    fn facts(&self) -> Process {
        host().facts(&self.directory(), &[]).expect("facts").expect("a process").process
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

/// A Python program that has printed a line.
fn python(program: &str) -> (Running, String) {
    let child = Command::new("/usr/bin/python3").args(["-c", program]).stdout(Stdio::piped()).spawn();
    let mut child = Running(child.expect("python3"));
    let mut line = String::new();
    BufReader::new(child.0.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    (child, line.trim().to_owned())
}

/// What the test process itself holds open: one test at a time.
fn own_descriptors() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Facts about the test process.
fn own() -> Process {
    let sockets = sock_diag::listening().expect("sock_diag");
    let directory = ProcDirectory::myself().expect("a process");
    host().facts(&directory, &sockets).expect("facts").expect("a process").process
}

#[test]
fn stale_is_what_the_kernel_says_and_not_what_it_is_called() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("sshd");
    let child = sleeping(&program);
    let facts = child.facts();
    assert!(!facts.is_stale() && facts.path == program && facts.exe == program, "{facts:?}");

    // As dpkg replaces a file: the new one beside the old, renamed over it.
    let new = directory.path().join("sshd.dpkg-new");
    std::fs::copy("/bin/sleep", &new).expect("a copy");
    std::fs::rename(&new, &program).expect("renamed");
    let facts = child.facts();
    assert!(facts.is_stale() && facts.path == program, "{facts:?}");
    assert!(facts.exe.to_string_lossy().ends_with("sshd (deleted)"), "{facts:?}");
    assert_eq!(facts.on_disk.map(|file| file.inode), Some(std::fs::metadata(&program).expect("a file").ino()));

    std::fs::remove_file(&program).expect("removed");
    let facts = child.facts();
    assert!(facts.is_stale() && facts.path == program && facts.on_disk.is_none(), "{facts:?}");
}

#[test]
fn a_file_that_is_really_named_deleted_is_another_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("sshd");
    std::fs::copy("/bin/sleep", &program).expect("a copy");
    let odd = directory.path().join("sshd (deleted)");
    let child = sleeping(&odd);
    let facts = child.facts();
    assert!(!facts.is_stale() && facts.path == odd, "{facts:?}");
    std::fs::remove_file(&odd).expect("removed");
    let facts = child.facts();
    assert!(facts.is_stale() && facts.path == odd, "{facts:?}");
}

#[test]
fn sockets_that_sshd_uses_to_talk_to_its_own_host_are_no_connections() {
    let _turn = own_descriptors();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let directory = tempfile::tempdir().expect("a directory");
    let _unix = (
        UnixStream::pair().expect("sockets"),
        UnixDatagram::unbound().expect("a socket"),
        UnixListener::bind(directory.path().join("socket")).expect("a socket"),
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket"),
    );
    let netlink = |protocol| {
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).expect("a netlink socket")
    };
    let _netlink = (netlink(SockProtocol::NetlinkRoute), netlink(SockProtocol::NetlinkAudit));
    let facts = own();
    let address = listener.local_addr().expect("an address");
    assert!(facts.addresses().contains(&address) && !facts.connected, "{facts:?}");
}

#[test]
fn sockets_of_every_other_kind_may_be_connections() {
    let _turn = own_descriptors();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    assert!(!own().connected);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    assert!(own().connected, "a kind that is not known to be harmless");
    drop(udp);
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    assert!(own().connected);
    drop(client);
    for (family, kind) in [
        (AddressFamily::Vsock, SockType::Stream),
        (AddressFamily::Packet, SockType::Raw),
        (AddressFamily::Inet6, SockType::Stream),
    ] {
        let other = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        assert!(own().connected, "{family:?}");
        drop(other);
    }
    assert!(!own().connected);
}

/// I2: sockets in LISTEN of any family are no connections. systemd 257 makes sshd listen on VSOCK on virtual machines.
#[test]
fn a_vsock_socket_in_listen_is_no_connection() {
    let _turn = own_descriptors();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let vsock = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(vsock.as_raw_fd(), &VsockAddr::new(u32::MAX, u32::MAX)).expect("any port");
    nix::sys::socket::listen(&vsock, nix::sys::socket::Backlog::new(1).expect("a number")).expect("in LISTEN");
    let facts = own();
    assert!(facts.addresses().contains(&listener.local_addr().expect("an address")));
    assert!(!facts.connected, "a listener that also listens on VSOCK passes for a session");
}

#[test]
fn the_kernel_tells_what_each_socket_in_listen_reaches() {
    let (_child, told) = python(LISTENERS);
    let inodes: Vec<u64> = told.split(' ').map(|inode| inode.parse().expect("an inode")).collect();
    let sockets = sock_diag::listening().expect("sock_diag");
    let found: Vec<&ListenSocket> =
        inodes.iter().map(|inode| sockets.iter().find(|socket| socket.inode == *inode).expect("a socket")).collect();
    let seen: Vec<_> = found.iter().map(|s| (s.address.ip().to_string(), s.ipv6_only, s.device_bound)).collect();
    let expected = [("::", false, false), ("::", true, false), ("0.0.0.0", false, true), ("127.0.0.1", false, false)];
    assert_eq!(seen, expected.map(|(ip, ipv6_only, bound)| (ip.to_owned(), ipv6_only, bound)));
    let reached: Vec<usize> = found.iter().map(|socket| socket.reached_at().count()).collect();
    assert_eq!(reached, [2, 1, 1, 1]);
}

const LISTENERS: &str = "
import os, socket, time
def listen(family, host, only=0, device=b''):
    held = socket.socket(family); held.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    if family == socket.AF_INET6: held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    held.bind((host, 0)); held.listen(); return held
held = [listen(socket.AF_INET6, '::'), listen(socket.AF_INET6, '::', 1), listen(socket.AF_INET, '0.0.0.0', 0, b'lo'), listen(socket.AF_INET, '127.0.0.1')]
print(*[os.fstat(one.fileno()).st_ino for one in held], flush=True)
time.sleep(1000)
";

/// Facts about a child with one socket in LISTEN, at the address that it printed.
fn listening(child: &Running, port: &str) -> Observed {
    let sockets = sock_diag::listening().expect("sock_diag");
    let observed = host().facts(&child.directory(), &sockets).expect("facts").expect("a process");
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().expect("an address");
    assert!(observed.process.addresses().contains(&address));
    observed
}

/// Like a listener that hands its connections on: it holds one at every look, and never the same for long. The looks are
/// those of observe::keep_lasting_connections.
#[test]
fn connections_that_are_handed_on_make_no_session() {
    let (child, port) = python(&format!("{SERVER}{HAND_ON}"));
    for _ in 0..20 {
        let mut observed = listening(&child, &port);
        for pause in [5, 20, 50] {
            std::thread::sleep(Duration::from_millis(pause));
            observed.connections = still_connected(&child.directory(), &observed).expect("descriptors");
        }
        assert!(observed.connections.is_empty(), "{observed:?}");
    }
}

#[test]
fn a_connection_that_is_kept_makes_a_session() {
    let (child, port) = python(&format!("{SERVER}{KEEP}"));
    let observed = listening(&child, &port);
    assert!(observed.process.connected, "{observed:?}");
    std::thread::sleep(Duration::from_millis(75));
    let kept = still_connected(&child.directory(), &observed).expect("descriptors");
    assert!(!kept.is_empty() && kept == observed.connections, "{observed:?}");
}

const SERVER: &str = "
import socket, time
listener = socket.create_server(('127.0.0.1', 0)); port = listener.getsockname()[1]; held = []
def connect():
    client = socket.create_connection(('127.0.0.1', port)); held.append(listener.accept()[0]); client.close()
";
const HAND_ON: &str = "
print(port, flush=True)
while True: connect(); time.sleep(0.002); held.pop().close()
";
const KEEP: &str = "
connect(); print(port, flush=True); time.sleep(1000)
";

proptest! {
    /// The name of the test process itself, as any process can set its own (proc_pid_comm(5)).
    #[test]
    fn no_name_that_a_process_gives_itself_changes_a_fact(
        name in prop_oneof![
            prop::sample::select(vec![&b"x) S 1 2 3 (x"[..], b"\nUid:\t7\t7\t7\t7", b"\nTracerPid:\t7", b") S 77", b"\xff\xfe", b"))"])
                .prop_map(<[u8]>::to_vec),
            prop::collection::vec(1..=255_u8, 1..15),
        ]
    ) {
        let facts = |process: Process| (process.pid, process.parent, process.started_ticks, process.real_uid,
                                        process.effective_uid, process.traced, process.exe, process.control_group);
        let before = facts(own());
        std::fs::write("/proc/self/comm", &name).expect("a name");
        prop_assert_eq!(facts(own()), before);
    }
}

/// A control group of the test's own, with another below it; removed in the end.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists()).expect("a hierarchy");
        let group = Self(root.join(format!("sshd-mend-test-{}", std::process::id())));
        std::fs::create_dir_all(group.below()).expect("a control group");
        group
    }

    fn below(&self) -> PathBuf {
        self.0.join("a.service")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.below());
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn the_processes_of_a_control_group_are_those_below_it_too() {
    const NOBODY: [i32; 0] = [];
    let group = Group::new();
    let children = [Command::new("/bin/sleep").arg("1000").spawn(), Command::new("/bin/sleep").arg("1000").spawn()];
    let children = children.map(|child| Running(child.expect("a child")));
    let name = format!("/{}", group.0.file_name().expect("a name").to_string_lossy());
    assert_eq!(control_group::processes(&name).expect("a list"), NOBODY);
    std::fs::write(group.0.join("cgroup.procs"), children[0].pid().to_string()).expect("moved");
    std::fs::write(group.below().join("cgroup.procs"), children[1].pid().to_string()).expect("moved");
    let mut found = control_group::processes(&name).expect("a list");
    found.sort_unstable();
    let mut expected = children.iter().map(Running::pid).collect::<Vec<_>>();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(control_group::processes(&format!("{name}/none")).expect("a list"), NOBODY);
    for root in ["", "/"] {
        assert_eq!(control_group::processes(root).expect("a list"), NOBODY, "no unit lives at the root");
    }
    drop(children);
}
