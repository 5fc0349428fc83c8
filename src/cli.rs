//! Commands and flags. `--help`, the manual page and the completions of shells all come from here
//! (packaging/generated, which tests/manual.rs compares), so they cannot differ.

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

use crate::model::diagnosis::FindingCode;
use crate::model::refusal::RefusalCode;
use crate::report::Verdict;

/// `1.0.0 (0123456789ab 2026-11-29)`, with the commit that packaging/build-deb has found, and its date; after a bare
/// `cargo build`, the version alone.
const VERSION: &str = match option_env!("SSHD_MEND_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Finds sshd listeners whose program is no longer on disk, and replaces them safely
#[derive(Debug, Parser)]
#[command(name = "sshd-mend", version = VERSION, max_term_width = 100, after_help = EXIT_STATUS, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Print more: what was examined and left alone, and why
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub verbose: bool,
    /// Print the verdict and what to do only
    #[arg(short, long, global = true, action = ArgAction::SetTrue, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl Cli {
    /// From the arguments of this process.
    ///
    /// # Errors
    /// Wrong usage, or help was asked for. Its text is put together only then: the hook runs dozens of times a day.
    pub fn from_arguments() -> Result<Self, clap::Error> {
        match Self::try_parse() {
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                let command = Self::command().after_long_help(after_long_help());
                command.try_get_matches().and(Err(error))
            }
            parsed => parsed,
        }
    }
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Examine; change nothing
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Print what a monitoring plugin prints, with performance data (Nagios, Icinga, NRPE)
        #[arg(long, conflicts_with_all = ["json", "quiet", "verbose"])]
        plugin: bool,
        /// Call a machine critical on which no SSH server is installed or enabled
        #[arg(long, requires = "plugin")]
        expect_sshd: bool,
        /// Write Prometheus metrics to FILE, for the textfile collector of node_exporter
        #[arg(long, value_name = "FILE")]
        metrics: Option<PathBuf>,
    },
    /// Examine, and repair what is broken
    Repair {
        /// Print what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// For package managers: repair, quiet, exit status 0
    Hook {
        /// Outside of package runs, for a timer or a unit that has failed: try everything, and do not ask policy-rc.d
        #[arg(long)]
        full: bool,
    },
}

/// The one argument with which sshd-mend-repair.service starts the program; not for people.
pub const CARRY_OUT: &str = "carry-out";
/// The same for sshd-mend-notify.service.
pub const NOTIFY: &str = "notify";

const EXIT_STATUS: &str = "Exit status: 0 OK, 1 warning, 2 critical (a new connection does not get through), 3 unknown. `hook` always \
                           exits with 0.\nMore, with examples: sshd-mend --help, or man sshd-mend";

/// What `--help` and the manual page say under one heading, beside commands and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub heading: &'static str,
    pub parts: Vec<Part>,
}

/// A part of a [`Section`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Paragraph(String),
    /// What it is about (a word, a path, a command), and what there is to say.
    Entry(String, String),
}

/// Parts of a section as they are written here: a term, or none for a paragraph, and the text.
type Written = &'static [(&'static str, &'static str)];

const DESCRIPTION: Written = &[
    (
        "",
        "After a package run an old sshd can keep the SSH port although systemd has lost track of it and its program is no longer on disk. \
         The next restart of ssh.service then fails, and nobody can log in any more. sshd-mend finds such a listener, \
         makes sure that the sshd on disk would serve, terminates the old one through its pidfd, has systemd start what was declared, \
         and reports success only after a new connection gets through. Open sessions survive.",
    ),
    (
        "",
        "It terminates one kind of process only: a listener of root's, in the host's own namespaces and root directory, whose program is the one that \
         a declared unit starts. It never terminates a session, an sshd of a container, or an sshd of another path. What it cannot do safely it \
         refuses, with the reason and what to do.",
    ),
    (
        "",
        "Each declared sshd is an instance: ssh.service with ssh.socket, and every other active or failed unit whose ExecStart= is an sshd. Each is \
         examined, repaired and reported separately, and whatever fails at one changes nothing at another.",
    ),
];

const EXITS: Written = &[
    ("0", "OK, or nothing to examine here."),
    ("1", "Warning: SSH works now and may stop working; or a repair was refused or could not be verified."),
    ("2", "Critical: a new connection does not get through, or a rescue is serving."),
    ("3", "Unknown: the machine could not be examined (not root, no systemd), or wrong usage."),
    ("", "`hook` always exits with 0: it never makes a package run fail."),
];

