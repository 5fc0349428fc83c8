//! packaging/debian/tests, as Debian's own infrastructure runs it: autopkgtest, on a machine that it reaches by SSH alone.

use crate::documents::here;
use crate::machine::{Machine, lab, package};
use crate::network::Network;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn debian_s_own_test_of_the_package_passes() {
    let network = Network::new();
    // dpkg-dev, which autopkgtest needs, is at hand there.
    let machine = Machine::boot_at(&network, "trixie-build", "10.77.0.2");
    let source = tempfile::tempdir().expect("a directory");
    let copied = Command::new("cp").arg("-r").arg(here().join("packaging/debian")).arg(source.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp fails");
    let run = network
        .command(Path::new("autopkgtest"))
        .arg(format!("--output-dir={}", source.path().join("results").display()))
        .arg(package())
        .arg(source.path())
        .args(["--", "ssh", "-H", "10.77.0.2", "-l", "root", "-i"])
        .arg(lab().join("login-key"))
        .args(["--capability", "isolation-container"])
        .stdin(Stdio::null())
        .output()
        .expect("autopkgtest starts");
    let told = String::from_utf8_lossy(&run.stderr) + String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && told.contains("incident             PASS"), "{told}");
    machine.assert_login();
}
