//! The program: parses, starts the log, runs, and turns the outcome into an exit status.

// println! panics on a terminal that went away, and nothing that the world can change is a reason to panic.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use log::LevelFilter;
use rustix::fs::Mode;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use sshd_mend::act::record::{self, Record};
use sshd_mend::act::replace::replace;
use sshd_mend::agent::notice::Notice;
use sshd_mend::agent::notify;
use sshd_mend::agent::{Run, Task, repair_unit};
use sshd_mend::cli::{CARRY_OUT, Cli, Command, NOTIFY};
use sshd_mend::host::capabilities;
use sshd_mend::host::limits;
use sshd_mend::host::log::{self as journal, Journal};
use sshd_mend::host::signals::Signals;
use sshd_mend::host::watchdog::Watchdog;
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::printable::printable;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::observe::examinable;
use sshd_mend::report::{self, Outcome, Reader, Style};
use sshd_mend::settings::{self, Hook, Settings};

fn main() -> ExitCode {
    if std::env::args_os().skip(1).eq([NOTIFY]) {
        return notify();
    }
    // Before the first thread, and before anything is read.
    let ready = || -> io::Result<Signals> {
        limits::raise_descriptors();
        capabilities::drop_all_but_needed()?;
        Signals::note()
    };
    let ready =
        ready().map_err(|error| format!("this process could not be made safe to run: {error}. Nothing was done"));
    if std::env::args_os().skip(1).eq([CARRY_OUT]) {
        let _log = journal::start(Journal::Write, LevelFilter::Info);
        let watchdog = watch(UNFINISHED);
        return match ready {
            Ok(signals) => work(&signals, &watchdog),
            Err(error) => {
                log::error!("{error}");
                ExitCode::from(unfinished_or(3))
            }
        };
    }
    let cli = match Cli::from_arguments() {
        Ok(cli) => cli,
        Err(error) => {
            // It knows by itself that help goes to stdout and a mistake to stderr.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 3 } else { 0 });
        }
    };
    let person = |json| if json { Reader::Program } else { Reader::Person(style(&cli)) };
    let (task, reader) = match cli.command {
        Command::Check { plugin: true, expect_sshd, .. } => {
            (Task::Check, Reader::Monitoring { expects_sshd: expect_sshd })
        }
        Command::Check { json, .. } => (Task::Check, person(json)),
        Command::Repair { dry_run: true, json } => (Task::DryRun, person(json)),
        Command::Repair { dry_run: false, json } => (Task::Repair, person(json)),
        Command::Hook { full } => (if full { Task::Unattended } else { Task::Hook }, person(false)),
    };
    let is_hook = matches!(task, Task::Hook | Task::Unattended);
    let changes_nothing = matches!(task, Task::Check | Task::DryRun);
    let terminal = match (cli.verbose, cli.quiet) {
        (true, _) => LevelFilter::Debug,
        (_, true) => LevelFilter::Error,
        _ => LevelFilter::Info,
    };
    let _log = journal::start(if changes_nothing { Journal::Silent } else { Journal::Write }, terminal);
    let watchdog = watch(if is_hook { 0 } else { 3 });
    match (ready, is_hook) {
        (Ok(signals), true) => hook(task, &signals, &watchdog, style(&cli)),
        (Err(_), true) => {}
        (ready, _) => {
            let outcome = match ready {
                Ok(signals) => asked_for(task, &signals, &watchdog),
                Err(error) => unknown(task, &error),
            };
            let status = report::print(&outcome, reader);
            let Command::Check { metrics: Some(file), .. } = &cli.command else { return ExitCode::from(status) };
            let Err(error) = write_metrics(&outcome, file) else { return ExitCode::from(status) };
            // Not through the log: cron has no terminal, and has to mail it.
            let _ = writeln!(io::stderr(), "sshd-mend: {}", printable(&error));
            return ExitCode::from(if status > 0 { status } else { 3 });
        }
    }
    ExitCode::SUCCESS
}

/// What sshd-mend-notify.service does. The administrator's program has the capabilities that the unit leaves it.
fn notify() -> ExitCode {
    let _log = journal::start(Journal::Write, LevelFilter::Info);
    let settings = settings::read(Path::new(settings::PATH)).unwrap_or_default();
    match settings.notify.as_deref().map_or(Ok(()), notify::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}. What was repaired or refused is not changed by that");
            ExitCode::FAILURE
        }
    }
}

/// Added to the limits of a run, for the watchdog.
const WATCHDOG_MARGIN: Duration = Duration::from_secs(60);

/// EX_TEMPFAIL of sysexits.h: systemd takes none of the other statuses for a failure.
const UNFINISHED: u8 = 75;

/// Followers wait for two runs, and systemd's answers may take a while.
fn watch(status: u8) -> Watchdog {
    let settings = settings::read(Path::new(settings::PATH)).unwrap_or_default();
    Watchdog::start(settings.deadline * 2 + WATCHDOG_MARGIN, status)
}

