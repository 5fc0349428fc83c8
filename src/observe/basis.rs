//! What the result of a trial depends on, as one number: programs, libraries, configuration, units. As long as it is the
//! same, a trial that passed would pass again.
//!
//! Files that configuration names at other places than /etc/ssh are not seen unless an option of the unit names them:
//! `check` and the timer try everything, whatever has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::options::options;
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
    let unit = instance.runs_sshd();
    let options = options(unit);
    let mut hasher = DefaultHasher::new();
    options.hash(&mut hasher);
    // `-f /etc/x`, `-f/etc/x`, `-oHostKey=/etc/x`.
    let named = options.iter().filter_map(|option| Some(Path::new(&option[option.find('/')?..])));
    let files = FILES.iter().map(Path::new).chain([instance.program.path.as_path()]).chain(named);
    let units = unit.files.iter().chain(&unit.environment_files).chain(&instance.socket.files);
    for file in files.chain(units.map(AsRef::as_ref)) {
        add_file(&mut hasher, file);
    }
    add_directory(&mut hasher, Path::new(CONFIGURATION), DEPTH_MAX, &mut ENTRIES_MAX.clone());
    hasher.finish()
}

/// Any change of a file changes its inode or its time of change (inode(7)), which nobody can set.
fn add_file(hasher: &mut DefaultHasher, path: &Path) {
    path.hash(hasher);
    if let Ok(facts) = rustix::fs::stat(path) {
        (facts.st_dev, facts.st_ino, facts.st_ctime, facts.st_ctime_nsec, facts.st_size).hash(hasher);
    }
}

/// `left`: so many entries may still be looked at. What another user may fill is no configuration, and not followed.
fn add_directory(hasher: &mut DefaultHasher, path: &Path, depth: u32, left: &mut usize) {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(*left);
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    *left -= paths.len();
    paths.sort_unstable();
    for path in paths {
        add_file(hasher, &path);
        let is_roots_directory = rustix::fs::lstat(&path)
            .is_ok_and(|facts| facts.st_uid == 0 && rustix::fs::FileType::from_raw_mode(facts.st_mode).is_dir());
        if depth > 0 && is_roots_directory {
            add_directory(hasher, &path, depth - 1, left);
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
            add_directory(&mut hasher, directory.path(), DEPTH_MAX, &mut ENTRIES_MAX.clone());
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
