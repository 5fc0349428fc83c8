//! What would keep systemd from starting a unit at all, whatever its program is like: conditions, required units, files and
//! directories that have to be there, its user. They may have changed since the running sshd was started.
//!
//! Of the sandbox only its paths are looked at. Commands of the unit other than sshd are not run.

use std::path::Path;
use std::time::Duration;

use crate::host::command;
use crate::host::deadline::Deadline;

/// systemd's own program evaluates what only systemd can (systemd-analyze(1), in the package of systemd itself).
const SYSTEMD_ANALYZE: &str = "/usr/bin/systemd-analyze";
/// For one run. It takes 0.05 s.
const LIMIT: Duration = Duration::from_secs(5);
/// Debian's unit has this one. [`crate::model::refusal::RefusalCode::NotToBeRun`] is about it.
const USUAL_CONDITION: &str = "ConditionPathExists=!/etc/ssh/sshd_not_to_be_run";
/// Settings that name files or directories, and with which a start fails if one is missing (systemd.exec(5)).
const PATHS: [&str; 10] = [
    "EnvironmentFile",
    "WorkingDirectory",
    "RootDirectory",
    "BindPaths",
    "BindReadOnlyPaths",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
];

/// What would keep `unit` from being started, from its files in systemd's order. Values with specifiers or patterns are
/// left out.
pub(super) fn hindrance(unit: &str, files: &[String], deadline: Deadline) -> Option<String> {
    missing_path(files).or_else(|| user(files)).or_else(|| missing_command(files)).or_else(|| {
        let lines = || files.iter().flat_map(|file| file.lines()).map(str::trim);
        let has = |keys: &[&str]| lines().any(|l| l != USUAL_CONDITION && keys.iter().any(|key| l.starts_with(key)));
        let conditions = has(&["Condition", "Assert"]).then(|| unmet_condition(unit, deadline)).flatten();
        let requires = || has(&["Requires", "Requisite", "BindsTo"]).then(|| impossible_job(unit, deadline)).flatten();
        conditions.or_else(requires)
    })
}

/// Whether a command of the unit decides if it is started: it cannot be tried without running it.
pub(super) fn has_exec_condition(files: &[String]) -> bool {
    !all(files, "ExecCondition").is_empty()
}

fn missing_path(files: &[String]) -> Option<String> {
    let of_key = |key: &&str| {
        // Of these the last value counts; the others add up.
        let values = all(files, key);
        let keep = if ["WorkingDirectory", "RootDirectory"].contains(key) { 1 } else { values.len() };
        let skip = values.len() - keep.min(values.len());
        let words = values.into_iter().skip(skip).flat_map(|value| match key.ends_with("Paths") {
            true => value.split_whitespace().map(|word| word.split(':').next().unwrap_or(word).to_owned()).collect(),
            false => vec![value],
        });
        words.into_iter().find_map(|word| {
            let path = word.strip_prefix('+').unwrap_or(&word);
            (!path.starts_with('-') && !exists(path)).then(|| format!("{key}={path} is missing"))
        })
    };
    PATHS.iter().find_map(of_key)
}

fn user(files: &[String]) -> Option<String> {
    let user = all(files, "User").pop().filter(|user| user != "root" && user != "0" && !user.contains('%'));
    user.map(|user| format!("User={user}: sshd has to be started by root"))
}

/// A command before the main one that systemd could not run. With `-` its failure does not matter.
fn missing_command(files: &[String]) -> Option<String> {
    ["ExecCondition", "ExecStartPre"].into_iter().find_map(|key| {
        let commands = all(files, key);
        let programs = commands.iter().filter_map(|command| command.split_whitespace().next());
        let programs = programs.map(|program| program.trim_start_matches(['@', ':', '+', '!']));
        let missing = programs.into_iter().find(|program| !program.starts_with('-') && !exists(program));
        missing.map(|program| format!("{key}={program} is missing"))
    })
}

/// The first condition that does not hold now: `ssh.service: ConditionPathExists=/x failed.`
fn unmet_condition(unit: &str, deadline: Deadline) -> Option<String> {
    let arguments = ["condition", &format!("--unit={unit}")];
    let finished = command::run(Path::new(SYSTEMD_ANALYZE), &arguments, deadline.at_most(LIMIT)).ok()?;
    let line = finished.output.lines().find_map(|line| line.strip_suffix(" failed."))?;
    let condition = line.strip_prefix(&format!("{unit}: ")).unwrap_or(line);
    (finished.status == Some(1)).then(|| format!("{condition} does not hold"))
}

/// Why systemd could not even queue a job that starts the unit: `ssh.service: Failed to create ssh.service/start: Unit
/// x.service not found.`
fn impossible_job(unit: &str, deadline: Deadline) -> Option<String> {
    let arguments = ["verify", "--man=no", unit];
    let finished = command::run(Path::new(SYSTEMD_ANALYZE), &arguments, deadline.at_most(LIMIT)).ok()?;
    let told = format!("Failed to create {unit}/start: ");
    let why = finished.output.lines().find_map(|line| Some(line.split_once(&told)?.1.trim_end_matches('.')));
    why.map(|why| format!("systemd cannot start it: {why}"))
}

/// The values of a setting of `[Service]`; an empty one takes back those before it (systemd.unit(5)).
fn all(files: &[String], key: &str) -> Vec<String> {
    let mut values = Vec::new();
    for file in files {
        let mut in_service = false;
        for line in file.lines().map(str::trim) {
            if line.starts_with('[') {
                in_service = line == "[Service]";
            }
            let Some((_, value)) = line.split_once('=').filter(|(name, _)| in_service && name.trim() == key) else {
                continue;
            };
            match value.trim() {
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }
    values
}

/// True also where that cannot be said.
fn exists(path: &str) -> bool {
    let is_plain = path.starts_with('/') && !path.contains(['%', '*', '?', '[', '\\', '$', '"']);
    !is_plain || Path::new(path).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_start_from_succeeding() {
        let of = |drop_in: &str| {
            let unit = format!("[Unit]\nUser=x\n{USUAL_CONDITION}\n[Service]\nEnvironmentFile=-/etc/default/nothing\n");
            let deadline = Deadline::after(Duration::from_secs(10));
            hindrance("no-such-unit.service", &[unit, format!("[Service]\n{drop_in}\n")], deadline)
        };
        for harmless in [
            "",
            "EnvironmentFile=/etc/passwd",
            "EnvironmentFile=/nothing\nEnvironmentFile=",
            "EnvironmentFile=/etc/%n",
            "WorkingDirectory=-/nothing",
            "WorkingDirectory=~",
            "WorkingDirectory=/nothing\nWorkingDirectory=/",
            "BindPaths=-/nothing:/mnt /etc:/mnt:rbind",
            "ReadOnlyPaths=+/etc",
            "ExecStartPre=-/nothing -x",
            "ExecStartPre=+/bin/sh -c /nothing",
            "User=root",
            "[Install]\nUser=nobody",
        ] {
            assert_eq!(of(harmless), None, "{harmless}");
        }
        for setting in [
            "EnvironmentFile=/nothing",
            "WorkingDirectory=/nothing",
            "RootDirectory=/nothing",
            "BindPaths=/nothing",
            "InaccessiblePaths=/nothing",
            "ExecCondition=/nothing",
            "User=nobody",
        ] {
            assert!(of(setting).is_some_and(|what| what.starts_with(setting)), "{setting}");
        }
        assert_eq!(
            of("BindReadOnlyPaths=/etc /nothing:/mnt").as_deref(),
            Some("BindReadOnlyPaths=/nothing is missing")
        );
    }
}
