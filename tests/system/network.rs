//! A network of machines with addresses of their own, in a network namespace that nothing leaves.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// 10.77.0.0/16, of which 10.77.0.1 is out here. It goes with its value.
pub struct Network {
    holder: Child,
}

impl Network {
    pub fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-euc"])
            .arg(
                "ip link set lo up; ip link add br0 type bridge; ip addr add 10.77.0.1/16 dev br0; ip link set br0 up
                 echo up; exec cat",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
        assert_eq!(line, "up\n", "the network is not up");
        Self { holder }
    }

    /// A program that runs in the network, not started yet.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.holder.id().to_string(), "--"]).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
