//! What would keep systemd from starting a unit at all, whatever its program is like: conditions, required units, files and
//! directories that have to be there, its user. They may have changed since the running sshd was started.
//!
//! Of the sandbox only its paths are looked at. Commands of the unit other than sshd are not run.

use nix::unistd::Group;
use std::path::Path;
use std::time::Duration;

use crate::host::command;
use crate::host::deadline::Deadline;
use crate::model::printable::printable;

/// systemd's own programs evaluate what only systemd can (systemd-analyze(1), from 250 on, and systemctl(1)).
const SYSTEMD_ANALYZE: &str = "/usr/bin/systemd-analyze";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// For one run. It takes 0.05 s.
const LIMIT: Duration = Duration::from_secs(5);
/// Debian's unit has this one. [`crate::model::refusal::RefusalCode::NotToBeRun`] is about it.
const USUAL_CONDITION: &str = "ConditionPathExists=!/etc/ssh/sshd_not_to_be_run";
/// What these say is the same for PID 1 and for a process that is confined.
const CONDITIONS: [&str; 7] = [
    "PathExists",
    "PathIsDirectory",
    "PathIsSymbolicLink",
    "FileNotEmpty",
    "DirectoryNotEmpty",
    "FileIsExecutable",
    "KernelCommandLine",
];
/// What is below these is not the same for this process and for the unit, or is made when the unit starts.
const NOT_JUDGED: [&str; 7] = ["/run", "/dev", "/tmp", "/var/tmp", "/proc", "/sys", "/home"];
/// Directories that systemd makes before it starts the unit, and where (systemd.exec(5)).
const MADE: [(&str, &str); 4] = [
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
    ("ConfigurationDirectory", "/etc"),
];
/// Settings that name files or directories, and with which a start fails if one is missing (systemd.exec(5)).
const PATHS: [&str; 13] = [
    "EnvironmentFile",
    "WorkingDirectory",
    "RootDirectory",
    "RootImage",
    "LoadCredential",
    "OpenFile",
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
    let of_files = missing_path(files).or_else(|| missing_stream(files)).or_else(|| user(files));
    of_files.or_else(|| missing_group(files)).or_else(|| missing_command(files)).or_else(|| {
        let mut lines = files.iter().flat_map(|file| file.lines()).map(str::trim);
        let is_condition = |line: &str| line.starts_with("Condition") || line.starts_with("Assert");
        let has_conditions = lines.any(|line| line != USUAL_CONDITION && is_condition(line));
        let conditions = has_conditions.then(|| unmet_condition(unit, deadline)).flatten();
        conditions.or_else(|| missing_unit(files, deadline))
    })
}

/// Whether a command of the unit decides if it is started: it cannot be tried without running it.
pub(super) fn has_exec_condition(files: &[String]) -> bool {
    !all(files, "Service", "ExecCondition").is_empty()
}

/// `path` is in a directory that systemd makes.
fn is_made(files: &[String], path: &Path) -> bool {
    MADE.iter().any(|(key, root)| {
        let names = all(files, "Service", key);
        names.iter().flat_map(|names| names.split_whitespace()).any(|name| path.starts_with(Path::new(root).join(name)))
    })
}

fn missing_path(files: &[String]) -> Option<String> {
    // What a credential is if its file is missing.
    let defaults = ["SetCredential", "SetCredentialEncrypted"].into_iter().flat_map(|key| all(files, "Service", key));
    let defaults: Vec<String> = defaults.filter_map(|value| Some(value.split_once(':')?.0.to_owned())).collect();
    let of_key = |key: &&str| {
        // Of these the last value counts; the others add up.
        let values = all(files, "Service", key);
        let keep = if ["WorkingDirectory", "RootDirectory", "RootImage"].contains(key) { 1 } else { values.len() };
        let skip = values.len() - keep.min(values.len());
        let words = values.into_iter().skip(skip).flat_map(|value| match key.ends_with("Paths") {
            true => value.split_whitespace().map(|word| word.split(':').next().unwrap_or(word).to_owned()).collect(),
            // ID:PATH, and PATH:NAME:OPTIONS.
            false if *key == "LoadCredential" => {
                let named = value.split_once(':').filter(|(id, _)| !defaults.iter().any(|default| default == id));
                named.map(|(_, path)| path.to_owned()).into_iter().collect()
            }
            false if *key == "OpenFile" => {
                let mut parts = value.split(':');
                let path = parts.next().map(str::to_owned);
                let is_optional = parts.nth(1).is_some_and(|options| options.split(',').any(|one| one == "graceful"));
                path.filter(|_| !is_optional).into_iter().collect()
            }
            false => vec![value],
        });
        words.into_iter().find_map(|word| {
            let path = word.strip_prefix('+').unwrap_or(&word);
            (is_missing(path) && !is_made(files, Path::new(path))).then(|| format!("{key}={path} is missing"))
        })
    };
    PATHS.iter().find_map(of_key)
}

