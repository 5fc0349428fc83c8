//! Settings of a service without which systemd cannot start it at all, whatever its program is like: files and directories that
//! have to be there, and its user. They may have changed since the running sshd was started.
//!
//! Sandbox settings are not judged.

use std::path::Path;

/// What would keep a start from succeeding, from the unit's files in systemd's order. Values with specifiers or patterns are
/// left out.
pub(super) fn hindrance(files: &[String]) -> Option<String> {
    let environment = all(files, "EnvironmentFile").into_iter().find(|value| !value.starts_with('-') && !exists(value));
    if let Some(path) = environment {
        return Some(format!("EnvironmentFile={path} is missing"));
    }
    for key in ["WorkingDirectory", "RootDirectory"] {
        let value = all(files, key).pop();
        if let Some(path) = value.filter(|value| value.starts_with('/') && !exists(value)) {
            return Some(format!("{key}={path} is missing"));
        }
    }
    let user = all(files, "User").pop().filter(|user| user != "root" && user != "0" && !user.contains('%'));
    user.map(|user| format!("User={user}: sshd has to be started by root"))
}

/// The values of a setting of `[Service]`; an empty one takes back those before it (systemd.unit(5)).
fn all(files: &[String], key: &str) -> Vec<String> {
    let mut values = Vec::new();
    for file in files {
        let mut in_service = false;
        for line in file.lines().map(str::trim) {
            if line.starts_with('[') {
                in_service = line == "[Service]";
            }
            let Some((_, value)) = line.split_once('=').filter(|(name, _)| in_service && name.trim() == key) else {
                continue;
            };
            match value.trim() {
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }
    values
}

/// True also where that cannot be said.
fn exists(path: &str) -> bool {
    let is_plain = path.starts_with('/') && !path.contains(['%', '*', '?', '[']);
    !is_plain || Path::new(path).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_start_from_succeeding() {
        let of = |drop_in: &str| {
            let unit = "[Unit]\nUser=x\n[Service]\nEnvironmentFile=-/etc/default/nothing\n";
            hindrance(&[unit.to_owned(), format!("[Service]\n{drop_in}\n")])
        };
        for harmless in [
            "",
            "EnvironmentFile=/etc/passwd",
            "EnvironmentFile=/nothing\nEnvironmentFile=",
            "EnvironmentFile=/etc/%n",
            "WorkingDirectory=-/nothing",
            "WorkingDirectory=~",
            "WorkingDirectory=/nothing\nWorkingDirectory=/",
            "User=root",
            "[Install]\nUser=nobody",
        ] {
            assert_eq!(of(harmless), None, "{harmless}");
        }
        for setting in
            ["EnvironmentFile=/nothing", "WorkingDirectory=/nothing", "RootDirectory=/nothing", "User=nobody"]
        {
            assert!(of(setting).is_some_and(|what| what.starts_with(setting)), "{setting}");
        }
    }
}
