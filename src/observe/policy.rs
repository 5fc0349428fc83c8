//! policy-rc.d: whether the administrator lets package runs restart services.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::host::command;
use crate::host::deadline::Deadline;
use crate::model::trial::Policy;

/// Where the administrator's script is.
pub const POLICY_RC_D: &str = "/usr/sbin/policy-rc.d";
/// Limits one question.
const POLICY_TIMEOUT: Duration = Duration::from_secs(5);
/// invoke-rc.d's "action not allowed" (policy-rc.d's specification in sysvinit, /usr/share/doc/init-system-helpers).
const DENIED: i32 = 101;

/// Asks about the restart of each unit.
pub(super) fn ask<'a>(policy: &Path, units: impl Iterator<Item = &'a str>, deadline: Deadline) -> Policy {
    if !is_executable(policy) {
        return Policy::Allows;
    }
    for unit in units {
        match command::run(policy, &[unit, "restart"], deadline.at_most(POLICY_TIMEOUT)) {
            // 104: allowed. 0: allowed; 1: unknown, 105: undefined: allowed by default, as invoke-rc.d does.
            Ok(finished) if matches!(finished.status, Some(0 | 1 | 104 | 105)) => {}
            Ok(finished) if finished.status == Some(DENIED) => {
                return Policy::Denies(format!("it denies the restart of {unit}"));
            }
            Ok(finished) => {
                return Policy::Denies(format!("it gave no usable answer for {unit}: {}", finished.last_words()));
            }
            Err(error) => return Policy::Denies(format!("it could not be asked about {unit}: {error}")),
        }
    }
    Policy::Allows
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{SERVICE, SOCKET};

    #[test]
    fn policy_rc_d_denies_by_101_and_by_silence() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = directory.path().join("policy-rc.d");
        let answer = |body: &str| {
            std::fs::write(&script, format!("#!/bin/sh\n{body}\n")).expect("a file");
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
            ask(&script, [SERVICE, SOCKET].into_iter(), Deadline::after(Duration::from_millis(500)))
        };
        assert_eq!(answer("exit 0"), Policy::Allows);
        assert_eq!(answer("exit 104"), Policy::Allows);
        assert!(matches!(answer("exit 101"), Policy::Denies(_)));
        assert!(matches!(answer("[ \"$1\" = ssh.socket ] && exit 101; exit 0"), Policy::Denies(_)));
        assert!(matches!(answer("exit 2"), Policy::Denies(_)));
        assert!(matches!(answer("while :; do :; done"), Policy::Denies(_)));
        assert!(matches!(answer("[ -z \"$HOME$LD_PRELOAD\" ] && exit 101"), Policy::Denies(_)));
        std::fs::remove_file(&script).expect("the file");
        let none = ask(&script, [SERVICE].into_iter(), Deadline::after(Duration::from_millis(500)));
        assert_eq!(none, Policy::Allows);
    }
}
