//! The program: parses, starts the log, runs, and turns the outcome into an exit status.

// println! panics on a terminal that went away, and nothing that the world can change is a reason to panic.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::Parser;
use log::LevelFilter;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use sshd_mend::agent::{self, Run};
use sshd_mend::capabilities;
use sshd_mend::cli::{CARRY_OUT, Cli, Command};
use sshd_mend::hook::is_worth_saying;
use sshd_mend::journal::{self, Journal};
use sshd_mend::observe::{Probing, Unexaminable};
use sshd_mend::plan::Trigger;
use sshd_mend::record::Record;
use sshd_mend::refusal::Reason;
use sshd_mend::repair_unit;
use sshd_mend::report::{self, Outcome, Style};
use sshd_mend::settings::{self, Hook, Settings};
use sshd_mend::signals::Signals;

fn main() -> ExitCode {
    // Before the first thread, and before anything is read.
    let ready = || -> io::Result<Signals> {
        capabilities::drop_all_but_needed()?;
        Signals::note()
    };
    let ready =
        ready().map_err(|error| format!("this process could not be made safe to run: {error}. Nothing was done"));
    if std::env::args_os().skip(1).eq([CARRY_OUT]) {
        let _log = journal::start(Journal::Write, LevelFilter::Info);
        watch(UNFINISHED);
        return match ready {
            Ok(signals) => work(&signals),
            Err(error) => {
                log::error!("{error}");
                ExitCode::from(3)
            }
        };
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // It knows by itself that help goes to stdout and a mistake to stderr.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 3 } else { 0 });
        }
    };
    let changes_nothing = matches!(cli.command, Command::Check { .. } | Command::Repair { dry_run: true, .. });
    let terminal = match (cli.verbose, cli.quiet) {
        (true, _) => LevelFilter::Debug,
        (_, true) => LevelFilter::Error,
        _ => LevelFilter::Info,
    };
    let _log = journal::start(if changes_nothing { Journal::Silent } else { Journal::Write }, terminal);
    let is_hook = matches!(cli.command, Command::Hook);
    watch(if is_hook { 0 } else { 3 });
    let signals = match ready {
        Ok(signals) => signals,
        Err(_) if is_hook => return ExitCode::SUCCESS,
        Err(error) => return finish(&agent::unknown("", &error), false, style(&cli)),
    };
    match cli.command {
        Command::Hook => {
            hook(&signals, style(&cli));
            ExitCode::SUCCESS
        }
        Command::Check { json } => finish(&person(&signals, "check", |run| run.examine(false)), json, style(&cli)),
        Command::Repair { dry_run: true, json } => {
            finish(&person(&signals, "repair", |run| run.examine(true)), json, style(&cli))
        }
        Command::Repair { dry_run: false, json } => {
            finish(&person(&signals, "repair", |run| run.repair()), json, style(&cli))
        }
    }
}

/// Beyond twice the deadline, which is how long an outcome is waited for.
const MARGIN: Duration = Duration::from_secs(10);

/// EX_TEMPFAIL of sysexits.h: none of the statuses that systemd takes for an end.
const UNFINISHED: u8 = 75;

/// Nothing in here waits without a limit. Should something hang all the same, the program ends: what waits for it goes
/// on, and systemd finishes a repair that was announced.
fn watch(status: u8) {
    let limit = settings::read(Path::new(settings::PATH)).unwrap_or_default().deadline * 2 + MARGIN;
    let watching = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        std::thread::sleep(limit);
        log::error!("nothing was heard of this run for {} s: it is given up", limit.as_secs());
        std::process::exit(status.into());
    });
    if let Err(error) = watching {
        log::error!("there is no watchdog for this run: {error}");
    }
}

type Examined = Result<Outcome, Unexaminable>;

/// A run that a person asked for.
fn person(signals: &Signals, command: &'static str, run: impl Fn(&Run<'_>) -> Examined) -> Outcome {
    let settings = match settings::read(Path::new(settings::PATH)) {
        Ok(settings) => settings,
        Err(error) => return agent::unknown(command, &error.to_string()),
    };
    let outcome =
        agent::examinable().and_then(|()| run(&Run::new(command, Trigger::Repair, Probing::All, settings, signals)));
    outcome.unwrap_or_else(|error| agent::unknown(command, &error.to_string()))
}

/// A run inside a package run: silent if there is nothing to say, and never a reason for the package run to fail.
fn hook(signals: &Signals, style: Style) {
    let (settings, mistake) = match settings::read(Path::new(settings::PATH)) {
        Ok(settings) => (settings, None),
        Err(error) => (Settings { hook: Hook::Report, ..Settings::default() }, Some(error)),
    };
    if settings.hook == Hook::Off || agent::examinable().is_err() {
        return;
    }
    let run = Run::new("hook", Trigger::Hook, Probing::Suspects, settings, signals);
    let suspended = std::env::var_os("SSHD_MEND_SUSPEND").is_some_and(|value| value == "1");
    let outcome = match (suspended, settings.hook) {
        (true, _) => run.refuse(Reason::Suspended),
        (false, Hook::Report) => run.examine(false),
        (false, _) => run.repair(),
    };
    let outcome = outcome.unwrap_or_else(|error| agent::unknown("hook", &error.to_string()));
    if is_worth_saying(&outcome) || mistake.is_some() {
        let mut outcome = outcome;
        outcome.notes.extend(mistake.map(|mistake| mistake.to_string()));
        say(b"sshd-mend:\n");
        report::print(&outcome, false, style);
    }
}

/// What sshd-mend-repair.service does: the work itself, for whoever asked.
///
/// What is not finished stays on record, and the status then makes systemd start this program again.
fn work(signals: &Signals) -> ExitCode {
    let settings = settings::read(Path::new(settings::PATH)).unwrap_or_default();
    let record = Record::open();
    let trigger = record.as_ref().map_or(Trigger::Repair, Record::request);
    let run = Run::new("repair", trigger, Probing::All, settings, signals);
    let outcome = agent::examinable().and_then(|()| run.repair_here());
    let outcome = outcome.unwrap_or_else(|error| agent::unknown("repair", &error.to_string()));
    let status = outcome.exit_status;
    let Ok(record) = record else { return ExitCode::from(status) };
    if let Err(error) = record.clear_request().and_then(|()| repair_unit::leave(&record, outcome)) {
        log::error!("the outcome could not be left under /run/sshd-mend: {error}");
    }
    ExitCode::from(if record.intent().is_some() { UNFINISHED } else { status })
}

fn finish(outcome: &Outcome, json: bool, style: Style) -> ExitCode {
    report::print(outcome, json, style);
    ExitCode::from(outcome.exit_status)
}

fn style(cli: &Cli) -> Style {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Style { colour, verbose: cli.verbose, quiet: cli.quiet }
}

fn say(text: &[u8]) {
    let _ = std::io::stdout().lock().write_all(text);
}
