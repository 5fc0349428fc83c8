//! A cgroup of the old kind (cgroups(7), version 1), made out here: its controllers are not in the machine's own tree.

use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Ends with its value; who is in it moves back to the root.
pub struct OldCgroup {
    mount: TempDir,
}

impl OldCgroup {
    /// With one process, by its pid out here; what it starts later is in it as well.
    pub fn with(controller: &str, pid: i32) -> Self {
        let mount = tempfile::tempdir().expect("a directory");
        let path = mount.path().to_str().expect("UTF-8");
        let arguments = ["-t", "cgroup", "-o", controller, controller, path];
        assert!(Command::new("mount").args(arguments).status().expect("mount").success(), "{arguments:?}");
        let cgroup = Self { mount };
        let _ = std::fs::create_dir(cgroup.path());
        cgroup.set("cgroup.procs", &pid.to_string());
        cgroup
    }

    fn path(&self) -> PathBuf {
        self.mount.path().join("sshd-mend-test")
    }

    pub fn set(&self, file: &str, value: &str) {
        std::fs::write(self.path().join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    pub fn get(&self, file: &str) -> u32 {
        let text = std::fs::read_to_string(self.path().join(file)).expect("a file");
        text.trim().parse().expect("a number")
    }
}

impl Drop for OldCgroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.path().join("freezer.state"), "THAWED");
        let _ = std::fs::write(self.path().join("pids.max"), "max");
        loop {
            let pids = std::fs::read_to_string(self.path().join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                let _ = std::fs::write(self.mount.path().join("cgroup.procs"), pid);
            }
            if pids.is_empty() {
                break;
            }
        }
        let _ = std::fs::remove_dir(self.path());
        let _ = Command::new("umount").arg(self.mount.path()).status();
    }
}
