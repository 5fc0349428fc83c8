//! docs/how-it-decides.svg: its source is [`BOXES`], which names the functions of src/, and is checked against them. SSHD_MEND_BLESS=1 draws
//! the picture anew.
#![allow(missing_docs)]

#[path = "pictures/svg.rs"]
#[allow(dead_code)] // what other pictures need
mod svg;

use std::fmt::Write;
use std::path::Path;
use svg::{document, line, text};

/// A function of src/ and what it does, in its order.
struct Part {
    title: &'static str,
    file: &'static str,
    function: &'static str,
    /// What it calls, what that does, and the function of another box that it leads to.
    steps: &'static [Step],
    /// Every call in it whose name begins so is a step.
    complete: &'static str,
    column: usize,
}

type Step = (&'static str, &'static str, &'static [Link]);
/// A file, a function in it, and what that one calls: the way from a step to the box that it leads to.
type Link = (&'static str, &'static str, &'static str);

const BOXES: &[Part] = &[
    Part {
        title: "A command, or the hook of a package run",
        file: "agent/mod.rs",
        function: "repair",
        steps: &[
            ("observe", "facts: processes, sockets, units", &[]),
            ("first_aid", "creates /run/sshd if it is missing", &[]),
            ("assess_snapshot", "examines and plans", &[("agent/run.rs", "assess_snapshot", "make")]),
            ("conclude_without_repair", "nothing to do: says what was found", &[]),
            (
                "follow",
                "else has sshd-mend-repair.service do it",
                &[("agent/repair_unit.rs", "follow", "wait_for_outcome"), ("main.rs", "work", "repair_here")],
            ),
        ],
        complete: "",
        column: 0,
    },
    Part {
        title: "The repair unit",
        file: "agent/mod.rs",
        function: "repair_here",
        steps: &[
            ("lock", "one repair at a time", &[]),
            ("assess", "examines and plans anew", &[("agent/run.rs", "assess_snapshot", "make")]),
            ("pin", "notes the open sessions", &[]),
            ("prepare", "first aid", &[]),
            (
                "execute",
                "each instance by itself",
                &[("agent/mod.rs", "execute", "execute"), ("act/execute.rs", "execute", "replace")],
            ),
            ("settle", "takes what serves again off the record", &[]),
            ("concluded", "what came of it", &[]),
            ("tell", "journal, and NOTIFY=", &[]),
        ],
        complete: "",
        column: 0,
    },
    Part {
        title: "Replace one listener",
        file: "act/execute.rs",
        function: "replace",
        steps: &[
            ("pin", "a pidfd, then all facts once more", &[]),
            ("announce", "intent and rescue on record under /run", &[]),
            ("is_unchanged", "last look before the signal", &[]),
            ("terminate", "SIGTERM through the pidfd, then SIGKILL", &[]),
            ("start", "the declared units, through systemd", &[]),
            ("prove", "a client reaches authentication", &[]),
            ("rescue", "only if the unit did not start", &[]),
            ("forget", "off the record", &[]),
        ],
        complete: "",
        column: 0,
    },
    Part {
        title: "Examine and plan",
        file: "agent/assess.rs",
        function: "make",
        steps: &[
            ("probe_listeners", "new connections, up to KEXINIT", &[]),
            ("diagnose", "what the facts mean: findings", &[]),
            ("instances_to_try", "which programs have to be tried", &[]),
            ("try_all", "sshd -t, sshd -i, package, policy-rc.d", &[]),
            (
                "plan",
                "for each instance",
                &[("decide/plan.rs", "plan", "decide"), ("decide/plan.rs", "decide", "replacement")],
            ),
            ("judge_trials", "what the next start would do", &[]),
        ],
        complete: "",
        column: 1,
    },
    Part {
        title: "Replace, or refuse",
        file: "decide/replacement.rs",
        function: "replacement",
        steps: &[
            ("by_host", "shutting-down, not-to-be-run", &[]),
            ("by_start", "job-pending", &[]),
            ("by_listener", "being-debugged, addresses-not-covered", &[]),
            ("by_own_program", "unit-missing", &[]),
            ("by_per_connection", "unit-missing", &[]),
            ("by_units", "unit-missing, unit-masked, job-pending", &[]),
            ("by_dependents", "would-kill-sessions", &[]),
            ("by_policy", "policy-rc.d", &[]),
            ("by_control_group", "would-kill-sessions", &[]),
            ("by_deadline", "timed-out", &[]),
            ("by_program", "config-invalid, binary-unusable, …", &[]),
            ("by_sandbox", "settings-untried", &[]),
            ("by_coverage", "addresses-not-covered, foreign-listener", &[]),
        ],
        complete: "by_",
        column: 1,
    },
];

fn source(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The body of a function, without comments.
fn body(file: &str, function: &str) -> String {
    let source = source(file);
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let begin = code.find(&format!("fn {function}(")).or_else(|| code.find(&format!("fn {function}<")));
    let begin = begin.unwrap_or_else(|| panic!("src/{file} has no function {function}"));
    let open = begin + code[begin..].find(" {\n").expect("a body");
    let mut depth = 0;
    let end = code[open..].char_indices().find(|(_, character)| {
        depth += i32::from(*character == '{') - i32::from(*character == '}');
        *character == '}' && depth == 0
    });
    code[open..open + end.expect("its end").0].to_owned()
}

/// What it calls, in the order in which the calls end: that of an argument before that of the call. A function that is an argument
/// (`all(Target::is_unchanged)`) is called.
fn calls(body: &str) -> Vec<String> {
    let (mut open, mut ended): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut word, mut colons) = (String::new(), 0);
    for character in body.chars() {
        match character {
            '(' => open.push(std::mem::take(&mut word)),
            ')' => {
                ended.extend((colons == 2 && !word.is_empty()).then(|| word.clone()));
                ended.extend(open.pop().filter(|name| !name.is_empty()));
            }
            _ => {}
        }
        match character.is_alphanumeric() || character == '_' {
            true => word.push(character),
            false => {
                word.clear();
                colons = if character == ':' { colons + 1 } else { 0 };
            }
        }
    }
    ended
}

#[test]
fn every_step_is_a_call_in_its_function_in_this_order() {
    for part in BOXES {
        let calls = calls(&body(part.file, part.function));
        let mut rest = calls.as_slice();
        for (call, ..) in part.steps {
            let at = rest.iter().position(|name| name == call);
            let at = at.unwrap_or_else(|| panic!("{} calls no {call} after the step before: {rest:?}", part.function));
            rest = &rest[at + 1..];
        }
        let drawn = |name: &&String| !part.steps.iter().any(|(call, ..)| call == name);
        let missing: Vec<&String> = calls
            .iter()
            .filter(|name| !part.complete.is_empty() && name.starts_with(part.complete))
            .filter(drawn)
            .collect();
        assert!(missing.is_empty(), "{} has steps that are not drawn: {missing:?}", part.function);
    }
}

#[test]
fn every_arrow_is_a_way_through_the_code() {
    for (call, _, links) in BOXES.iter().flat_map(|part| part.steps) {
        for (file, function, called) in *links {
            let calls = calls(&body(file, function));
            assert!(calls.iter().any(|name| name == called), "{call}: {function} of {file} does not call {called}");
        }
        let last = links.last().map(|(.., called)| called);
        assert!(last.is_none_or(|last| BOXES.iter().any(|part| part.function == *last)), "{call} leads to no box");
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/sshd-mend-repair.service");
    let unit = std::fs::read_to_string(unit).expect("the unit");
    assert!(unit.contains(&format!("ExecStart=/usr/sbin/sshd-mend {}\n", sshd_mend::cli::CARRY_OUT)), "{unit}");
}

/// A refusal beside a guard is one that the guard can have.
#[test]
fn every_refusal_that_is_drawn_is_one_of_its_guard() {
    let part = BOXES.iter().find(|part| part.complete == "by_").expect("the guards");
    for (guard, said, _) in part.steps {
        let at = ["decide/refusals.rs", "decide/replacement.rs"];
        let file = at.into_iter().find(|file| source(file).contains(&format!("fn {guard}("))).expect("a guard");
        let body = body(file, guard);
        for code in said.split(", ").filter(|code| *code != "…") {
            // As a code, or from the function that is called so.
            let variant: String = code.split(['-', '.']).map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            let known = body.contains(&format!("RefusalCode::{variant}"))
                || body.contains(&format!("{}(", code.replace('-', "_")));
            assert!(known, "{guard} does not refuse with {code}");
        }
    }
}

const COLUMN: f64 = 450.0;
const GAP: f64 = 60.0;
const LINE: f64 = 19.0;
const HEAD: f64 = 44.0;

struct Placed<'a> {
    part: &'a Part,
    x: f64,
    y: f64,
}

impl Placed<'_> {
    fn height(&self) -> f64 {
        HEAD + LINE * self.part.steps.len() as f64 + 8.0
    }
}

fn picture() -> String {
    let mut free = [16.0; 2];
    let placed: Vec<Placed> = BOXES
        .iter()
        .map(|part| {
            let placed = Placed { part, x: 24.0 + part.column as f64 * (COLUMN + GAP), y: free[part.column] };
            free[part.column] += placed.height() + 24.0;
            placed
        })
        .collect();
    let (mut body, mut lanes) = (String::new(), 0.0);
    for from in &placed {
        let _ = writeln!(
            body,
            "<rect x=\"{}\" y=\"{}\" width=\"{COLUMN}\" height=\"{}\" rx=\"5\" class=\"part\"/>",
            from.x,
            from.y,
            from.height()
        );
        body += &text(from.x + 12.0, from.y + 20.0, "text name", "start", from.part.title);
        let place = format!("src/{}: {}", from.part.file, from.part.function);
        body += &text(from.x + 12.0, from.y + 36.0, "weak small", "start", &place);
        for (index, (call, said, links)) in from.part.steps.iter().enumerate() {
            let y = from.y + HEAD + LINE * (index as f64 + 0.7);
            body += &text(from.x + 12.0, y, "text small mono", "start", call);
            body += &text(from.x + 180.0, y, "text small", "start", said);
            let Some(to) = links.last().and_then(|link| placed.iter().find(|to| to.part.function == link.2)) else {
                continue;
            };
            lanes += 7.0;
            body += &arrow((from.x, y - 4.0), to, if to.x > from.x { lanes } else { -lanes });
        }
    }
    let style = ".part { fill: none; stroke: #59636e } .name { font-weight: bold } .small { font-size: 12px }
.arrow { fill: none; stroke: #0969da; stroke-width: 1.5 } .tip { fill: #0969da }
";
    document(48.0 + 2.0 * COLUMN + GAP, free[0].max(free[1]), "From what is observed to what is done", style, &body)
}

/// From a step to the heading of a box, in a lane of its own: to the right, or along the left edge downwards.
fn arrow((x, y): (f64, f64), to: &Placed, lane: f64) -> String {
    let (head, tip) = (to.y + 16.0, to.x);
    let from = match lane > 0.0 {
        true => x + COLUMN,
        false => x,
    };
    let turn = match (lane > 0.0, to.x > x) {
        (true, _) => from + 8.0 + lane,
        (false, _) => x - 4.0 + lane % 14.0,
    };
    let head = head + lane.abs() / 4.0;
    let mut drawn =
        format!("<path d=\"M{from:.1} {y:.1} H{turn:.1} V{head:.1} H{:.1}\" class=\"arrow\"/>\n", tip - 6.0);
    let _ = writeln!(drawn, "<path d=\"M{:.1} {:.1} l-8 -4 v8 z\" class=\"tip\"/>", tip, head);
    let _ = line;
    drawn
}

#[test]
fn the_picture_is_drawn_from_this_source() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-it-decides.svg");
    let picture = picture();
    if std::env::var_os("SSHD_MEND_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &picture).expect("a file");
    }
    assert!(std::fs::read_to_string(&path).is_ok_and(|kept| kept == picture), "SSHD_MEND_BLESS=1 draws it anew");
}
