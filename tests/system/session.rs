//! Sessions that are open while something else happens, and have to be open afterwards.

use crate::machine::Machine;
use std::process::{Child, Stdio};

impl Machine {
    /// Opens a session that stays, and returns once it is there. It is tagged by `name`.
    pub fn open_session(&self, name: &'static str) -> Session<'_> {
        self.open_session_with(name, &["root@127.0.0.1"])
    }

    /// The same with arguments of ssh.
    pub fn open_session_with(&self, name: &'static str, arguments: &[&str]) -> Session<'_> {
        self.open_session_by(name, &["ssh"], arguments)
    }

    /// The same with a command that starts ssh.
    pub fn open_session_by(&self, name: &'static str, ssh: &[&str], arguments: &[&str]) -> Session<'_> {
        let tag = format!("exec -a {name} sleep 3600");
        let client = self
            .command(&[ssh, &["-o", "ExitOnForwardFailure=yes"], arguments, &[&tag]].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ssh starts");
        let session = Session { machine: self, name, client };
        self.wait_until("the session is open", |_| session.is_at_work());
        session
    }
}

/// A session that somebody has open. Its client ends with the value.
pub struct Session<'a> {
    machine: &'a Machine,
    name: &'static str,
    client: Child,
}

impl Session<'_> {
    fn is_at_work(&self) -> bool {
        self.machine.sh(&format!("pgrep -fx '{} 3600'", self.name)).status == 0
    }

    /// It is still open, at both ends.
    #[track_caller]
    pub fn assert_open(&mut self) {
        let open = self.client.try_wait().expect("a child").is_none() && self.is_at_work();
        assert!(open, "the session {} is gone\n{}", self.name, self.machine.state());
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
