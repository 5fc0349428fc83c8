//! tests/demo as it ran: what it printed, and when.

use super::svg::{document, escaped};
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A line that was printed, and how long after the first.
pub type Line = (Duration, String);

const COLUMNS: usize = 118;
const COLUMN_PX: f64 = 7.25;
const LINE_PX: f64 = 16.0;
const MARGIN_PX: f64 = 16.0;
/// Whoever watches waits no longer between two lines.
const PAUSE_MAX: Duration = Duration::from_millis(1500);

pub fn recorded() -> Vec<Line> {
    let mut demo = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/demo starts");
    let mut begun = None;
    let out = BufReader::new(demo.stdout.take().expect("a pipe"));
    let lines: Vec<Line> =
        out.lines().map(|line| (begun.get_or_insert_with(Instant::now).elapsed(), line.expect("text"))).collect();
    assert!(demo.wait().expect("it ends").success(), "{lines:#?}");
    lines
}

/// The line in pieces that fit, the later ones below its text.
fn wrapped(line: &str) -> Vec<String> {
    let indent = match line {
        said if said.starts_with('[') => 8,
        hook if hook.starts_with("sshd-mend: ") => 24,
        _ => 13,
    };
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    for word in line.split_inclusive(' ') {
        if !piece.trim().is_empty() && piece.chars().count() + word.trim_end().chars().count() > COLUMNS {
            pieces.push(std::mem::replace(&mut piece, " ".repeat(indent)));
        }
        piece += word;
    }
    pieces.push(piece);
    pieces
}

/// Each line appears at its time; where pictures do not move, all are there at once.
pub fn svg(lines: &[Line]) -> String {
    let (mut body, mut y) = (String::new(), MARGIN_PX + 12.0);
    let (mut shown_at, mut before) = (Duration::ZERO, Duration::ZERO);
    for (at, line) in lines.iter().skip_while(|(_, line)| line.is_empty()) {
        shown_at += at.saturating_sub(before).min(PAUSE_MAX);
        before = *at;
        let class = if line.starts_with('[') { "mono said" } else { "mono out" };
        for piece in wrapped(line) {
            let delay = shown_at.as_secs_f64();
            let _ = writeln!(
                body,
                "<text x=\"{MARGIN_PX}\" y=\"{y:.0}\" class=\"{class}\" style=\"animation-delay:{delay:.2}s\" xml:space=\"preserve\">{}</text>",
                escaped(piece.trim_end())
            );
            y += LINE_PX;
        }
    }
    let style = ".back { fill: #0d1117 !important } .out { fill: #d1d7e0 } .said { fill: #79c0ff }
@media (prefers-reduced-motion: no-preference) { .mono { animation: hidden 1ms backwards } }
@keyframes hidden { from { opacity: 0 } to { opacity: 0 } }
";
    let width = 2.0 * MARGIN_PX + COLUMN_PX * COLUMNS as f64;
    document(width, y, "tests/demo: the incident, and its repair by apt's hook", style, &body)
}
