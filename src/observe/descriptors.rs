//! What a process holds open: which of its descriptors are sockets, and which of those may be connections.

use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use procfs::ProcResult;
use procfs::process::Process as ProcDirectory;
use rustix::fs::{Dir, OFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::model::process::ListenSocket;

/// The kinds of socket that sshd uses to talk to its own host (`sk_prot->name`): the log, systemd, the audit.
const LOCAL_PROTOCOLS: [&[u8]; 3] = [b"UNIX", b"UNIX-STREAM", b"NETLINK"];
/// ssh.socket may listen there, too; systemd-ssh-generator(8) does on virtual machines.
const VSOCK: &[u8] = b"AF_VSOCK";
/// One open descriptor.
pub(super) struct Descriptor {
    pub(super) number: i32,
    /// Inode, if it is a socket.
    pub(super) socket: Option<u64>,
    /// It is no connection: a socket of [`LOCAL_PROTOCOLS`], or one of [`VSOCK`] in LISTEN.
    local: bool,
}

/// The descriptors that a process has open.
///
/// # Errors
/// They could not be read.
pub(super) fn descriptors(directory: &ProcDirectory) -> ProcResult<Vec<Descriptor>> {
    let open = directory.open_relative_flags("fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
    let mut found = Vec::new();
    for entry in Dir::read_from(open.as_fd()).map_err(std::io::Error::from)? {
        let entry = entry.map_err(std::io::Error::from)?;
        let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Closed in between: no longer a descriptor of the process.
        let Ok(target) = rustix::fs::readlinkat(open.as_fd(), entry.file_name(), Vec::new()) else { continue };
        let socket = target.to_str().ok().and_then(socket_inode);
        let local = socket.is_some()
            && match protocol(open.as_raw_fd(), number).as_slice() {
                VSOCK => is_listening(directory.pid, number),
                name => LOCAL_PROTOCOLS.contains(&name),
            };
        found.push(Descriptor { number, socket, local });
    }
    Ok(found)
}

/// Paths of files start with a slash, so no file can pass for a socket.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The kernel's name for a socket's protocol (sockfs_xattr_get, net/socket.c). Empty if it does not tell.
fn protocol(directory: i32, number: i32) -> Vec<u8> {
    let mut name = [0_u8; 64];
    let path = format!("/proc/self/fd/{directory}/{number}");
    let length = rustix::fs::getxattr(path, "system.sockprotoname", &mut name[..]).unwrap_or(0);
    name[..length].split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// `SO_ACCEPTCONN` of another process's socket, for families that sock_diag(7) may not know. In doubt it is a connection.
/// Whoever asks has pinned the process, and finds out if it has exited meanwhile.
fn is_listening(pid: i32, number: i32) -> bool {
    let socket = || -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()).ok()
    };
    socket().is_some_and(|socket| getsockopt(&socket, AcceptConn).unwrap_or(false))
}

/// Inodes of the sockets that a process holds.
///
/// # Errors
/// Its descriptors could not be read.
pub(super) fn socket_inodes(directory: &ProcDirectory) -> ProcResult<BTreeSet<u64>> {
    Ok(descriptors(directory)?.into_iter().filter_map(|descriptor| descriptor.socket).collect())
}

/// Sockets that are or may be connections.
pub(super) fn connections(descriptors: &[Descriptor], listening: &[ListenSocket]) -> BTreeSet<u64> {
    let sockets = descriptors.iter().filter(|descriptor| !descriptor.local).filter_map(|d| d.socket);
    sockets.filter(|inode| !listening.iter().any(|socket| socket.inode == *inode)).collect()
}
