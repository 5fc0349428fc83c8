//! Settings of a unit's sandbox that no start has tried yet. Only a start tells whether sshd can serve with them: it may come up
//! and close every connection.

use std::path::PathBuf;
use std::time::SystemTime;

use super::unit_files::{last_change, settings};
use crate::model::unit::Unit;

/// How the names of settings begin that take something from a process (systemd.exec(5), systemd.resource-control(5)).
const SANDBOX: [&str; 30] = [
    "AmbientCapabilities",
    "AppArmorProfile",
    "BindPaths",
    "BindReadOnlyPaths",
    "CapabilityBoundingSet",
    "Device",
    "ExecPaths",
    "IPAddress",
    "IPEgressFilterPath",
    "IPIngressFilterPath",
    "InaccessiblePaths",
    "KeyringMode",
    "Limit",
    "Memory",
    "MountFlags",
    "NoExecPaths",
    "NoNewPrivileges",
    "Private",
    "Protect",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "Restrict",
    "Root",
    "SELinuxContext",
    "SecureBits",
    "SmackProcessLabel",
    "SocketBind",
    "SystemCall",
    "TasksMax",
    "TemporaryFileSystem",
];

/// With these values they take nothing. A container's generator writes such settings anew at every reload (distrobuilder).
const NEUTRAL: [&str; 6] = ["", "no", "false", "off", "0", "default"];

/// The first such setting in a file of `unit` that was changed after the unit was active last, or after the boot.
pub(super) fn untried(unit: &Unit) -> Option<String> {
    let last_start = SystemTime::now().checked_sub(unit.last_started)?;
    untried_since(&unit.files, last_start)
}

fn untried_since(files: &[PathBuf], last_start: SystemTime) -> Option<String> {
    files.iter().filter(|file| last_change(file).is_some_and(|at| at > last_start)).find_map(|file| {
        let text = settings(&std::fs::read(file).ok()?);
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let takes = |key: &str, value: &str| {
            SANDBOX.iter().any(|name| key.starts_with(name)) && !NEUTRAL.contains(&value.to_ascii_lowercase().as_str())
        };
        let found = lines.map(|(key, value)| (key.trim(), value.trim())).find(|(key, value)| takes(key, value));
        found.map(|(key, _)| format!("{key}= in {}", file.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_was_changed_since_the_last_start_is_untried() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("x.conf");
        let files = [file.clone()];
        let hour = Duration::from_secs(3600);
        for (text, expected) in [
            ("[Service]\nCapabilityBoundingSet=CAP_KILL\n", Some("CapabilityBoundingSet")),
            ("[Service]\nRestart=always\nRuntimeDirectory=sshd\nExecStartPre=/bin/true\n", None),
            (
                "[Service]\nProtectProc=default\nProtectControlGroups=no\nNoNewPrivileges = No\nSystemCallFilter=\n",
                None,
            ),
            ("[Service]\n# RootDirectory=/srv\nNice=5\n LimitNOFILE = 5\n", Some("LimitNOFILE")),
        ] {
            std::fs::write(&file, text).expect("a file");
            let of = |last_start| untried_since(&files, last_start);
            let expected = expected.map(|key| format!("{key}= in {}", file.display()));
            assert_eq!(of(SystemTime::now() - hour), expected, "{text}");
            assert_eq!(of(SystemTime::now() + hour), None, "{text}");
        }
    }
}