const ENVIRONMENT: Written = &[
    ("SSHD_MEND_SUSPEND", "If it is 1 in the environment of a package run, the hook is suspended."),
    ("NO_COLOR", "Switches colours off."),
    ("COLUMNS", "The width of a help text that goes to no terminal."),
    ("", "Nothing else of the environment is used."),
];

const FILES: Written = &[
    (
        "/etc/default/sshd-mend",
        "HOOK=repair, report or off (what happens after a package run, after a failure of ssh.service, and by the timer); GRACE= seconds from SIGTERM to SIGKILL (5); \
         DEADLINE= seconds for which a command or a package run waits at most (90), after which the repair continues in its unit; METRICS= a file that each run of sshd-mend.service and each repair writes, as `check --metrics` does; NOTIFY= a program that gets the outcome as JSON on standard input when something was done or refused, or a rescue serves. Read as data, only if root owns it and nobody else can write it.",
    ),
    ("/run/sshd-mend", "What a repair is about to do, so that an interrupted one is completed."),
    ("/run/systemd/system/sshd-mend-*", "The units of rescues."),
    ("/etc/apt/apt.conf.d/99sshd-mend", "Starts the hook after a run of apt."),
    ("/etc/dpkg/dpkg.cfg.d/sshd-mend", "Starts the hook after a run of dpkg by itself."),
    ("/etc/cron-apt/action.d/9-sshd-mend", "Starts the hook as the last action of cron-apt."),
    ("/usr/share/sshd-mend/outcome.schema.json", "Describes what `--json` prints (JSON Schema, draft 2020-12)."),
];

const UNITS: Written = &[
    ("sshd-mend-repair.service", "Carries out a repair, whoever asked for it."),
    (
        "sshd-mend-fallback.service",
        "Starts the units again, or else their rescues, if a repair was killed again and again.",
    ),
    (
        "sshd-mend-rescue-NAME.socket",
        "Serves in place of NAME.service, by the same rules, if that cannot be started after its listener was terminated. \
         It ends when the unit is started again, by `repair` or by hand, and with the next reboot.",
    ),
    (
        "sshd-mend.service",
        "Runs the hook outside of package runs: whenever ssh.service or ssh.socket fails, whoever restarted it, and for the timer. At most \
         five times in a minute; sshd-mend-retry.timer makes up for the rest. During a package run it creates /run/sshd if that is missing, and \
         leaves the rest to the package run's own hook.",
    ),
    (
        "sshd-mend-notify.service",
        "Runs the program of NOTIFY=, confined and for 20 s at most: once an hour for the same thing.",
    ),
    ("sshd-mend.timer", "Starts the hook every six hours; not enabled as installed."),
    (
        "ssh.service.d/50-sshd-mend.conf",
        "In /usr/lib/systemd/system, as the one for ssh.socket: OnFailure=sshd-mend.service, and for ssh.service RuntimeDirectoryPreserve=yes, \
         with which a failed restart no longer removes /run/sshd, so that an old sshd at the port goes on letting new connections through. `check` \
         says where that is not in force. HOOK=off switches the first off; a link of that name to /dev/null in /etc/systemd/system/ssh.service.d, both.",
    ),
    ("", "The journal has every step: journalctl -t sshd-mend. With -x each message is explained."),
];

const BUGS: Written = &[
    (
        "",
        "A login itself is never proven. A new connection gets through when the server's KEXINIT arrives, and a client reaches authentication when the \
         server offers it methods; a key, a password, PAM or a shell may still keep somebody out.",
    ),
    (
        "",
        "An instance with a network namespace of its own (NetworkNamespacePath=, PrivateNetwork=) is named, not examined, and left alone. So is an sshd \
         in a container or a chroot, and one whose program no unit starts.",
    ),
    (
        "",
        "Before a replacement the program on disk is tried, with its configuration and its options. Other commands of the unit (ExecStartPre=, ExecCondition=) are not. \
         Where its sandbox (CapabilityBoundingSet=, SystemCallFilter=, LimitNOFILE= and the like) was changed after its last start, no listener is \
         replaced: restart the unit after you have changed it. A start that takes longer than 15 s counts as failed.",
    ),
    ("", "`check` does not connect to a socket that systemd holds, since that would start the service."),
    (
        "",
        "A probe comes from a loopback address of its own where it can. A listener for IPv6 alone is probed from ::1, since loopback has no other IPv6 \
         address, and a listener at a single address from that address: penalties (PerSourcePenalties) that other clients have collected there make \
         the probe inconclusive, and the probe's own count against them.",
    ),
    (
        "",
        "A server that is full (MaxStartups), or that keeps this host out (hosts.deny, a firewall), tells nothing about itself: that is a warning, and \
         never a reason to repair.",
    ),
    (
        "",
        "MaxStartups and the PerSource limits of sshd are not in force while a rescue serves: it accepts 64 connections from one source and 1,024 in all.",
    ),
    (
        "",
        "Each probe, and each client that is tried, is a line or two in sshd's log. /usr/share/doc/sshd-mend/docs/journal.md has them, with what fail2ban and \
         logcheck make of them.",
    ),
];

