//! Control groups: which unit a process belongs to, and which processes a stop of a unit would end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where hierarchies of control groups are mounted: the unified one, and systemd's own on a hybrid or legacy host.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"];

/// The control group that a `/proc/PID/cgroup` names: in the unified tree, else in systemd's own.
pub fn of_process(text: &str) -> &str {
    let unified = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    if unit(unified).is_some() {
        return unified;
    }
    let legacy = text.lines().find(|line| line.split(':').nth(1) == Some("name=systemd"));
    legacy.and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or(unified)
}

/// The unit to which a control group belongs: the first component that is no slice (cg_path_get_unit in systemd's
/// cgroup-util.c).
pub fn unit(path: &str) -> Option<String> {
    let component = path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))?;
    // systemd puts an underscore before names that the kernel uses itself (cg_escape).
    let name = component.strip_prefix('_').unwrap_or(component);
    let kind = name.rsplit_once('.').map(|(_, suffix)| suffix);
    matches!(kind, Some("service" | "scope" | "socket")).then(|| name.to_owned())
}

/// All processes in a control group and below it.
///
/// # Errors
/// It could not be read. One that does not exist has no processes.
pub fn processes(control_group: &str) -> io::Result<Vec<i32>> {
    let relative = control_group.trim_start_matches('/');
    if relative.is_empty() {
        return Ok(Vec::new());
    }
    let found = ROOTS.iter().map(|root| Path::new(root).join(relative)).find(|path| path.is_dir());
    let mut pids = Vec::new();
    let mut pending: Vec<PathBuf> = found.into_iter().collect();
    while let Some(group) = pending.pop() {
        let text = match fs::read_to_string(group.join("cgroup.procs")) {
            // It was removed in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text?,
        };
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        for entry in fs::read_dir(&group)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_first_component_that_is_no_slice() {
        let of = |text: &str| unit(of_process(text));
        assert_eq!(of("0::/system.slice/ssh.service\n"), Some("ssh.service".into()));
        assert_eq!(of("0::/user.slice/user-1000.slice/session-3.scope\n"), Some("session-3.scope".into()));
        assert_eq!(
            of("0::/user.slice/user-0.slice/user@0.service/app.slice/evil.service\n"),
            Some("user@0.service".into())
        );
        assert_eq!(of("0::/system.slice/system-sshd.slice/sshd@1.service/sub\n"), Some("sshd@1.service".into()));
        assert_eq!(of("9:name=systemd:/\n8:pids:/\n0::/system.slice/ssh.service\n"), Some("ssh.service".into()));
        assert_eq!(of("1:name=systemd:/system.slice/ssh.service\n0::/\n"), Some("ssh.service".into()));
        assert_eq!(of("0::/\n"), None);
        assert_eq!(of(""), None);
    }
}
