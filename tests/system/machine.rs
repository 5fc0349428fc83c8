//! A throwaway Debian with systemd as PID 1. It ends with its value, and leaves nothing behind.

use crate::network::Network;
use crate::schema::violations;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For everything that is waited for. A boot takes a second, an upgrade of openssh-server three.
const PATIENCE: Duration = Duration::from_secs(90);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A machine that runs.
pub struct Machine {
    name: String,
    supervisor: Child,
    directory: PathBuf,
}

/// What a command inside a machine came to.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            // -1: it was killed by a signal.
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Output {
    /// The same, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self:#?}");
        self
    }

    /// Standard output as JSON, whoever wrote it.
    #[track_caller]
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }

    /// What `--json` printed, which is as packaging/outcome.schema.json says.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let value = self.value();
        let violations = violations(&value);
        assert!(violations.is_empty(), "{violations:#?} in {value:#}\n{}", self.stderr);
        value
    }
}

/// Where the root file systems are, see tests/system/prepare.
pub fn lab() -> PathBuf {
    std::env::var_os("SSHD_MEND_LAB").map_or_else(|| PathBuf::from("/var/cache/sshd-mend-lab"), PathBuf::from)
}

/// The package under test. tests/run builds it and says where it is.
pub fn package() -> PathBuf {
    let path = std::env::var_os("SSHD_MEND_DEB").expect("SSHD_MEND_DEB names the package under test: use tests/run");
    std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("{}: {error}", Path::new(&path).display()))
}

pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system").join(name)
}

impl Machine {
    /// Boots a machine from a root file system that tests/system/prepare made.
    pub fn boot(root: &str) -> Self {
        let machine = Self::boot_with(root, None);
        machine.sh("ip link set lo up").ok();
        machine
    }

    /// The same, at an address of a network.
    pub fn boot_at(network: &Network, root: &str, address: &str) -> Self {
        let machine = Self::boot_with(root, Some(network));
        machine.sh(&format!("ip link set lo up; ip link set host0 up; ip addr add {address}/16 dev host0")).ok();
        machine
    }

