//! Kept answers of the kernel, files of units and records, each with what it means. tests/hostile.rs varies them.
//!
//! The answers named `kernel-…` are a real kernel's (Linux 6.18, x86-64), the others were made up. What systemd makes of
//! odd unit files was seen with `systemd-analyze verify` (systemd 252), which names the keys that it does not know.
#![allow(missing_docs)]

mod support;

use sshd_mend::decide::{diagnose, plan};
use sshd_mend::host::deadline::Deadline;
use sshd_mend::model::plan::{RescuePlan, Trigger};
use sshd_mend::model::process::ListenSocket;
use sshd_mend::model::trial::Trial;
use sshd_mend::model::unit::Unit;
use sshd_mend::observe::trials::trials;
use sshd_mend::parsers;
use sshd_mend::report::{Outcome, Style, Verdict, render};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::healthy;

fn kept(parser: &str, name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    std::fs::read(directory.join(parser).join(name)).expect("a kept file")
}

/// The sockets of one answer, and whether more answers follow.
fn answer(name: &str) -> std::io::Result<(Vec<ListenSocket>, bool)> {
    let bytes = kept("sock_diag", name);
    let (sender, read) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut sockets = Vec::new();
        sender.send(parsers::sock_diag(&bytes, |_| true, &mut sockets).map(|more| (sockets, more)))
    });
    // A message without a length must not be read for ever.
    read.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Address, `IPV6_V6ONLY`, bound to a device.
fn told(sockets: &[ListenSocket]) -> Vec<(String, bool, bool)> {
    let mut told: Vec<_> =
        sockets.iter().map(|socket| (socket.address.to_string(), socket.ipv6_only, socket.device_bound)).collect();
    told.sort();
    told
}

#[test]
fn sockets_are_what_a_real_kernel_tells() {
    let (sockets, more) = answer("kernel-ipv4").expect("an answer");
    let expected = [("0.0.0.0:22", false, false), ("0.0.0.0:2202", false, true), ("127.0.0.1:2201", false, false)]
        .map(|(address, ipv6_only, device_bound)| (address.to_owned(), ipv6_only, device_bound));
    assert_eq!((told(&sockets), more), (expected.to_vec(), true));
    assert!(sockets.iter().all(|socket| socket.inode > 0), "{sockets:?}");

    let (sockets, more) = answer("kernel-ipv6").expect("an answer");
    let expected = [
        ("[::1]:2224", true, false),
        ("[::]:2222", false, false),
        ("[::]:2223", true, false),
        ("[::]:2226", true, true),
        ("[fe80::1]:2225", true, false), // bound to the interface that has it, as every address of its kind
    ]
    .map(|(address, ipv6_only, device_bound)| (address.to_owned(), ipv6_only, device_bound));
    assert_eq!((told(&sockets), more), (expected.to_vec(), true));

    let (sockets, more) = answer("kernel-first-of-two").expect("an answer");
    assert_eq!((sockets.len(), more), (30, true));
    assert_eq!(answer("kernel-done").expect("an answer"), (Vec::new(), false));
}

#[test]
fn an_answer_that_is_framed_otherwise_is_an_error() {
    for name in [
        "half-attribute",
        "half-message",
        "length-zero",
        "length-zero-of-another-kind",
        "length-huge-of-another-kind",
        "length-less-than-header",
        "length-huge",
        "message-too-short",
        "error-too-short",
    ] {
        let error = answer(name).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{name}: {error}");
    }
}

#[test]
fn odd_answers_are_read_as_far_as_they_go() {
    for (name, sockets, more) in [
        ("empty", 0, true),
        ("half-header", 0, true),
        ("one", 1, false),
        ("length-odd", 1, false),
        ("other-kinds", 1, false),
        ("after-the-end", 0, false),
        ("noise-after-message", 1, true),
        ("attribute-length-zero", 1, true),
        ("attribute-length-three", 1, true),
        ("attribute-beyond-the-end", 1, true),
        ("attribute-without-value", 1, true),
        ("attribute-twice", 1, true),
        ("inode-zero", 1, false),
    ] {
        let (found, follows) = answer(name).expect(name);
        assert_eq!((found.len(), follows), (sockets, more), "{name}");
    }
    let (found, _) = answer("length-odd").expect("an answer");
    assert!(found[0].ipv6_only, "an attribute without padding at the end counts");
}

#[test]
fn an_error_of_the_kernel_is_an_error() {
    assert_eq!(answer("kernel-no-such-family").expect_err("an error").kind(), ErrorKind::NotFound);
    for name in ["error-success", "error-smallest"] {
        answer(name).expect_err(name);
    }
}

/// A dump that fails ends with NLMSG_DONE and the error in it (netlink_dump, net/netlink/af_netlink.c), as on a kernel
/// without tcp_diag. "Nobody listens" would be the opposite of the truth then, and make an orphan invisible.
#[test]
fn a_dump_that_failed_is_no_empty_list() {
    let answered = answer("kernel-no-such-protocol");
    assert_eq!(answered.expect_err("ENOENT in NLMSG_DONE was taken for the end of a list").kind(), ErrorKind::NotFound);
}

/// `/proc/PID/cgroup` has a hierarchy's controllers in its second field; what looks like them in a path is a name that
/// somebody chose (cgroups(7)).
#[test]
fn a_path_does_not_pass_for_the_name_of_a_hierarchy() {
    let text = "8:pids:/:name=systemd:.slice/ssh.service\n1:name=systemd:/user.slice/session-3.scope\n";
    let unit = parsers::unit_of_control_group(parsers::control_group(text));
    assert_eq!(unit.as_deref(), Some("session-3.scope"));
}

