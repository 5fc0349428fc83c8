//! One process whose program is called like a part of OpenSSH's server, in the kernel's words.
//!
//! Nothing in here was chosen by the process that it describes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use super::probe::Probe;

/// The file at a path, told apart from every other file: device and inode (stat(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// `st_dev`
    pub device: u64,
    /// `st_ino`
    pub inode: u64,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id in the host's PID namespace.
    pub pid: i32,
    /// Start in clock ticks since boot (proc_pid_stat(5)): with the pid it names one process for as long as the machine
    /// runs.
    pub started_ticks: u64,
    /// Start as wall clock time.
    pub started: SystemTime,
    /// What `/proc/PID/exe` reads, ` (deleted)` included.
    pub exe: PathBuf,
    /// The path of its program, without what the kernel appends to it.
    pub path: PathBuf,
    /// The file that the process runs.
    pub image: FileId,
    /// The file now at `path`, as this process sees it (below its own root). `None`: there is none.
    pub on_disk: Option<FileId>,
    pub surroundings: Surroundings,
    /// Real user id.
    pub real_uid: u32,
    /// Effective user id.
    pub effective_uid: u32,
    /// Its parent's pid.
    pub parent: i32,
    /// Its parent's program is an sshd as well.
    pub parent_is_sshd: bool,
    /// Its TCP sockets in LISTEN.
    pub sockets: Vec<ListenSocket>,
    /// It holds a socket that is, or may be, a connection: neither in LISTEN nor of the kinds that sshd uses to talk to
    /// its own host.
    pub connected: bool,
    /// A debugger is attached to it (`TracerPid`, proc_pid_status(5)).
    pub traced: bool,
    /// Descriptor 0 is a socket, as under inetd.
    pub stdin_is_socket: bool,
    /// Its control group below the root of the hierarchy (`/proc/PID/cgroup`).
    pub control_group: String,
    /// The systemd unit whose control group that is.
    pub unit: Option<String>,
    /// Libraries that it runs and that are no longer on disk, by file name. Looked up of processes that hold a socket in
    /// LISTEN and whose program is on disk.
    pub stale_libraries: Vec<String>,
    /// Whether a new connection gets through. Only a listener has one.
    pub probe: Option<Probe>,
}

/// A child of one of root's sshd processes: it serves a connection, and nothing more is read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Process id in the host's PID namespace.
    pub pid: i32,
    /// Its parent's pid.
    pub parent: i32,
    /// What `/proc/PID/exe` reads.
    pub exe: PathBuf,
    /// Its control group below the root of the hierarchy (`/proc/PID/cgroup`).
    pub control_group: String,
    /// The systemd unit whose control group that is.
    pub unit: Option<String>,
}

/// A TCP socket in LISTEN (sock_diag(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenSocket {
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// `IPV6_V6ONLY`: `[::]` does not serve IPv4 (ipv6(7)).
    pub ipv6_only: bool,
    /// It serves one network interface only (`SO_BINDTODEVICE`, socket(7)).
    pub device_bound: bool,
    /// That interface is a VRF, or belongs to one (ip-vrf(8)), or it cannot be told.
    pub vrf: bool,
    /// Its inode on sockfs, which descriptors of processes refer to.
    pub inode: u64,
}

/// Whether a process runs in the host's own namespaces and root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    pub pid_namespace: bool,
    pub network_namespace: bool,
    pub user_namespace: bool,
    /// The host's root directory, by device and inode.
    pub root_directory: bool,
}

impl Surroundings {
    /// All of them are the host's.
    pub fn is_host(self) -> bool {
        self.pid_namespace && self.network_namespace && self.user_namespace && self.root_directory
    }
}

impl ListenSocket {
    /// The addresses at which clients reach it.
    pub fn reached_at(&self) -> impl Iterator<Item = SocketAddr> {
        let dual = self.address.is_ipv6() && self.address.ip().is_unspecified() && !self.ipv6_only;
        let ipv4 = dual.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.address.port())));
        ipv4.into_iter().chain([self.address])
    }
}

impl Process {
    /// The program that the process runs is not the file now at its path.
    pub fn is_stale(&self) -> bool {
        self.on_disk != Some(self.image)
    }

    /// The addresses of its sockets in LISTEN.
    pub fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.sockets.iter().map(|socket| socket.address).collect()
    }

    /// All addresses at which clients reach it: `[::]` serves IPv4 too, unless it is bound for IPv6 only.
    pub fn reached_at(&self) -> BTreeSet<SocketAddr> {
        self.sockets.iter().flat_map(ListenSocket::reached_at).collect()
    }

    /// It is the same process, and nothing that a decision depends on has changed.
    pub fn is_same_as(&self, judged: &Self) -> bool {
        self.pid == judged.pid
            && self.started_ticks == judged.started_ticks
            && self.image == judged.image
            && self.is_stale() == judged.is_stale()
            && self.addresses() == judged.addresses()
            && self.traced == judged.traced
    }
}
