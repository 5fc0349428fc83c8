//! The costs as a picture: milliseconds over processes, both on logarithmic scales.

use super::cost::{COMMANDS, Costs};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 8] = ["#888888", "#1b9e77", "#d62728", "#e7298a", "#7570b3", "#66a61e", "#a6761d", "#1f78b4"];

/// As SVG, with a title and without anything that is not in the file.
pub fn svg(costs: &Costs) -> String {
    let mut sizes: Vec<u32> = costs.keys().filter_map(|size| size.parse().ok()).collect();
    sizes.sort_unstable();
    let points = |name: &str| -> Vec<(f64, f64)> {
        let of = |size: &u32| Some((f64::from(*size), costs.get(&size.to_string())?.get(name)?.milliseconds.median));
        sizes.iter().filter_map(of).collect()
    };
    let all: Vec<f64> = COMMANDS.iter().flat_map(|(name, _)| points(name)).map(|point| point.1).collect();
    let low = all.iter().copied().fold(f64::INFINITY, f64::min).log10().floor();
    let high = all.iter().copied().fold(0.0, f64::max).log10().ceil();
    let (first, last) = (f64::from(sizes[0]).log10(), f64::from(sizes[sizes.len() - 1]).log10());
    let x = |size: f64| LEFT + (size.log10() - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| HEIGHT - BOTTOM - (ms.log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"16\">Whole process, milliseconds (median), by the number of processes</text>\n"
    );
    for exponent in (low as i32)..=(high as i32) {
        let value = 10_f64.powi(exponent);
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#dddddd\"/><text x=\"{1}\" y=\"{3:.1}\" text-anchor=\"end\">{value}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(value),
            y(value) + 4.0
        );
    }
    for size in &sizes {
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{size}</text>",
            x(f64::from(*size)),
            HEIGHT - BOTTOM + 22.0
        );
    }
    // Names beside the last points, and not on top of each other.
    let mut ends: Vec<(f64, &str, &str)> = Vec::new();
    for ((name, _), colour) in COMMANDS.iter().zip(COLOURS) {
        let points = points(name);
        let Some(end) = points.last() else { continue };
        let path: Vec<String> = points.iter().map(|(size, ms)| format!("{:.1},{:.1}", x(*size), y(*ms))).collect();
        let width = if *name == "sshd-mend hook" { 3.5 } else { 1.8 };
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            path.join(" ")
        );
        ends.push((y(end.1), name, colour));
    }
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = 0.0_f64;
    for (at, name, colour) in ends {
        let at = at.max(free);
        free = at + 16.0;
        let _ =
            writeln!(text, "<text x=\"{}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>", WIDTH - RIGHT + 8.0, at + 4.0);
    }
    text + "</svg>\n"
}