/// The rules that a rescue of ssh.service takes over, if its unit has this file besides its own.
fn rules(file: &str) -> Vec<String> {
    let mut machine = healthy();
    machine.processes[0] = support::stale(machine.processes[0].clone());
    let mut trials = support::ready();
    support::trial(&mut trials, "ssh.service").service_files.push(file.to_owned());
    let plan = plan(&machine, &diagnose(&machine), &trials, Trigger::Repair);
    let (_, replacement) = plan.replacements().next().expect("a replacement");
    match &replacement.rescue {
        RescuePlan::Prepare(rescue) => rescue.service_settings.clone(),
        other => panic!("{other:?}"),
    }
}

/// A rescue never serves with weaker rules than its unit (I13), so no rule may be read over that systemd reads.
#[test]
fn every_rule_that_systemd_reads_is_taken_over() {
    const RULE: &str = "IPAddressDeny=any";
    let mut lost = Vec::new();
    for (what, file) in [
        ("as usual", "[Service]\nIPAddressDeny=any\n"),
        ("after a continued line", "[Service]\nEnvironment=A=1 \\\n  B=2\nIPAddressDeny=any\n"),
        ("after a comment inside a continued line", "[Service]\nEnvironment=A=1 \\\n# x \\\n B=2\nIPAddressDeny=any\n"),
        ("after an empty line that ends a continued one", "[Service]\nEnvironment=A=1 \\\n\nIPAddressDeny=any\n"),
        ("in the second section of that name", "[Service]\n[Unit]\nX=y\n[Service]\nIPAddressDeny=any\n"),
        ("with line ends of Windows", "[Service]\r\nIPAddressDeny=any\r\n"),
        ("without a line break at its end", "[Service]\nIPAddressDeny=any"),
        ("with a backslash before the end of the file", "[Service]\nIPAddressDeny=any \\\n"),
        ("after an escaped backslash", "[Service]\nEnvironment=A=1\\\\\nIPAddressDeny=any\n"),
        ("after a backslash and a space", "[Service]\nEnvironment=A=1 \\ \nIPAddressDeny=any\n"),
        ("after a byte order mark", "\u{feff}[Service]\nIPAddressDeny=any\n"),
    ] {
        let rules = rules(file);
        if !rules.iter().any(|rule| rule.trim() == RULE) {
            lost.push((what, rules));
        }
    }
    assert!(lost.is_empty(), "rules that systemd reads and a rescue would not have: {lost:#?}");
    for file in ["[Service]\n#IPAddressDeny=any\n", "[Unit]\nIPAddressDeny=any\n", "[Service]\n;IPAddressDeny=any\n"] {
        assert_eq!(rules(file), Vec::<String>::new(), "{file:?}");
    }
}

/// What is read from files for the trial of ssh.service on a machine that has no sshd at this path.
fn tried(service: impl FnOnce(&mut Unit)) -> Trial {
    let mut machine = healthy();
    machine.instances[0].program.path = PathBuf::from("/nonexistent/sshd");
    service(&mut machine.instances[0].service);
    let limit = Deadline::after(Duration::from_secs(20));
    let trials = trials(&machine, &["ssh.service".to_owned()], false, limit);
    trials.get("ssh.service").expect("a trial").clone()
}

/// Comments in Latin-1: systemd reads over the comment, and so must we. A rule or an option that is not seen is lost.
#[test]
fn a_file_in_another_encoding_keeps_its_rules_and_options() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let drop_in = write("x.conf", b"# nur f\xfcr uns\n[Service]\nIPAddressDeny=any\n");
    let environment = write("ssh", b"# f\xfcr sshd\nSSHD_OPTS=-oAllowUsers=me\n");
    let trial = tried(|unit| {
        unit.files = vec![drop_in];
        unit.environment_files = vec![environment];
    });
    let has_rule = trial.service_files.iter().any(|text| text.contains("\nIPAddressDeny=any\n"));
    let has_option = trial.options == ["-oAllowUsers=me"];
    assert!(has_rule && has_option, "files {:?}, options {:?}", trial.service_files, trial.options);
}

/// As systemd splits it (systemd.exec(5)): `SSHD_OPTS="-o 'Port 22'"` is two arguments.
#[test]
fn a_variable_is_split_into_words_with_its_quotes_removed() {
    let environment: Vec<_> = ["SSHD_OPTS=\"-o 'Port 2222' -4\""].into_iter().filter_map(parsers::assignment).collect();
    assert_eq!(parsers::expand(&["$SSHD_OPTS".to_owned()], &environment), ["-o", "Port 2222", "-4"]);
}

/// Whatever is on record, it draws nothing on the terminal.
#[test]
fn a_screen_has_nothing_that_a_terminal_would_interpret() {
    let mut drawn = Vec::new();
    for name in ["outcome", "outcome-dry-run", "outcome-far-future"] {
        let kept: Outcome = serde_json::from_slice(&kept("record", name)).expect("an outcome");
        for verdict in [
            Verdict::Healthy,
            Verdict::AtRisk,
            Verdict::Stopped,
            Verdict::Broken,
            Verdict::Repaired,
            Verdict::Unverified,
            Verdict::Refused,
            Verdict::Rescued,
            Verdict::Failed,
            Verdict::NotApplicable,
            Verdict::Unknown,
        ] {
            let mut outcome = Outcome { verdict, ..kept.clone() };
            outcome.others.push("90 (/x/\u{1b}[2J/sshd)".to_owned());
            let screen = render(&outcome, Style { colour: false, verbose: true, quiet: false });
            if !screen.chars().all(|c| matches!(c, ' '..='~' | '\n')) {
                drawn.push(format!("{name} as {verdict:?}: {:?}", screen.lines().last().unwrap_or_default()));
            }
        }
    }
    assert!(drawn.is_empty(), "{drawn:#?}");
}
