//! Commands and flags. `--help`, the manual page and the completions of shells all come from here
//! (packaging/documents.rs), so they cannot differ.

use clap::{ArgAction, Parser, Subcommand};

use crate::model::refusal::RefusalCode;

/// Finds sshd listeners that run a program no longer on disk, ends them safely, restarts ssh.service through systemd,
/// and proves that a new connection gets through
#[derive(Debug, Parser)]
#[command(name = "sshd-mend", version, max_term_width = 100, after_help = EXIT_STATUS, after_long_help = after_long_help(), disable_help_subcommand = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Say more: what was looked at and left alone, and why
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub verbose: bool,
    /// Say the verdict only
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
    /// Examine, and mend what is broken
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
            "After a package run an old sshd can keep the SSH port although systemd has forgotten it and its program is no longer on disk. \
             The next restart of ssh.service then fails, and nobody can log in any more. sshd-mend finds such a listener, \
             makes sure that the sshd on disk would serve, ends the old one through its pidfd, has systemd start what was declared, \
             and does not call it done before a new connection gets through. Sessions that are open go on.",
            "It ends one kind of process only: a listener of root's, in the host's own namespaces and root directory, whose program is the one that \
             ssh.service starts. It never ends a session, an sshd of a container, or an sshd of another path. What it cannot do safely it refuses, \
             with the reason and what to do.",
        ],
    ),
    (
        "Exit status",
        &[
            "0  OK, or nothing to examine here.",
            "1  Warning: it works, and will not for long; or a repair was refused or could not be verified.",
            "2  Critical: a new connection does not get through, or a rescue serves.",
            "3  Unknown: the machine could not be examined (not root, no systemd), or wrong usage.",
            "`hook` always exits with 0: a package run never fails for it.",
        ],
    ),
    (
        "Files",
        &[
            "/etc/default/sshd-mend: HOOK=repair, report or off (what happens after a package run); GRACE= seconds from SIGTERM to SIGKILL (5); \
             DEADLINE= seconds for a whole run (90). Read as data, only if root owns it and nobody else can write it.",
            "/run/sshd-mend: what a repair is about to do, so that one which was cut off is finished.",
            "/etc/apt/apt.conf.d/99sshd-mend, /etc/dpkg/dpkg.cfg.d/sshd-mend, /etc/cron-apt/action.d/9-sshd-mend: start the hook.",
        ],
    ),
    (
        "Environment",
        &["SSHD_MEND_SUSPEND=1 in the environment of a package run suspends the hook. NO_COLOR switches colours off. \
             Nothing else of the environment is used."],
    ),
    (
        "Units",
        &[
            "sshd-mend-repair.service carries a repair out. sshd-mend-fallback.service starts ssh.service if a repair was killed again and again. \
             sshd-mend-rescue.socket serves SSH if ssh.service cannot be started after its listener was ended; `repair` ends it again. \
             sshd-mend.timer, not enabled as installed, looks every six hours.",
            "The journal has it all: journalctl -t sshd-mend. With -x each message is explained.",
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
