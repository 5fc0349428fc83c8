//! The layers of CONTRIBUTING.md, read from the source: seven folders, each of which uses only those below it; decisions and
//! data without input or output; effects nowhere below `act`; no two files that need each other.
#![allow(missing_docs)]

#[path = "layout/planted.rs"]
mod planted;
#[path = "layout/source.rs"]
mod source;

use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// From top to bottom.
const FOLDERS: [&str; 7] = ["agent", "act", "report", "decide", "observe", "host", "model"];
/// Above all of them. What main.rs and lib.rs use is their own affair.
const FILES: [&str; 4] = ["main.rs", "lib.rs", "cli.rs", "settings.rs"];
/// What is used against the order, and why that is needed.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("cli", "model"),      // --help names every finding and refusal
    ("cli", "report"),     // --help names every verdict
    ("settings", "model"), // text of the file is shown in printable form
    ("agent", "settings"), // a run does what the administrator chose; settings uses nothing of a run
];
/// No file of src/ is longer.
const LINES_MAX: usize = 350;

/// What reads or changes the machine, reads a clock, or writes a log: a module, and the names in it that count (none: all).
const INPUT_AND_OUTPUT: Names = &[
    ("std", "fs process env thread io os"),
    ("std::net", "TcpListener TcpStream UdpSocket ToSocketAddrs"),
    ("std::time", "Instant::now SystemTime::now"),
    ("log", ""),
    ("rustix", ""),
    ("nix", ""),
    ("zbus", ""),
    ("procfs", ""),
    ("signal_hook", ""),
];
/// The same as methods: of paths, of moments.
const METHODS_OF_INPUT: &str =
    "canonicalize metadata symlink_metadata read_dir read_link try_exists is_file is_dir elapsed";

/// What changes the machine.
const EFFECTS: Names = &[
    ("std::fs", "write create_dir create_dir_all remove_file remove_dir remove_dir_all rename copy hard_link"),
    ("std::fs", "set_permissions DirBuilder OpenOptions File::create File::create_new File::options"),
    ("std::os::unix::fs", "symlink chown fchown lchown chroot"),
    ("std::process", "Command"),
    ("std::env", "set_var remove_var set_current_dir"),
    ("rustix::fs", "OFlags::CREATE OFlags::WRONLY OFlags::RDWR mkdir mkdirat mknodat unlink unlinkat rmdir"),
    ("rustix::fs", "rename renameat renameat_with link linkat symlink symlinkat chmod chmodat fchmod chown chownat"),
    ("rustix::fs", "fchown truncate ftruncate fallocate setxattr lsetxattr fsetxattr removexattr flock utimensat"),
    ("rustix::process", "pidfd_send_signal kill_process kill_process_group chroot chdir fchdir umask setrlimit"),
    ("rustix::thread", "set_capabilities set_thread_uid set_thread_gid unshare move_into_link_name_space"),
    ("rustix::mount", ""),
    ("nix", "mount sched sys::signal sys::ptrace sys::reboot"),
    ("nix::unistd", "unlink unlinkat mkdir mkfifo symlinkat truncate chown setuid setgid chroot execve execv fork"),
];
/// Interfaces of `host` that change the machine: not to be called below `act`.
const METHODS_OF_EFFECT: &str = "terminate kill enqueue abort reload reset_failed run";
/// The wrappers, each with the one thing that it wraps.
const WRAPPERS: &[(&str, &str)] = &[
    ("host/pid_ref.rs", "rustix::process::pidfd_send_signal"),
    ("host/command.rs", "std::process::Command"),
    ("host/command.rs", "rustix::process::kill_process_group"), // of a command that took too long
    ("host/capabilities.rs", "rustix::thread::set_capabilities"), // of its own process
    ("host/limits.rs", "rustix::process::setrlimit"),
];

type Names = &'static [(&'static str, &'static str)];

/// What is wrong, a line each: `file:line: …`.
type Wrong = Vec<String>;

