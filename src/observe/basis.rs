//! What the result of a trial depends on, as one number: programs, libraries, configuration, units. As long as it is the
//! same, a trial that passed would pass again. And whether any of it was changed since the last start.
//!
//! Files that configuration names at other places than /etc/ssh are not seen unless an option of the unit names them:
//! `check` and the timer try everything, whatever has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::SystemTime;

use super::options::options;
use super::unit_files::last_change;
use crate::model::snapshot::Instance;

/// Of instances that have passed, by the instance's service.
pub type Bases = BTreeMap<String, u64>;

/// Configuration and host keys.
const CONFIGURATION: &str = "/etc/ssh";
/// Directories below it are followed so deep.
const DEPTH_MAX: u32 = 4;
/// More entries are not looked at, in all.
const ENTRIES_MAX: usize = 1000;
/// Programs of OpenSSH 9.8 and later that serve a connection; ld.so(8)'s cache, which is written anew whenever a package
/// installs a library; users, of which sshd needs one.
const FILES: [&str; 4] =
    ["/usr/lib/openssh/sshd-session", "/usr/lib/openssh/sshd-auth", "/etc/ld.so.cache", "/etc/passwd"];

/// Of one instance.
pub fn basis(instance: &Instance) -> u64 {
    let options = options(instance.runs_sshd());
    let mut hasher = DefaultHasher::new();
    options.hash(&mut hasher);
    for file in FILES.iter().map(Path::new).chain([instance.program.path.as_path()]) {
        add_file(&mut hasher, file);
    }
    each_setting(instance, &options, &mut |file| add_file(&mut hasher, file));
    hasher.finish()
}

/// A file was changed after the last start of the unit from which sshd or systemd takes its settings.
pub(super) fn is_changed(instance: &Instance) -> bool {
    let unit = instance.runs_sshd();
    let Some(last_start) = SystemTime::now().checked_sub(unit.last_started) else { return true };
    let mut is_changed = false;
    each_setting(instance, &options(unit), &mut |path| {
        is_changed |= last_change(path).is_some_and(|at| at > last_start);
    });
    is_changed
}

/// Units, environment files, what options name, and what is below /etc/ssh.
fn each_setting(instance: &Instance, options: &[String], visit: &mut dyn FnMut(&Path)) {
    // `-f /etc/x`, `-f/etc/x`, `-oHostKey=/etc/x`.
    let named = options.iter().filter_map(|option| Some(Path::new(&option[option.find('/')?..])));
    let unit = instance.runs_sshd();
    let units = unit.files.iter().chain(&unit.environment_files).chain(&instance.socket.files);
    named.chain(units.map(AsRef::as_ref)).chain([Path::new(CONFIGURATION)]).for_each(&mut *visit);
    each_below(Path::new(CONFIGURATION), DEPTH_MAX, &mut ENTRIES_MAX.clone(), visit);
}

/// Any change of a file changes its inode or its time of change (inode(7)), which nobody can set.
fn add_file(hasher: &mut DefaultHasher, path: &Path) {
    path.hash(hasher);
    if let Ok(facts) = rustix::fs::stat(path) {
        (facts.st_dev, facts.st_ino, facts.st_ctime, facts.st_ctime_nsec, facts.st_size).hash(hasher);
    }
}

/// `left`: so many entries may still be looked at. What another user may fill is no configuration, and not followed.
fn each_below(path: &Path, depth: u32, left: &mut usize, visit: &mut dyn FnMut(&Path)) {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(*left);
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    *left -= paths.len();
    paths.sort_unstable();
    for path in paths {
        visit(&path);
        let is_roots_directory = rustix::fs::lstat(&path)
            .is_ok_and(|facts| facts.st_uid == 0 && rustix::fs::FileType::from_raw_mode(facts.st_mode).is_dir());
        if depth > 0 && is_roots_directory {
            each_below(&path, depth - 1, left, visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_below_a_directory_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = || {
            let mut hasher = DefaultHasher::new();
            let visit = &mut |path: &Path| add_file(&mut hasher, path);
            each_below(directory.path(), DEPTH_MAX, &mut ENTRIES_MAX.clone(), visit);
            hasher.finish()
        };
        let mut seen = vec![now()];
        let mut change = |change: &dyn Fn(&Path)| {
            change(directory.path());
            assert!(!seen.contains(&now()), "it is as it was before");
            seen.push(now());
            assert_eq!(seen.last(), Some(&now()), "it has not changed since");
        };
        change(&|path| std::fs::write(path.join("sshd_config"), "Port 22\n").expect("a file"));
        change(&|path| std::fs::create_dir(path.join("sshd_config.d")).expect("a directory"));
        change(&|path| std::fs::write(path.join("sshd_config.d/a.conf"), "Port 1\n").expect("a file"));
        change(&|path| std::fs::write(path.join("sshd_config.d/a.conf"), "Port 12\n").expect("a file"));
        change(&|path| std::fs::remove_file(path.join("sshd_config.d/a.conf")).expect("a file"));
    }
}
