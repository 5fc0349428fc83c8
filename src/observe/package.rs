//! Whether dpkg has finished with the package that owns a program.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::host::command::{self, Finished};
use crate::host::deadline::Deadline;
use crate::model::trial::Package;

const DPKG_QUERY: &str = "/usr/bin/dpkg-query";
/// The package that owns /usr/sbin/sshd on nearly every host.
const OPENSSH_SERVER: &str = "openssh-server";
/// Limits one query, which takes some 10 ms.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn package(program: &Path, deadline: Deadline) -> Package {
    let query = |arguments: &[&str]| command::run(Path::new(DPKG_QUERY), arguments, deadline.at_most(QUERY_TIMEOUT));
    let path = program.display().to_string();
    // A search reads the lists of all packages, and takes as long as everything else that is tried.
    let of_openssh = query(&["--listfiles", "--", OPENSSH_SERVER]);
    if of_openssh.is_ok_and(|list| list.succeeded() && list.output.lines().any(|file| file == path)) {
        return state(OPENSSH_SERVER, &query);
    }
    let owner = match query(&["--search", "--", &path]) {
        Ok(finished) if finished.succeeded() => owner(&path, &finished.output),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Package::Unconfigured(format!("dpkg-query: {error}")),
    };
    owner.map_or(Package::Ready, |owner| state(&owner, &query))
}

fn state(owner: &str, query: &impl Fn(&[&str]) -> io::Result<Finished>) -> Package {
    match query(&["--show", "--showformat=${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status}", "--", owner]) {
        Ok(finished) if finished.output.ends_with(" ok installed") => Package::Ready,
        Ok(finished) => Package::Unconfigured(format!("{owner} is \"{}\"", finished.output.trim())),
        Err(error) => Package::Unconfigured(format!("dpkg-query: {error}")),
    }
}

/// The package that owns a file, from what `dpkg-query --search` prints: `openssh-server: /usr/sbin/sshd`. Lines about
/// diversions start otherwise.
pub fn owner(path: &str, found: &str) -> Option<String> {
    found.lines().find_map(|line| {
        let (packages, file) = line.rsplit_once(": ")?;
        (file == path && !packages.starts_with("diversion "))
            .then(|| packages.split(", ").next().unwrap_or(packages).to_owned())
    })
}

/// Locks that dpkg and the programs around it hold while they work (dpkg(1), lock-frontend in its documentation).
const LOCKS: [&str; 2] = ["/var/lib/dpkg/lock", "/var/lib/dpkg/lock-frontend"];

/// A package run is under way. What cannot be found out is none.
pub fn is_run_under_way() -> bool {
    LOCKS.iter().any(|lock| is_locked(Path::new(lock)))
}

/// Somebody else holds a write lock on it (F_GETLK in fcntl_locking(2)).
fn is_locked(path: &Path) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return false };
    let kind = |kind: libc::c_int| libc::c_short::try_from(kind).unwrap_or_default();
    let (l_type, l_whence) = (kind(libc::F_WRLCK), kind(libc::SEEK_SET));
    let mut lock = libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).is_ok() && lock.l_type != kind(libc::F_UNLCK)
}