/// The path is this one, or leads into it.
fn is(path: &str, listed: &str) -> bool {
    path.strip_prefix(listed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn folders(sources: &[Source]) -> Wrong {
    let found: BTreeSet<&str> =
        sources.iter().map(|source| source.file.split('/').next().unwrap_or_default()).collect();
    let declared: BTreeSet<&str> = FOLDERS.into_iter().chain(FILES).collect();
    let missing = declared.difference(&found).map(|name| format!("src/{name} is missing"));
    missing.chain(found.difference(&declared).map(|name| format!("src/{name} is in no list"))).collect()
}

/// Each use of one folder by another, or of a file above them: who, whom, where.
fn uses(sources: &[Source]) -> Vec<(&str, &str, String)> {
    let mut uses = Vec::new();
    for source in sources.iter().filter(|source| source.module != "crate") {
        for (path, line) in &source.paths {
            let Some(inside) = path.strip_prefix("crate::") else { continue };
            let used = inside.split("::").next().unwrap_or_default();
            uses.push((source.folder(), used, format!("{}:{line}: {path}", source.file)));
        }
    }
    uses
}

fn layers(sources: &[Source]) -> Wrong {
    let rank = |folder: &str| FOLDERS.iter().position(|known| *known == folder);
    let allowed = |user: &str, used: &str| match (rank(user), rank(used)) {
        (Some(user), Some(used)) if user <= used => true,
        _ => user == used || EXCEPTIONS.contains(&(user, used)),
    };
    let wrong = uses(sources).into_iter().filter(|(user, used, _)| !allowed(user, used));
    wrong.map(|(user, used, place)| format!("{place}: {user} is not above {used}")).collect()
}

fn exceptions(sources: &[Source]) -> Wrong {
    let uses = uses(sources);
    let unused = EXCEPTIONS.iter().filter(|(user, used)| !uses.iter().any(|(by, of, _)| (by, of) == (user, used)));
    let unused = unused.map(|(user, used)| format!("{user} does not use {used}: the exception is not needed"));
    let calls = |file: &str, call: &str| {
        sources.iter().any(|source| source.file == file && source.paths.iter().any(|(path, _)| is(path, call)))
    };
    let wrappers = WRAPPERS.iter().filter(|(file, call)| !calls(file, call));
    unused.chain(wrappers.map(|(file, call)| format!("{file} does not call {call}: it is no wrapper"))).collect()
}

/// Listed paths that a file names and listed methods that it calls, other than what it wraps.
fn listed(source: &Source, paths: Names, methods: &str) -> Wrong {
    let is_listed = |path: &str| {
        paths.iter().any(|(module, names)| match names.is_empty() {
            true => is(path, module),
            false => names.split(' ').any(|name| is(path, &format!("{module}::{name}"))),
        })
    };
    let is_wrapped = |path: &str| WRAPPERS.iter().any(|(file, call)| source.file == *file && is(path, call));
    let named = source.paths.iter().filter(|(path, _)| is_listed(path) && !is_wrapped(path));
    let called = source.calls.iter().filter(|(name, _)| methods.split(' ').any(|method| method == name));
    named.chain(called).map(|(name, line)| format!("{}:{line}: {name}", source.file)).collect()
}

/// `decide` uses only `model`, and neither has input or output.
fn pure(sources: &[Source], folder: &str) -> Wrong {
    let inside = sources.iter().filter(|source| source.folder() == folder);
    let mut wrong: Wrong = inside.flat_map(|source| listed(source, INPUT_AND_OUTPUT, METHODS_OF_INPUT)).collect();
    let others =
        uses(sources).into_iter().filter(|(user, used, _)| *user == folder && ![folder, "model"].contains(used));
    wrong.extend(others.map(|(_, _, place)| place));
    wrong
}

fn effects(sources: &[Source]) -> Wrong {
    let below = |source: &&Source| !["agent", "act", "main", "lib"].contains(&source.folder());
    // `host` is where these methods are.
    let methods = |source: &Source| if source.folder() == "host" { "" } else { METHODS_OF_EFFECT };
    sources.iter().filter(below).flat_map(|source| listed(source, EFFECTS, methods(source))).collect()
}

/// Which file names something of which other, with one place for each.
type Needs<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;

/// `mod child;` in a mod.rs names nothing of the child.
fn by_paths(sources: &[Source]) -> Needs<'_> {
    let mut needs = Needs::new();
    for source in sources.iter().filter(|source| source.module != "crate") {
        for (path, line) in &source.paths {
            let inside = |other: &&Source| other.module != "crate" && is(path, &other.module);
            let owner = sources.iter().filter(inside).max_by_key(|other| other.module.len());
            if let Some(owner) = owner.filter(|owner| owner.file != source.file) {
                let place = format!("{}:{line}: {path}", source.file);
                needs.entry(&source.file).or_default().entry(&owner.file).or_insert(place);
            }
        }
    }
    needs
}

/// A method that is written in another file than its type is needed by whoever calls it in the type's own file.
fn by_methods(sources: &[Source]) -> Needs<'_> {
    let mut needs = by_paths(sources);
    for source in sources {
        for (owner, method) in &source.methods {
            let home =
                |other: &&Source| other.module != "crate" && is(owner, &other.module) && other.file != source.file;
            let Some(home) = sources.iter().filter(home).max_by_key(|other| other.module.len()) else { continue };
            let called = home.calls.iter().find(|(name, _)| name == method);
            if let Some((_, line)) = called {
                let place = format!("{}:{line}: .{method}()", home.file);
                needs.entry(&home.file).or_default().entry(&source.file).or_insert(place);
            }
        }
    }
    needs
}

