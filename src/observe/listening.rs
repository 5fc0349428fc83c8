//! TCP sockets in LISTEN, as the kernel lists them for one network namespace.

use procfs::net::TcpNetEntries;
use procfs::{FromBufReadSI, ProcResult};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;

/// A TCP socket in LISTEN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// Its inode on sockfs, which descriptors of processes refer to.
    pub inode: u64,
}

/// TCP_LISTEN (include/net/tcp_states.h) as /proc/net/tcp prints it.
const LISTEN: &str = "0A";

/// Reads `tcp` and `tcp6` below a `/proc/PID/net`.
///
/// # Errors
/// The table of IPv4 could not be read. A kernel without IPv6 has none for it.
pub fn read(net: &Path) -> ProcResult<Vec<Socket>> {
    let mut sockets = table(&net.join("tcp"))?;
    match table(&net.join("tcp6")) {
        Ok(more) => sockets.extend(more),
        Err(procfs::ProcError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

/// The kernel prints its hash of listening sockets first, connections after it (tcp_seq_start, net/ipv4/tcp_ipv4.c).
/// Reading stops at the first row that is not in LISTEN: 38,000 connections take 200 ms to print.
fn table(path: &Path) -> ProcResult<Vec<Socket>> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => procfs::ProcError::NotFound(Some(path.to_owned())),
        _ => procfs::ProcError::Io(error, Some(path.to_owned())),
    })?;
    let mut rows = String::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line?;
        if number > 0 && line.split_whitespace().nth(3) != Some(LISTEN) {
            break;
        }
        rows.push_str(&line);
        rows.push('\n');
    }
    let entries = TcpNetEntries::from_buf_read(rows.as_bytes(), procfs::current_system_info())?;
    Ok(entries.0.into_iter().map(|entry| Socket { address: entry.local_address, inode: entry.inode }).collect())
}
