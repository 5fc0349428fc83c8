//! From nothing but root to an installed, checked and removed package, by the README.

use crate::documents::{all, here};
use crate::machine::Machine;
use std::process::{Command, Stdio};

/// The blocks of commands of the README with this mark.
fn readme(mark: &str) -> Vec<String> {
    let readme = all().into_iter().find(|document| document.name == "README.md").expect("README.md");
    readme.blocks().into_iter().filter(|block| block.mark == mark).map(|block| block.text).collect()
}

/// Debian 13's own cargo and debhelper, which packaging/install brings in. The source package is the checkout with its crates.
#[test]
fn a_debian_13_with_nothing_but_root_builds_it() {
    let machine = Machine::boot("trixie-build");
    for tool in ["cargo", "dh", "gcc"] {
        assert_ne!(machine.sh(&format!("type {tool}")).status, 0, "{tool} is there already");
    }
    let built = Command::new(here().join("packaging/build-deb"))
        .arg("--source")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("packaging/build-deb starts");
    assert!(built.status.success());
    let dsc = String::from_utf8(built.stdout).expect("a path");
    machine.copy_in(&here().join(dsc.trim().replace(".dsc", ".tar.xz")), "sshd-mend.tar.xz");
    machine.sh("cd /lab; tar -xf sshd-mend.tar.xz; mv sshd-mend-*/ checkout").ok();
    let build = readme("sh build");
    assert_eq!(build.len(), 1, "{build:?}");
    let run = machine.sh(&format!("cd /lab/checkout\n{}", build[0])).ok();
    assert!(run.stdout.contains("SSHD OK - HEALTHY"), "{run:#?}");
    assert!(machine.sh("cargo --version").ok().stdout.contains("cargo 1.85"));
    let listener = machine.incident();
    machine.upgrade().ok();
    machine.assert_replaced(listener);
    let removal: Vec<String> = readme("sh machine").into_iter().filter(|text| text.contains("purge")).collect();
    assert_eq!(removal.len(), 1, "{removal:?}");
    machine.sh(&removal[0]).ok();
    machine.sh("[ ! -e /usr/sbin/sshd-mend ]; [ ! -e /etc/apt/apt.conf.d/99sshd-mend ]").ok();
    machine.assert_login();
}

/// Debian 12's cargo is too old. What is built with its cargo-web is tested by release.rs.
#[test]
fn where_no_cargo_is_new_enough_that_is_said() {
    let machine = Machine::boot("bookworm");
    machine.sh("mkdir -p /lab/packaging").ok();
    machine.copy_in(&here().join("packaging/install"), "packaging/install");
    // There is no network from which it could be installed here.
    let run = machine.sh("cd /lab; packaging/install 2>&1");
    let wanted = run.stdout.split("NEW packages will be installed:").nth(1).unwrap_or_default();
    assert!(run.status != 0 && wanted.split_whitespace().any(|word| word == "cargo-web"), "{run:#?}");
    machine.sh("rm -rf /var/lib/apt/lists/*").ok();
    let run = machine.sh("cd /lab; packaging/install 2>&1");
    assert_eq!(run.status, 1, "{run:#?}");
    assert!(run.stdout.contains("cargo 1.85 or newer is needed, and no package of this system has it"), "{run:#?}");
}
