//! What holds after a repair.

use crate::machine::{Machine, Output};
use serde_json::Value;

impl Output {
    /// The steps that were taken, in what `--json` printed.
    #[track_caller]
    pub fn steps(&self) -> Vec<Value> {
        self.json()["done"].as_array().unwrap_or_else(|| panic!("no steps in {self:#?}")).clone()
    }

    /// The first of them of this kind.
    #[track_caller]
    pub fn step(&self, action: &str) -> Option<Value> {
        self.steps().into_iter().find(|step| step["action"] == action)
    }

    /// What `--json` says has this verdict and this exit status.
    #[track_caller]
    pub fn assert_verdict(&self, verdict: &str, status: i32) {
        let json = self.json();
        assert_eq!((json["verdict"].as_str(), self.status), (Some(verdict), status), "{json:#}\n{}", self.stderr);
        assert_eq!(json["exit_status"], status, "{json:#}");
    }

    /// What `--json` says has this as its first finding, which is the worst.
    #[track_caller]
    pub fn assert_finding(&self, code: &str) {
        assert_eq!(self.json()["findings"][0]["code"], code, "{:#}", self.json());
    }
}

impl Machine {
    /// A repair by hand reaches its end.
    #[track_caller]
    pub fn assert_repair(&self, listener: i32) -> Output {
        let repair = self.sh("sshd-mend repair --json");
        assert_eq!(repair.status, 0, "{repair:#?}\n{}", self.state());
        repair.assert_verdict("repaired", 0);
        self.assert_replaced(listener);
        repair
    }

    /// Whoever repaired it: the old listener is gone, a login succeeds, nothing is wrong, and no work is left on record.
    #[track_caller]
    pub fn assert_replaced(&self, listener: i32) {
        assert!(!self.is_alive(listener), "the old listener is still there\n{}", self.state());
        self.assert_login();
        let check = self.sh("sshd-mend check");
        assert_eq!(check.status, 0, "{check:#?}\n{}", self.state());
        self.assert_nothing_on_record();
    }

    /// No repair is on record, and no unit of a rescue or its fallback is left.
    #[track_caller]
    pub fn assert_nothing_on_record(&self) {
        let left = self.sh(
            "cd /run/sshd-mend; for file in intent fallback executing.* resumed.* request request.accepted; do [ ! -e $file ] || echo $file; done
             find /run/systemd/system -maxdepth 1 -name 'sshd-mend-*.socket' -o -maxdepth 1 -name 'sshd-mend-*.service'",
        );
        assert_eq!(left.ok().stdout, "", "left by the repair\n{}", self.state());
    }

    /// What the incident's administrator declared is there: an enabled ssh.socket, and the disabled service it starts.
    #[track_caller]
    pub fn assert_declared_units_are_back(&self) {
        let units = self.sh(
            "for unit in ssh.socket ssh.service; do systemctl show -P ActiveState $unit; systemctl show -P UnitFileState $unit; done",
        );
        assert_eq!(units.ok().stdout, "active\nenabled\nactive\ndisabled\n", "{}", self.state());
    }

    /// Waits until nobody works on a repair any more, whatever came of it.
    pub fn wait_for_end_of_repair(&self) {
        self.wait_until("the repair has ended", |machine| {
            let state = machine.active("sshd-mend-repair.service");
            state == "inactive" || state == "failed"
        });
    }
}
