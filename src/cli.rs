//! Commands and flags. `--help`, the manual page and the completions of shells all come from here
//! (packaging/documents.rs), so they cannot differ.

use clap::{ArgAction, Parser, Subcommand};

use crate::model::refusal::RefusalCode;

/// Finds sshd listeners that run a program no longer on disk, terminates them safely, restarts their units through systemd,
/// and proves that a new connection gets through
#[derive(Debug, Parser)]
#[command(name = "sshd-mend", version, max_term_width = 100, after_help = EXIT_STATUS, after_long_help = after_long_help(), disable_help_subcommand = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Print more: what was examined and left alone, and why
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub verbose: bool,
    /// Print the verdict only
    #[arg(short, long, global = true, action = ArgAction::SetTrue, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Examine; change nothing
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
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
    Hook,
}

/// The one argument with which sshd-mend-repair.service starts the program; not for people.
pub const CARRY_OUT: &str = "carry-out";

const EXIT_STATUS: &str = "Exit status: 0 OK, 1 warning, 2 critical (a new connection does not get through), 3 unknown (could not examine, or wrong usage). \
                           `hook` always exits with 0. More: --help";

/// See [`sections`].
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "What it does",
        &[
            "After a package run an old sshd can keep the SSH port although systemd has lost track of it and its program is no longer on disk. \
             The next restart of ssh.service then fails, and nobody can log in any more. sshd-mend finds such a listener, \
             makes sure that the sshd on disk would serve, terminates the old one through its pidfd, has systemd start what was declared, \
             and reports success only after a new connection gets through. Open sessions survive.",
            "It terminates one kind of process only: a listener of root's, in the host's own namespaces and root directory, whose program is the one that \
             a declared unit starts. It never terminates a session, an sshd of a container, or an sshd of another path. What it cannot do safely it \
             refuses, with the reason and what to do.",
            "Each declared sshd is an instance: ssh.service with ssh.socket, and every other active or failed unit whose ExecStart= is an sshd. Each is \
             examined, repaired and reported separately, and whatever fails at one changes nothing at another.",
        ],
    ),
    (
        "Exit status",
        &[
            "0  OK, or nothing to examine here.",
            "1  Warning: SSH works now and may stop working; or a repair was refused or could not be verified.",
            "2  Critical: a new connection does not get through, or a rescue is serving.",
            "3  Unknown: the machine could not be examined (not root, no systemd), or wrong usage.",
            "`hook` always exits with 0: it never makes a package run fail.",
        ],
    ),
    (
        "Files",
        &[
            "/etc/default/sshd-mend: HOOK=repair, report or off (what happens after a package run); GRACE= seconds from SIGTERM to SIGKILL (5); \
             DEADLINE= seconds for which a command or a package run waits at most (90), after which the repair continues in its unit. Read as data, only if root owns it and nobody else can write it.",
            "/run/sshd-mend: what a repair is about to do, so that an interrupted one is completed. /run/systemd/system/sshd-mend-*: the units of rescues.",
            "/etc/apt/apt.conf.d/99sshd-mend, /etc/dpkg/dpkg.cfg.d/sshd-mend, /etc/cron-apt/action.d/9-sshd-mend: start the hook.",
        ],
    ),
    (
        "Environment",
        &[
            "SSHD_MEND_SUSPEND=1 in the environment of a package run suspends the hook (with sudo: sudo SSHD_MEND_SUSPEND=1 apt-get …). NO_COLOR switches colours off. \
             Nothing else of the environment is used.",
        ],
    ),
    (
        "Units",
        &[
            "sshd-mend-repair.service carries out a repair. sshd-mend-fallback.service starts the units again, or else their rescues, if a repair \
             was killed again and again.",
            "sshd-mend-rescue-NAME.socket serves in place of NAME.service, by the same rules, if that cannot be started after its listener was terminated. \
             It ends when the unit is started again, by `repair` or by hand, and with the next reboot.",
            "sshd-mend.timer, not enabled as installed, starts the hook every six hours.",
            "The journal has every step: journalctl -t sshd-mend. With -x each message is explained.",
        ],
    ),
];

/// What `--help` and the manual page say beside commands and flags: headings and paragraphs.
pub fn sections() -> Vec<(&'static str, Vec<String>)> {
    let written =
        SECTIONS.iter().map(|(heading, texts)| (*heading, texts.iter().map(|&text| text.to_owned()).collect()));
    let refusals = RefusalCode::ALL.iter().map(|code| format!("{}: {}.", code.as_str(), code.sentence())).collect();
    written.chain([("Refusals", refusals)]).collect()
}

fn after_long_help() -> String {
    let sections = sections().into_iter().map(|(heading, paragraphs)| {
        let paragraphs: Vec<String> = paragraphs.iter().map(|paragraph| format!("  {paragraph}")).collect();
        format!("{heading}:\n{}", paragraphs.join("\n"))
    });
    sections.collect::<Vec<_>>().join("\n\n")
}