const EXAMPLES: Written = &[
    ("sudo sshd-mend check", "Says what is wrong, and changes nothing."),
    ("sudo sshd-mend repair --dry-run", "Prints the steps of a repair, and takes none."),
    (
        "sudo sshd-mend repair",
        "Repairs what is broken. Keep the session that you have open until a new login has succeeded.",
    ),
    (
        "if sshd-mend check -q; then echo fine; else echo \"status $?\"; fi",
        "In a script of root's: status 1 is a warning, 2 means that a new connection does not get through, 3 that nothing could be examined.",
    ),
    ("sshd-mend check --json | jq -r '.findings[].code'", "The code of each finding, worst first."),
    (
        "journalctl -t sshd-mend -x --since yesterday",
        "What the hook and repairs found and did, with an explanation of each message.",
    ),
    ("journalctl -t sshd-mend REASON=stale-orphan", "When a stale orphan was found, and which process it was."),
    (
        "sudo SSHD_MEND_SUSPEND=1 apt-get upgrade",
        "A package run without the hook. Behind `sudo`, since sudo removes what is set before it. Afterwards: sudo sshd-mend repair",
    ),
];

/// What `--help` and the manual page say beside commands and flags, in the order of man-pages(7). The first is the
/// description.
pub fn sections() -> Vec<Section> {
    let findings = FindingCode::ALL.iter().map(|code| {
        let meaning = code.meaning();
        let text = format!("{}. `repair` {}; the hook {}.", meaning.what, meaning.repair, meaning.hook);
        Part::Entry(format!("{} ({})", code.as_str(), meaning.severity), text)
    });
    let verdicts =
        Verdict::ALL.iter().map(|verdict| Part::Entry(verdict.as_str().to_owned(), format!("{}.", verdict.meaning())));
    let about =
        "Why nothing is done about a fault, and what to do about that. UNIT stands for the service of the instance.";
    let refusals = RefusalCode::ALL.iter().map(|code| {
        let text = format!("{}. {}", capitalized(code.sentence()), code.advice());
        Part::Entry(code.as_str().to_owned(), text)
    });
    let refusals = [Part::Paragraph(about.to_owned())].into_iter().chain(refusals);
    vec![
        written("Description", DESCRIPTION),
        Section { heading: "Findings", parts: findings.collect() },
        Section { heading: "Verdicts", parts: verdicts.collect() },
        Section { heading: "Refusals", parts: refusals.collect() },
        written("Exit status", EXITS),
        written("Environment", ENVIRONMENT),
        written("Files", FILES),
        written("Units", UNITS),
        written("Bugs", BUGS),
        written("Examples", EXAMPLES),
    ]
}

fn written(heading: &'static str, parts: Written) -> Section {
    let part = |(term, text): &(&str, &str)| match term.is_empty() {
        true => Part::Paragraph((*text).to_owned()),
        false => Part::Entry((*term).to_owned(), (*text).to_owned()),
    };
    Section { heading, parts: parts.iter().map(part).collect() }
}

/// As a sentence that stands alone.
fn capitalized(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + characters.as_str())
}

/// Further lines of a part are indented as its first one is.
fn after_long_help() -> String {
    let part = |part: &Part| match part {
        Part::Paragraph(text) => format!("  {text}"),
        Part::Entry(term, text) => format!("  {term}\n      {text}"),
    };
    let section = |section: Section| {
        let parts: Vec<String> = section.parts.iter().map(part).collect();
        format!("{}:\n{}", section.heading, parts.join("\n"))
    };
    sections().into_iter().map(section).collect::<Vec<_>>().join("\n\n")
}
