//! How many descriptors this process may have.
//!
//! Each session of root is pinned while a repair is under way, and the usual 1024 are used up by five hundred of them
//! (systemd's DefaultLimitNOFILE=). sshd-mend-repair.service, whose system calls are filtered, sets this limit itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to what the administrator allows. Where that is not possible, nothing changes: a shortage of descriptors
/// is noticed by whoever needs one.
pub fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