    fn boot_with(root: &str, network: Option<&Network>) -> Self {
        let name = format!("sshd-mend-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&directory).expect("a directory for what goes into the machine");
        let console = std::fs::File::create(directory.join("console")).expect("a file for the console");
        let root = lab().join(root);
        assert!(root.join("usr").is_dir(), "{} is missing: run tests/system/prepare", root.display());
        let mut boot = network.map_or_else(|| Command::new(script("boot")), |network| network.command(&script("boot")));
        let supervisor = boot
            .args([name.as_str(), root.to_str().expect("a path in UTF-8")])
            .arg(format!("--bind={}:/lab", directory.display()))
            .args(network.map(|_| "--network-bridge=br0"))
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a second descriptor"))
            .stderr(console)
            .spawn()
            .expect("tests/system/boot starts");
        let machine = Self { name, supervisor, directory };
        machine.wait_until("systemd is up", |machine| {
            machine.leader().is_some()
                && matches!(machine.sh("systemctl is-system-running").stdout.trim(), "running" | "degraded")
        });
        machine
    }

    /// As [`Self::as_installed`], without what the package adds to ssh.service and ssh.socket: the incident is not prevented, and
    /// a failure starts nothing, so that each way to a repair is tested by itself.
    pub fn with_package(root: &str) -> Self {
        let machine = Self::as_installed(root);
        machine.without_prevention();
        machine
    }

    pub fn without_prevention(&self) {
        if std::env::var_os("SSHD_MEND_AS_INSTALLED").is_none() {
            self
                .sh("for unit in ssh.service ssh.socket; do
                         mkdir -p /etc/systemd/system/$unit.d; ln -s /dev/null /etc/systemd/system/$unit.d/50-sshd-mend.conf
                     done; systemctl daemon-reload")
                .ok();
        }
    }

    /// As [`Self::boot`], with the package under test installed.
    pub fn as_installed(root: &str) -> Self {
        let machine = Self::boot(root);
        machine.install_package();
        machine
    }

    /// Installs the package under test.
    pub fn install_package(&self) {
        self.copy_in(&package(), "sshd-mend.deb");
        self.sh("dpkg -i /lab/sshd-mend.deb").ok();
    }

    /// The machine's PID 1 as seen from here: the one child of systemd-nspawn. Before that it is still the script that
    /// starts it, and its children are no machine.
    fn leader(&self) -> Option<u32> {
        let pid = self.supervisor.id();
        if std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() != "systemd-nspawn" {
            return None;
        }
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Of the machine's PID 1, as seen from here.
    pub fn command_line(&self) -> String {
        let leader = self.leader().expect("a machine that runs");
        std::fs::read_to_string(format!("/proc/{leader}/cmdline")).unwrap_or_default()
    }

    /// What is /lab inside.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts a file into the machine, at /lab.
    pub fn copy_in(&self, from: &Path, name: &str) {
        std::fs::copy(from, self.directory.join(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }

    /// A command that runs inside, not started yet.
    pub fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new(script("enter"));
        command.args([self.name.as_str(), &self.supervisor.id().to_string()]).args(program);
        command
    }

    /// Runs a shell script inside. It ends at the first command that fails, so no line of a setup fails unseen.
    pub fn sh(&self, text: &str) -> Output {
        let mut child = self
            .command(&["/bin/sh", "-e", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tests/system/enter starts");
        // The shell may have ended before it read everything.
        let _ = child.stdin.take().expect("a pipe").write_all(text.as_bytes());
        child.wait_with_output().expect("the command ends").into()
    }

    /// A file of tests/system/scripts, with `$1`, `$2`, … set.
    pub fn script(&self, name: &str, arguments: &[&str]) -> Output {
        let path = script("scripts").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        self.sh(&format!("set -- {}\n{text}", quoted.join(" ")))
    }

    /// A Python program of tests/system/scripts, in the background as root, with its pid.
    pub fn background(&self, name: &str, arguments: &[&str]) -> i32 {
        self.copy_in(&script("scripts").join(name), name);
        self.number(&format!("python3 /lab/{name} {} >/lab/{name}.log 2>&1 </dev/null & echo $!", arguments.join(" ")))
    }

    /// A number that a command prints.
    #[track_caller]
    pub fn number(&self, command: &str) -> i32 {
        let output = self.sh(command).ok();
        output.stdout.trim().parse().unwrap_or_else(|_| panic!("{command}: {output:#?}"))
    }

    /// Waits for a condition, with a deadline.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{}", self.console());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the machine printed to its console.
    pub fn console(&self) -> String {
        std::fs::read_to_string(self.directory.join("console")).unwrap_or_default()
    }

    /// A full login over SSH, from inside over loopback: the judge of everything.
    pub fn login(&self) -> Output {
        self.sh("ssh root@127.0.0.1 echo logged in")
    }

    /// A full login with these arguments of ssh succeeds.
    #[track_caller]
    pub fn assert_login_at(&self, arguments: &str) {
        let output = self.sh(&format!("ssh {arguments} echo logged in"));
        assert_eq!(output.stdout, "logged in\n", "no login at {arguments}: {output:#?}\n{}", self.state());
    }

    /// A full login succeeds.
    #[track_caller]
    pub fn assert_login(&self) {
        let output = self.login();
        assert!(output.status == 0 && output.stdout == "logged in\n", "no login: {output:#?}\n{}", self.state());
    }

    /// Nobody can log in.
    #[track_caller]
    pub fn assert_no_login(&self) {
        let output = self.login();
        assert!(output.status != 0, "a login succeeded: {output:#?}");
    }

    /// For the text of a failed assertion.
    pub fn state(&self) -> String {
        self.sh("systemctl --no-pager status ssh.service ssh.socket sshd-mend-repair.service 'sshd*' || :; ss -ltnp; journalctl --no-pager -n 60")
            .stdout
    }

    /// Brings about the incident of tests/system/incident, and returns the listener's pid.
    pub fn incident(&self) -> i32 {
        let script = std::fs::read_to_string(script("incident")).expect("tests/system/incident");
        self.number(&script)
    }

    /// Puts the same program under a new inode, as an upgrade does: whoever runs it is stale.
    pub fn replace_program(&self, path: &str) {
        self.sh(&format!("cp -p {path} {path}.new && mv {path}.new {path}")).ok();
    }

    /// Builds scripts/delay.c as /lab/delay.so.
    pub fn preload_delay(&self) {
        let library = self.directory.join("delay.so");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(script("scripts/delay.c")).status();
        assert!(built.expect("cc").success());
    }

    /// From now on a process acts on no signal but SIGKILL (`cgroup.freeze` in the kernel's cgroup-v2.rst).
    pub fn freeze(&self, pid: i32) {
        self.sh(&format!(
            "mkdir /sys/fs/cgroup/frozen-{pid}; echo {pid} >/sys/fs/cgroup/frozen-{pid}/cgroup.procs
             echo 1 >/sys/fs/cgroup/frozen-{pid}/cgroup.freeze
             until grep -q 'frozen 1' /sys/fs/cgroup/frozen-{pid}/cgroup.events; do :; done"
        ))
        .ok();
    }

    /// `MainPID` of a unit; 0 if it has none.
    pub fn main_pid(&self, unit: &str) -> i32 {
        self.number(&format!("systemctl show -P MainPID {unit}"))
    }

    /// `ActiveState` of a unit.
    pub fn active(&self, unit: &str) -> String {
        self.sh(&format!("systemctl show -P ActiveState {unit}")).ok().stdout.trim().to_owned()
    }

    /// Adds to a unit, in the administrator's own place.
    pub fn drop_in(&self, unit: &str, text: &str) {
        self.sh(&format!(
            "mkdir -p /etc/systemd/system/{unit}.d; cat >/etc/systemd/system/{unit}.d/test.conf <<'E'\n{text}\nE\nsystemctl daemon-reload"
        ))
        .ok();
    }

    /// See [`Self::drop_in`].
    pub fn remove_drop_in(&self, unit: &str) {
        self.sh(&format!("rm /etc/systemd/system/{unit}.d/test.conf; systemctl daemon-reload")).ok();
    }

    /// Installs one of the packages that tests/system/prepare has put at hand.
    pub fn install(&self, package: &str) {
        self.sh(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dir::Cache::archives=/opt/lab/others --no-install-recommends --no-download install {package}"
        ))
        .ok();
    }

    /// Declares another sshd with these options and starts it: `sshd-NAME.service`. As ssh.service it cannot start
    /// without /run/sshd, but it leaves that to others when it stops.
    pub fn instance(&self, name: &str, options: &str) {
        self.sh(&format!(
            "sed 's/sshd -D/sshd -D -o PidFile=none {options}/; /^Alias/d; s/^RuntimeDirectory=.*/&\\nRuntimeDirectoryPreserve=yes/' \\
                 /usr/lib/systemd/system/ssh.service >/etc/systemd/system/sshd-{name}.service
             systemctl daemon-reload; systemctl start sshd-{name}.service"
        ))
        .ok();
    }

    /// Replaces openssh-server by a newer package: every maintainer script and every hook of apt runs.
    pub fn upgrade(&self) -> Output {
        self.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y /opt/lab/openssh-server-newer.deb")
    }

    /// As [`Self::upgrade`], without the hook of the package under test.
    pub fn upgrade_without_hook(&self) -> Output {
        self.sh(
            "SSHD_MEND_SUSPEND=1 DEBIAN_FRONTEND=noninteractive apt-get install -y /opt/lab/openssh-server-newer.deb",
        )
    }

    /// The incident, then the upgrade, then the restart that needrestart would do: nobody can log in.
    pub fn locked_out(&self) -> i32 {
        let listener = self.incident();
        self.upgrade_without_hook().ok();
        assert_ne!(self.sh("systemctl restart ssh.service").status, 0, "needrestart's restart fails");
        self.assert_no_login();
        listener
    }

    /// A machine after the incident and its upgrade: the listener is stale, and serves.
    pub fn with_stale_orphan(root: &str) -> (Self, i32) {
        let machine = Self::with_package(root);
        let listener = machine.incident();
        machine.upgrade_without_hook().ok();
        assert!(machine.sh(&format!("readlink /proc/{listener}/exe")).ok().stdout.contains("(deleted)"));
        (machine, listener)
    }

    /// The pid that a process of the machine has out here.
    pub fn pid_outside(&self, pid: i32) -> i32 {
        let leader = self.leader().expect("a machine that runs");
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(&leader.to_string());
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let mut pids =
            processes.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
        pids.find(|outside| {
            let status = std::fs::read_to_string(format!("/proc/{outside}/status")).unwrap_or_default();
            let inside = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .and_then(|pids| pids.split_whitespace().last());
            inside == Some(pid.to_string().as_str()) && namespace(&outside.to_string()) == ours
        })
        .expect("the process")
    }

    /// A process is there and no zombie.
    pub fn is_alive(&self, pid: i32) -> bool {
        self.sh(&format!("[ -e /proc/{pid}/exe ] && readlink /proc/{pid}/exe")).status == 0
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(leader) = self.leader() {
            // SIGRTMIN+4: systemd powers off (systemd(1)).
            let _ = Command::new("kill").args(["-s", "RTMIN+4", &leader.to_string()]).status();
        }
        let begun = Instant::now();
        while self.supervisor.try_wait().is_ok_and(|status| status.is_none()) {
            if begun.elapsed() > Duration::from_secs(15) {
                let _ = self.supervisor.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = Command::new(script("boot")).arg(&self.name).stderr(Stdio::null()).status();
        // A failed test's console is worth a look.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}
