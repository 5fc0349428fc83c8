//! Debian 13's own cargo builds the program, with the distribution's packages alone and without a network.

use crate::machine::lab;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Two builds in one target directory would wait for each other anyway.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a shell command in the source's directory, on a Debian 13 with cargo and without a network. What it builds is in
/// trixie-cargo-target of the lab.
pub fn with_debian_13s_cargo(command: &str) -> String {
    let _alone = ONE_AT_A_TIME.lock();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().expect("a directory");
    let vendor = directory.path().join("vendor");
    // The crates are brought in from outside: the build itself has no network.
    let vendored = Command::new(env!("CARGO"))
        .args(["vendor", "--locked", "--quiet"])
        .arg(&vendor)
        .current_dir(source)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo vendor");
    assert!(vendored.status.success());
    let config = "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"/vendor\"\n[build]\ntarget-dir = \"/target\"\n";
    std::fs::write(directory.path().join("config.toml"), config).expect("a file");
    let target = lab().join("trixie-cargo-target");
    std::fs::create_dir_all(&target).expect("a directory");

    let bind = |from: &Path, to: &str| format!("--bind={}:{to}", from.display());
    let built = Command::new("systemd-nspawn")
        .args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--pipe", "--volatile=overlay"])
        .arg(format!("--directory={}", lab().join("trixie-cargo").display()))
        .arg(format!("--bind-ro={}:/source", source.display()))
        .args([bind(&vendor, "/vendor"), bind(directory.path(), "/root/.cargo"), bind(&target, "/target")])
        .arg("/bin/sh")
        .args(["-c", &format!("cd /source && {command}")])
        .stdin(Stdio::null())
        .output()
        .expect("systemd-nspawn");
    let (out, error) = (String::from_utf8_lossy(&built.stdout), String::from_utf8_lossy(&built.stderr));
    assert!(built.status.success(), "{out}\n{error}");
    out.into_owned()
}

#[test]
fn debian_13s_own_cargo_builds_it() {
    let out = with_debian_13s_cargo(
        "cargo --version && CARGO_PROFILE_DEV_DEBUG=0 cargo build --locked --offline && /target/debug/sshd-mend --version",
    );
    assert!(out.contains("cargo 1.85"), "{out}");
    assert!(out.contains(concat!("sshd-mend ", env!("CARGO_PKG_VERSION"))), "{out}");
}
