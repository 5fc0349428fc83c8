//! Situations that tests of several modules bring about, and facts that they compare.

use crate::machine::{Machine, Output, script};
use sshd_mend::report::events::ENDED;

impl Machine {
    /// As [`Self::incident`], at an address.
    pub fn incident_at(&self, address: &str) -> i32 {
        let script = std::fs::read_to_string(script("incident")).expect("tests/system/incident");
        self.number(&format!("set -- {address}\n{script}"))
    }

    /// Puts a file of tests/system/scripts into the machine, at /lab.
    pub fn copy_script(&self, name: &str) {
        self.copy_in(&script("scripts").join(name), name);
    }

    /// Starts sshd by hand, with the options that its unit has: a listener that systemd knows nothing of.
    pub fn orphan(&self) -> i32 {
        self.sh(". /etc/default/ssh; mkdir -p /run/sshd; rm -f /run/sshd.pid; /usr/sbin/sshd $SSHD_OPTS").ok();
        self.wait_until("sshd has written its pid", |machine| machine.sh("[ -s /run/sshd.pid ]").status == 0);
        self.number("cat /run/sshd.pid")
    }

    /// Another program holds a TCP port.
    pub fn hold_port(&self, address: &str, port: u16) -> i32 {
        let pid = self.background("hold-port.py", &[address, &port.to_string()]);
        self.wait_until("the port is held", |machine| {
            machine.sh(&format!("ss -Hltnp 'sport = :{port}'")).stdout.contains(&format!("pid={pid},"))
        });
        pid
    }

    /// How many listeners have been terminated since the machine was booted, by the journal.
    pub fn terminations(&self) -> i32 {
        self.number(&format!("journalctl --sync; journalctl -q -o cat MESSAGE_ID={ENDED} | wc -l"))
    }

    /// Every local TCP address in LISTEN, as ss writes it: `*:22` is a socket for both families, `[::]:22` is not.
    pub fn listening(&self) -> Vec<String> {
        let output = self.sh("ss -Hltn | awk '{ print $4 }' | sort").ok();
        output.stdout.lines().map(str::to_owned).collect()
    }
}

impl Output {
    /// What `--json` says about each instance: its service and its verdict.
    #[track_caller]
    pub fn verdicts(&self) -> Vec<String> {
        let json = self.json();
        let instances = json["instances"].as_array().unwrap_or_else(|| panic!("no instances in {json:#}"));
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("none").to_owned();
        instances.iter().map(|each| format!("{} {}", text(&each["instance"]), text(&each["verdict"]))).collect()
    }
}
