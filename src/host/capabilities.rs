//! What this process may do as root: no more than looking at other processes takes.
//!
//! Dropped before the first look at `/proc`, so that nothing which is read there could be turned into more. Ending a
//! listener takes none: it runs as root, and so does this process (kill(2)).

use rustix::io;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// To see what processes of root hold open that have more capabilities than this one (ptrace(2), "PTRACE_MODE_READ").
/// Descriptors of other users' processes stay hidden (proc_pid_fd(5)), and are of no interest: those are never ended.
const NEEDED: CapabilitySet = CapabilitySet::SYS_PTRACE;

/// For the sshd that is tried, which changes its user and root directory and reads host keys and configuration of other
/// users. Never in effect here, but under NoNewPrivileges= a program gets no more than its parent was permitted
/// (cap_bprm_creds_from_file, security/commoncap.c).
const FOR_SSHD: CapabilitySet = CapabilitySet::SYS_CHROOT
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Keeps what is needed, as far as this process has it, and nothing else. Belongs before the first thread: threads have
/// capabilities of their own (capabilities(7)).
///
/// # Errors
/// The kernel did not take them.
pub fn drop_all_but_needed() -> io::Result<()> {
    let permitted = capabilities(None)?.permitted & NEEDED.union(FOR_SSHD);
    let effective = permitted & NEEDED;
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
}

/// Drops from the calling thread, and so from what it starts, what only the sshd that is tried needs.
///
/// # Errors
/// The kernel did not take them.
pub fn drop_those_for_sshd() -> io::Result<()> {
    let own = capabilities(None)?;
    let permitted = own.permitted & NEEDED;
    let effective = own.effective & NEEDED;
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
}