/// A file for its output is made, but no directory for it; one for its input has to be there.
fn missing_stream(files: &[String]) -> Option<String> {
    let of_key = |key: &str| {
        let value = all(files, "Service", key).pop()?;
        let (kind, path) = value.split_once(':')?;
        let is_wrong = match (key, kind) {
            ("StandardInput", "file") => is_missing(path),
            (_, "file" | "append" | "truncate") => lacks_directory(Path::new(path)),
            _ => false,
        };
        is_wrong.then(|| format!("{key}={value} cannot be opened"))
    };
    ["StandardInput", "StandardOutput", "StandardError"].into_iter().find_map(of_key)
}

/// sshd ends if it cannot open it (log_redirect_stderr_to in log.c).
pub(super) fn log_file(file: &Path, files: &[String]) -> Option<String> {
    let is_wrong = (lacks_directory(file) && !is_made(files, file)) || file.is_dir();
    is_wrong.then(|| format!("its log file (-E {}) cannot be opened", printable(&file.to_string_lossy())))
}

fn lacks_directory(file: &Path) -> bool {
    file.parent().and_then(Path::to_str).is_some_and(is_missing)
}

fn missing_group(files: &[String]) -> Option<String> {
    let of_key = |key: &str| {
        let values = all(files, "Service", key);
        let keep = if key == "Group" { 1 } else { values.len() };
        let values = values.iter().rev().take(keep).flat_map(|value| value.split_whitespace());
        let is_unknown = |name: &str| {
            !name.contains('%') && name.parse::<u32>().is_err() && matches!(Group::from_name(name), Ok(None))
        };
        values.into_iter().find(|name| is_unknown(name)).map(|name| format!("{key}={name} is no group"))
    };
    ["Group", "SupplementaryGroups"].into_iter().find_map(of_key)
}

fn user(files: &[String]) -> Option<String> {
    if all(files, "Service", "DynamicUser")
        .pop()
        .is_some_and(|value| ["yes", "true", "1", "on"].contains(&value.as_str()))
    {
        return Some("DynamicUser=yes: sshd has to be started by root".to_owned());
    }
    let user = all(files, "Service", "User").pop().filter(|user| user != "root" && user != "0" && !user.contains('%'));
    user.map(|user| format!("User={user}: sshd has to be started by root"))
}

/// A command before the main one that systemd could not run. With `-` its failure does not matter.
fn missing_command(files: &[String]) -> Option<String> {
    ["ExecCondition", "ExecStartPre"].into_iter().find_map(|key| {
        let commands = all(files, "Service", key);
        let programs = commands.iter().filter_map(|command| command.split_whitespace().next());
        let programs = programs.map(|program| program.trim_start_matches(['@', ':', '+', '!']));
        let missing = programs.into_iter().find(|program| is_missing(program));
        missing.map(|program| format!("{key}={program} is missing"))
    })
}

/// The condition for which the unit would not be started now.
fn unmet_condition(unit: &str, deadline: Deadline) -> Option<String> {
    let arguments = ["condition", &format!("--unit={unit}")];
    // It may look wherever PID 1 may.
    let finished = command::run_sshd(Path::new(SYSTEMD_ANALYZE), &arguments, deadline.at_most(LIMIT)).ok()?;
    unmet(unit, &finished.output).map(|condition| format!("{condition} does not hold"))
}

/// From what systemd-analyze prints: `ssh.service: ConditionPathExists=/x failed.`, then `Conditions failed.` Of conditions with
/// `|` one is enough, so the last one before the end is the one that counts.
fn unmet(unit: &str, output: &str) -> Option<String> {
    let lines: Vec<&str> = output.lines().collect();
    let end = lines.iter().position(|line| ["Conditions failed.", "Asserts failed."].contains(line))?;
    let failed = lines[..end].iter().rev().find_map(|line| line.strip_suffix(" failed."))?;
    let condition = failed.strip_prefix(&format!("{unit}: ")).unwrap_or(failed);
    let (key, value) = condition.split_once('=')?;
    let kind = key.strip_prefix("Condition").or_else(|| key.strip_prefix("Assert"))?;
    let value = value.trim_start_matches(['|', '!']);
    (CONDITIONS.contains(&kind) && is_judged(value)).then(|| condition.to_owned())
}