/// Pairs and rings of files each of which needs the next: one line for each file from which a way leads back to it.
fn rings(needs: &Needs<'_>) -> Wrong {
    let mut wrong = BTreeSet::new();
    for start in needs.keys() {
        // The shortest way back, step by step.
        let mut ways: BTreeMap<&str, Vec<&str>> = BTreeMap::from([(*start, vec![*start])]);
        let mut pending = std::collections::VecDeque::from([*start]);
        while let Some(file) = pending.pop_front() {
            for next in needs.get(file).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    let mut ring = ways[file].clone();
                    let smallest = ring.iter().enumerate().min_by_key(|(_, file)| **file).map_or(0, |(at, _)| at);
                    ring.rotate_left(smallest);
                    let steps = ring.iter().zip(ring.iter().cycle().skip(1));
                    wrong.insert(steps.map(|(from, to)| needs[from][to].clone()).collect::<Vec<_>>().join("  ->  "));
                } else if !ways.contains_key(next) {
                    let way = ways[file].iter().copied().chain([*next]).collect();
                    ways.insert(next, way);
                    pending.push_back(next);
                }
            }
        }
    }
    wrong.into_iter().collect()
}

fn long(sources: &[Source]) -> Wrong {
    let long = sources.iter().filter(|source| source.lines > LINES_MAX);
    long.map(|source| format!("{} has {} lines", source.file, source.lines)).collect()
}

fn without_heading(sources: &[Source]) -> Wrong {
    let without = sources.iter().filter(|source| !source.has_heading);
    let without = without.map(|source| format!("{} does not begin with what it is", source.file));
    let folder = |name: &&&str| !sources.iter().any(|source| source.file == format!("{name}/mod.rs"));
    without.chain(FOLDERS.iter().filter(folder).map(|name| format!("{name}/mod.rs is missing"))).collect()
}

type Rule = fn(&[Source]) -> Wrong;

const RULES: &[(&str, Rule)] = &[
    ("folders", folders),
    ("layers", layers),
    ("exceptions", exceptions),
    ("decide", |sources| pure(sources, "decide")),
    ("model", |sources| pure(sources, "model")),
    ("effects", effects),
    ("rings", |sources| rings(&by_paths(sources))),
    ("rings through methods", |sources| {
        let known = rings(&by_paths(sources));
        rings(&by_methods(sources)).into_iter().filter(|ring| !known.contains(ring)).collect()
    }),
    ("length", long),
    ("heading", without_heading),
];

fn check(rule: &str) {
    fn read(directory: &Path, below: &str, sources: &mut Vec<Source>) {
        for entry in std::fs::read_dir(directory).expect("src/") {
            let path = entry.expect("an entry").path();
            let name = format!("{below}{}", path.file_name().expect("a name").to_string_lossy());
            if path.is_dir() {
                read(&path, &format!("{name}/"), sources);
            } else {
                sources.push(Source::read(&name, &std::fs::read_to_string(&path).expect("text")));
            }
        }
    }
    let mut sources = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    let (_, find) = RULES.iter().find(|(name, _)| *name == rule).expect("a rule");
    let wrong = find(&sources);
    assert!(wrong.is_empty(), "{} times:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn there_are_seven_folders_and_four_files() {
    check("folders");
}

#[test]
fn each_folder_uses_only_those_below_it() {
    check("layers");
}

#[test]
fn every_exception_is_needed() {
    check("exceptions");
}

#[test]
fn decisions_use_only_data() {
    check("decide");
}

#[test]
fn data_has_no_input_or_output() {
    check("model");
}

#[test]
fn nothing_below_act_changes_the_machine() {
    check("effects");
}

#[test]
fn no_two_files_name_each_other() {
    check("rings");
}

#[test]
fn no_file_calls_methods_of_one_that_names_it() {
    check("rings through methods");
}

#[test]
fn no_file_is_too_long() {
    check("length");
}

#[test]
fn every_file_begins_with_what_it_is() {
    check("heading");
}
