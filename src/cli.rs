//! Commands and flags. `--help` comes from here.

use clap::{ArgAction, Parser, Subcommand};

/// Finds sshd listeners that run a program no longer on disk, ends them safely, restarts ssh.service through systemd,
/// and proves that a new connection gets through.
#[derive(Debug, Parser)]
#[command(name = "sshd-mend", version, max_term_width = 100, after_help = EXIT_STATUS, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub verbose: bool,
    /// Say the verdict only
    #[arg(short, long, global = true, action = ArgAction::SetTrue, conflicts_with = "verbose")]
    pub quiet: bool,
}

const EXIT_STATUS: &str = "Exit status: 0 OK, 1 warning, 2 critical (a new connection does not get through), 3 unknown (could not examine, or wrong usage). \
                           `hook` always exits with 0.";

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
    /// What sshd-mend-repair.service runs; not for people
    #[command(hide = true)]
    CarryOut,
}
