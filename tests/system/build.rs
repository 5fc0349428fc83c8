//! The program is built by Debian 13's own cargo, as root with the distribution's packages would do it.

use crate::machine::lab;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn debian_13s_own_cargo_builds_it() {
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
    let config = format!(
        "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"/vendor\"\n[build]\ntarget-dir = \"/target\"\n"
    );
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
        .args(["-c", "cd /source && cargo --version && CARGO_PROFILE_DEV_DEBUG=0 cargo build --locked --offline && /target/debug/sshd-mend --version"])
        .stdin(Stdio::null())
        .output()
        .expect("systemd-nspawn");
    let (out, error) = (String::from_utf8_lossy(&built.stdout), String::from_utf8_lossy(&built.stderr));
    assert!(built.status.success(), "{out}\n{error}");
    assert!(out.contains("cargo 1.85"), "{out}");
    assert!(out.contains(concat!("sshd-mend ", env!("CARGO_PKG_VERSION"))), "{out}");
}