/// A unit that this one requires, and that systemd does not have: its start would fail with it.
fn missing_unit(files: &[String], deadline: Deadline) -> Option<String> {
    let required = ["Requires", "Requisite", "BindsTo"].into_iter().flat_map(|key| all(files, "Unit", key));
    let required: Vec<String> = required
        .flat_map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| !name.contains(['%', '"']))
        .collect();
    if required.is_empty() {
        return None;
    }
    let arguments = ["show", "--property=Id,LoadState", "--"].into_iter().chain(required.iter().map(String::as_str));
    let arguments: Vec<&str> = arguments.collect();
    let shown = command::run(Path::new(SYSTEMCTL), &arguments, deadline.at_most(LIMIT)).ok()?;
    // A block for each unit, with an empty line between them.
    shown.output.split("\n\n").find_map(|block| {
        let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key));
        let state = value("LoadState=").filter(|state| ["not-found", "masked"].contains(state))?;
        Some(format!("it requires {}, which is \"{state}\"", value("Id=")?))
    })
}

/// The values of a setting in a section; an empty one takes back those before it (systemd.unit(5)).
fn all(files: &[String], section: &str, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    for file in files {
        let mut is_inside = false;
        for line in file.lines().map(str::trim) {
            if line.starts_with('[') {
                is_inside = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) == Some(section);
            }
            let Some((_, value)) = line.split_once('=').filter(|(name, _)| is_inside && name.trim() == key) else {
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

/// False also where that cannot be said: `-` makes it no matter, and what may not be looked at may be there.
fn is_missing(path: &str) -> bool {
    let is_plain = path.starts_with('/') && !path.contains(['%', '*', '?', '[', '\\', '$', '"']);
    is_plain && is_judged(path) && matches!(Path::new(path).try_exists(), Ok(false))
}

/// What is at that path is the same for this process and for the unit.
fn is_judged(path: &str) -> bool {
    !NOT_JUDGED.iter().any(|directory| Path::new(path).starts_with(directory))
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
            "ReadWritePaths=/run/nothing /dev/nothing",
            "StateDirectory=nothing\nReadWritePaths=/var/lib/nothing/keys",
            "ExecStartPre=-/nothing -x",
            "ExecStartPre=+/bin/sh -c /nothing",
            "User=root",
            "DynamicUser=no",
            "Group=root",
            "Group=no-such-group\nGroup=0",
            "SupplementaryGroups=root 4",
            "StandardOutput=append:/etc/log-of-sshd",
            "StandardOutput=journal",
            "LoadCredential=x:/etc/passwd",
            "OpenFile=/nothing:x:graceful",
            "OpenFile=/nothing:x:graceful,read-only",
            "LoadCredential=x:/nothing\nSetCredential=x:none",
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
            "DynamicUser=yes",
            "Group=no-such-group",
            "StandardOutput=append:/nothing/x",
            "StandardError=file:/nothing/x",
            "StandardInput=file:/nothing",
            "RootImage=/nothing",
            "OpenFile=/nothing",
        ] {
            assert!(of(setting).is_some_and(|what| what.starts_with(setting)), "{setting}");
        }
        assert_eq!(of("LoadCredential=x:/nothing").as_deref(), Some("LoadCredential=/nothing is missing"));
        assert!(of("LoadCredential=x:/nothing\nSetCredential=y:none").is_some());
        assert!(of("OpenFile=/nothing:x:read-only").is_some());
        let groups = of("SupplementaryGroups=root no-such-group");
        assert_eq!(groups.as_deref(), Some("SupplementaryGroups=no-such-group is no group"));
        assert_eq!(
            of("BindReadOnlyPaths=/etc /nothing:/mnt").as_deref(),
            Some("BindReadOnlyPaths=/nothing is missing")
        );
    }
    #[test]
    fn the_condition_that_does_not_hold() {
        let of = |lines: &[&str]| unmet("x.service", &lines.join("\n"));
        let exists = "x.service: ConditionPathExists=/nothing failed.";
        assert_eq!(of(&[exists, "Conditions failed."]).as_deref(), Some("ConditionPathExists=/nothing"));
        let assert = "x.service: AssertPathExists=/nothing failed.";
        let holds = "x.service: ConditionPathExists=!/x succeeded.";
        assert_eq!(
            of(&[assert, "Asserts failed.", holds, "Conditions succeeded."]).as_deref(),
            Some("AssertPathExists=/nothing")
        );
        // One of these is enough.
        let either = [
            "x.service: AssertPathExists=|/a failed.",
            "x.service: AssertPathExists=|/b succeeded.",
            "Asserts succeeded.",
        ];
        assert_eq!(of(&either), None);
        assert_eq!(
            of(&[&either[..], &[exists, "Conditions failed."]].concat()).as_deref(),
            Some("ConditionPathExists=/nothing")
        );
        // Not the same for a process that is confined, or not before the unit is started.
        for other in
            ["ConditionCapability=CAP_SYS_ADMIN", "ConditionEnvironment=X", "ConditionPathExists=!/run/sshd.pid"]
        {
            assert_eq!(of(&[&format!("x.service: {other} failed."), "Conditions failed."]), None, "{other}");
        }
        assert_eq!(of(&["Unknown option"]), None);
    }
}