/// A run that a person asked for, or a monitoring system.
fn asked_for(task: Task, signals: &Signals, watchdog: &Watchdog) -> Outcome {
    // A mistake in the settings keeps nobody from asking: the defaults are used.
    let (settings, mistake) = match settings::read(Path::new(settings::PATH)) {
        Ok(settings) => (settings, None),
        Err(error) => (Settings::default(), Some(error.to_string())),
    };
    let unusable = settings.notify.as_deref().and_then(|program| notify::usable(program).err());
    let metrics = settings.metrics.clone().filter(|_| task == Task::Repair);
    let run = Run::new(task, settings, signals, watchdog);
    let outcome = examinable().and_then(|()| if task == Task::Repair { run.repair() } else { run.examine() });
    let mut outcome = outcome.unwrap_or_else(|error| unknown(task, &error.to_string()));
    let unwritten = metrics.and_then(|file| write_metrics(&outcome, &file).err());
    outcome.notes.extend(mistake.into_iter().chain(unusable).chain(unwritten));
    outcome
}

fn unknown(task: Task, why: &str) -> Outcome {
    Outcome { dry_run: task == Task::DryRun, ..Outcome::unknown(task.command(), why) }
}

/// A run inside a package run: silent if there is nothing to say, and never a reason for the package run to fail.
fn hook(task: Task, signals: &Signals, watchdog: &Watchdog, style: Style) {
    let (settings, mistake) = match settings::read(Path::new(settings::PATH)) {
        Ok(settings) => (settings, None),
        Err(error) => (Settings { hook: Hook::Report, ..Settings::default() }, Some(error.to_string())),
    };
    if settings.hook == Hook::Off || examinable().is_err() {
        return;
    }
    let (hook, metrics) = (settings.hook, settings.metrics.clone());
    let run = Run::new(task, settings, signals, watchdog);
    let suspended = settings::is_suspended(std::env::var_os("SSHD_MEND_SUSPEND").as_deref());
    if task == Task::Unattended && !suspended && hook == Hook::Repair && run.is_left_to_others().unwrap_or(false) {
        return;
    }
    let outcome = match (suspended, hook) {
        (true, _) => run.refuse(RefusalCode::Suspended),
        (false, Hook::Report) => run.examine(),
        (false, _) => run.repair(),
    };
    let mut outcome = outcome.unwrap_or_else(|error| Outcome::unknown("hook", &error.to_string()));
    if let Some(file) = metrics.filter(|_| task == Task::Unattended || !outcome.done.is_empty()) {
        let _ = write_metrics(&outcome, &file).inspect_err(|error| log::error!("{error}"));
    }
    if !suspended && hook == Hook::Repair {
        run.look_again_if_broken(&outcome);
    }
    // What goes to the journal was not told to the next package run.
    let is_package_run = task == Task::Hook;
    let last = Notice::last().filter(|_| is_package_run);
    if let Some(notice) = Notice::due(&outcome, mistake.clone(), last.as_ref()) {
        if is_package_run {
            notice.remember();
        }
        outcome.notes.extend(mistake);
        print_prefixed(&report::render(&outcome, style));
    } else if is_package_run {
        Notice::forget(&outcome);
    }
}

/// Prints what a package run is told. Its output goes on and on, and people search it: each line says whose it is.
fn print_prefixed(text: &str) {
    let line = |line: &str| format!("sshd-mend: {line}").trim_end().to_owned() + "\n";
    let lines: String = text.lines().map(line).collect();
    let mut out = std::io::stdout().lock();
    // A terminal that went away is no reason to panic, and there is nobody left to tell.
    let _ = out.write_all(lines.as_bytes());
    let _ = out.flush();
}

/// What sshd-mend-repair.service does: the work itself, for whoever asked.
///
/// What is not finished stays on record, and the status then makes systemd start this program again.
fn work(signals: &Signals, watchdog: &Watchdog) -> ExitCode {
    let settings = settings::read(Path::new(settings::PATH)).unwrap_or_default();
    let record = Record::open();
    let request = record.as_ref().ok().and_then(Record::accept_request);
    let trigger = request.map_or(Trigger::Hook, |request| request.trigger);
    let run = Run::new(Task::CarryOut(trigger), settings, signals, watchdog);
    let outcome = examinable().and_then(|()| run.repair_here());
    let outcome = outcome.unwrap_or_else(|error| run.unexaminable(&error));
    let status = outcome.exit_status;
    let Ok(record) = record else { return ExitCode::from(unfinished_or(status)) };
    let unfinished = record.intent().is_some_and(|intent| repair_unit::is_worth_another_attempt(&outcome, &intent));
    if let Err(error) = repair_unit::store(&record, request, outcome) {
        log::error!("the outcome could not be stored under /run/sshd-mend: {error}");
    }
    ExitCode::from(if unfinished { UNFINISHED } else { status })
}

/// What an earlier attempt has put on record cannot be read, and may not be finished: then systemd has to try again.
fn unfinished_or(status: u8) -> u8 {
    if record::is_intent_there() { UNFINISHED } else { status }
}

/// Writes the metrics, which the collector reads as another user.
///
/// # Errors
/// They could not be written, in one sentence.
fn write_metrics(outcome: &Outcome, file: &Path) -> Result<(), String> {
    let written = replace(file, report::metrics(outcome).as_bytes(), Mode::from_raw_mode(0o644));
    written.map_err(|error| {
        format!("the metrics could not be written to {}: {error}. Nothing else is different", file.display())
    })
}

fn style(cli: &Cli) -> Style {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Style { colour, verbose: cli.verbose, quiet: cli.quiet }
}
