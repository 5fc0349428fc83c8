//! What packaging/release makes: packages that apt installs from a signed repository, and nothing else. tests/release runs this.

use crate::documents::{all, here};
use crate::machine::{Machine, lab};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const KEY: &str = "sshd-mend tests <tests@sshd-mend.invalid>";

fn host(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A key ring of its own, with one key.
fn keys() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let generate =
            ["--batch", "--quiet", "--passphrase", "", "--quick-generate-key", KEY, "ed25519", "sign", "never"];
        host(Command::new("gpg").args(generate).env("GNUPGHOME", directory.path()));
        directory
    });
    directory.path()
}

/// The directory that packaging/release has filled, once for all tests.
fn release() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = keys().join("release");
        let program = here().join("packaging/release");
        let out = host(Command::new(program).arg(KEY).arg(&directory).env("GNUPGHOME", keys()));
        assert_eq!(out.lines().last(), directory.to_str(), "{out}");
        directory
    })
}

/// The files of the release that end so.
fn files(ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(release()).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

fn file(ending: &str) -> PathBuf {
    let files = files(ending);
    assert_eq!(files.len(), 1, "{ending}: {files:?}");
    files[0].clone()
}

fn field(package: &Path, field: &str) -> String {
    host(Command::new("dpkg-deb").arg("-f").arg(package).arg(field)).trim().to_owned()
}

/// A machine to which a web server of its own offers the repository.
fn with_repository(suite: &str) -> Machine {
    let machine = Machine::boot(suite);
    let repository = release().join("repository");
    host(Command::new("cp").arg("-r").arg(repository).arg(machine.directory().join("repository")));
    machine
        .sh("systemd-run -q --unit=web python3 -m http.server --bind 127.0.0.1 --directory /lab/repository 8000
             rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")
        .ok();
    machine.wait_until("the web server answers", |machine| {
        machine.sh("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000))'").status == 0
    });
    machine
}

/// The commands of the README that install it from a repository.
fn commands() -> String {
    let blocks = all().into_iter().flat_map(|document| document.blocks());
    let blocks: Vec<String> = blocks.filter(|block| block.mark == "sh repository").map(|block| block.text).collect();
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    blocks[0].clone()
}

/// From the repository to an installed, checked and removed package.
#[test]
#[ignore = "several builds: tests/release runs it"]
fn apt_installs_it_on_debian_12_and_13() {
    for suite in ["bookworm", "trixie"] {
        let machine = with_repository(suite);
        let run = machine.sh(&commands()).ok();
        assert!(run.stdout.contains("SSHD OK - HEALTHY"), "{run:#?}");
        machine.sh("apt-get install -y --reinstall sshd-mend").ok();
        let listener = machine.incident();
        machine.upgrade().ok();
        machine.assert_replaced(listener);
        machine.sh("apt-get purge -y sshd-mend; [ ! -e /usr/sbin/sshd-mend ]").ok();
        machine.assert_login();
    }
}

#[test]
#[ignore = "several builds: tests/release runs it"]
fn apt_refuses_what_another_key_has_signed() {
    let others = tempfile::tempdir().expect("a directory");
    let generate = ["--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "another <a@b.invalid>"];
    host(Command::new("gpg").args(generate).env("GNUPGHOME", others.path()));
    let machine = with_repository("trixie");
    // In place of the key that the commands fetch.
    let key = machine.directory().join("repository/sshd-mend.asc");
    host(
        Command::new("gpg")
            .args(["--batch", "--yes", "--armor", "--export", "--output"])
            .arg(&key)
            .env("GNUPGHOME", others.path()),
    );
    let refused = machine.sh(&format!("exec 2>&1\n{}", commands()));
    assert!(refused.status != 0 && refused.stdout.contains("is not signed"), "{refused:#?}");
    assert_ne!(machine.sh("apt-get install -y sshd-mend").status, 0);
}

#[test]
#[ignore = "several builds: tests/release runs it"]
fn apt_refuses_what_was_changed_afterwards() {
    let machine = with_repository("trixie");
    machine.sh("printf x >>\"$(find /lab/repository/pool -name '*_amd64.deb')\"").ok();
    let install = machine.sh(&format!("exec 2>&1\n{}", commands()));
    assert!(install.status != 0 && install.stdout.contains("Hash"), "{install:#?}");
    assert_ne!(machine.sh("dpkg -s sshd-mend").status, 0, "{install:#?}");
    machine.sh("for list in $(find /lab/repository/dists -name 'Packages*'); do echo x >>$list; done; rm -r /var/lib/apt/lists/*").ok();
    let update = machine.sh("apt-get update 2>&1");
    assert_ne!(update.status, 0, "{update:#?}");
}

/// Bit by bit, from another directory at another time.
#[test]
#[ignore = "several builds: tests/release runs it"]
fn the_same_source_makes_the_same_package() {
    let again = tempfile::tempdir().expect("a directory");
    host(
        Command::new(here().join("packaging/build-clean"))
            .arg(file(".dsc"))
            .arg("amd64")
            .arg(again.path())
            .arg("/home/somebody/elsewhere/sshd-mend"),
    );
    let first = file("_amd64.deb");
    let second = again.path().join(first.file_name().expect("a name"));
    let same = std::fs::read(&first).expect("a package") == std::fs::read(&second).expect("a package");
    assert!(same, "{} differs from {}", first.display(), second.display());
}

/// glibc 2.35 is Ubuntu 22.04's.
#[test]
#[ignore = "several builds: tests/release runs it"]
fn both_packages_are_for_all_supported_systems() {
    for architecture in ["amd64", "arm64"] {
        let package = file(&format!("_{architecture}.deb"));
        assert_eq!(field(&package, "Architecture"), architecture);
        let depends = field(&package, "Depends");
        let libc =
            depends.split(", ").find_map(|each| each.strip_prefix("libc6 (>= 2.")?.strip_suffix(')')?.parse().ok());
        assert!(libc.is_some_and(|minor: u32| minor <= 35), "{depends}");
    }
}

/// With qemu-user, since this machine is no arm64. What runs on a booted machine is the other architecture's.
#[test]
#[ignore = "several builds: tests/release runs it"]
fn the_program_for_arm64_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    host(Command::new("dpkg-deb").arg("-x").arg(file("_arm64.deb")).arg(directory.path()));
    let program = |arguments: &str| {
        Command::new("systemd-nspawn")
            .args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--pipe", "--volatile=overlay"])
            .arg(format!("--machine=sshd-mend-arm64-{}", std::process::id()))
            .arg(format!("--directory={}", lab().join("bookworm-build").display()))
            .arg(format!("--bind-ro={}:/package", directory.path().display()))
            .args(["/bin/sh", "-c", &format!("qemu-aarch64 /package/usr/sbin/sshd-mend {arguments}")])
            .stdin(Stdio::null())
            .output()
            .expect("systemd-nspawn")
    };
    let version = String::from_utf8(program("--version").stdout).expect("text");
    assert!(version.starts_with(concat!("sshd-mend ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    // No systemd, nothing to examine.
    let check = program("check");
    let told = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.code() == Some(3) && told.starts_with("SSHD UNKNOWN"), "{check:?}");
}

/// A list next to each program, and the same within it.
#[test]
#[ignore = "several builds: tests/release runs it"]
fn the_crates_of_each_program_are_listed() {
    let lock = std::fs::read_to_string(here().join("Cargo.lock")).expect("Cargo.lock");
    for architecture in ["amd64", "arm64"] {
        let text = std::fs::read(file(&format!("_{architecture}.cdx.json"))).expect("a list");
        let list: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(list["bomFormat"], "CycloneDX");
        let components = list["components"].as_array().expect("components");
        let names: Vec<&str> = components.iter().filter_map(|component| component["name"].as_str()).collect();
        for name in ["zbus", "procfs", "rustix", "tokio"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        for component in components.iter().filter(|component| component["name"] != "sshd-mend") {
            let (name, version) =
                (component["name"].as_str().expect("a name"), component["version"].as_str().expect("a version"));
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{name} {version}");
        }
        assert!(!names.contains(&"proptest"), "a crate of the tests");
    }
}

#[test]
#[ignore = "several builds: tests/release runs it"]
fn checksums_and_their_signature_are_right() {
    let sums = std::fs::read_to_string(release().join("SHA256SUMS")).expect("checksums");
    assert_eq!(sums.lines().count(), 6, "{sums}");
    host(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(release()));
    let verify = ["--batch", "--verify", "SHA256SUMS.asc", "SHA256SUMS"];
    host(Command::new("gpg").args(verify).current_dir(release()).env("GNUPGHOME", keys()));
}
