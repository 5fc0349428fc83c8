//! Who holds a listening socket that is in the way: looked up only to be shown, never to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::host::deadline::Deadline;
use crate::model::printable::printable;

/// More descriptors of one process are not looked at: a server that listens opens its socket early.
const DESCRIPTORS_MAX: usize = 4096;

/// For the whole lookup.
const LIMIT: Duration = Duration::from_millis(500);

/// `nginx 812`, by the inode of the socket, of root's processes. A process's program names it, which it cannot choose as it likes; a
/// process that cannot be read is left out.
pub fn holders(sockets: &BTreeSet<u64>, deadline: Deadline) -> BTreeMap<u64, String> {
    let deadline = deadline.at_most(LIMIT);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if found.len() == sockets.len() || deadline.has_passed() {
            break;
        }
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        // The directory itself belongs to the effective user, whether the process is dumpable or not: users' processes stay
        // unread.
        if !rustix::fs::stat(entry.path()).is_ok_and(|facts| facts.st_uid == 0) {
            continue;
        }
        let descriptors = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().take(DESCRIPTORS_MAX);
        for descriptor in descriptors.flatten() {
            let Some(inode) = socket(&descriptor.path()).filter(|inode| sockets.contains(inode)) else { continue };
            let exe = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
            let program = exe.file_name().unwrap_or_default().to_string_lossy();
            found.entry(inode).or_insert_with(|| printable(&format!("{program} {pid}")));
        }
    }
    found
}

/// The socket that a descriptor is: its link reads `socket:[INODE]` (proc_pid_fd(5)).
fn socket(descriptor: &Path) -> Option<u64> {
    let link = std::fs::read_link(descriptor).ok()?;
    let inode = link.as_os_str().as_bytes().strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(inode).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_program_that_holds_a_socket_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener));
        let inode = socket(Path::new(&link)).expect("a socket");
        let found = holders(&BTreeSet::from([inode, 0]), Deadline::after(Duration::from_secs(10)));
        let own = found.get(&inode).expect("this process holds it");
        assert!(own.ends_with(&format!(" {}", std::process::id())) && own.starts_with("sshd_mend"), "{own}");
    }
}
