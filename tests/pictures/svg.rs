//! Pictures as text: light and dark by the reader's preference, on a background of their own, with nothing that is not in the file.

/// The colours, by class. What stands on a bar is white in both.
const STYLE: &str = "\
svg { font-family: sans-serif; font-size: 13px }
.back { fill: #ffffff; stroke: #d0d7de } .text { fill: #1f2328 } .weak { fill: #59636e } .title { font-size: 16px; fill: #1f2328 }
.good { fill: #1a7f37 } .bad { fill: #cf222e } .on { fill: #ffffff } .mark { stroke: #1f2328 } .grid { stroke: #d0d7de }
.mono { font-family: monospace; font-size: 12px; white-space: pre }
@media (prefers-color-scheme: dark) {
.back { fill: #0d1117; stroke: #3d444d } .text, .title { fill: #f0f6fc } .weak { fill: #9198a1 }
.good { fill: #238636 } .bad { fill: #da3633 } .mark { stroke: #f0f6fc } .grid { stroke: #3d444d }
}";

/// The whole picture. `style`: what it has beside the common classes.
pub fn document(width: f64, height: f64, title: &str, style: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{}</title>\n\
         <style>\n{STYLE}\n{style}</style>\n<rect class=\"back\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\"/>\n{body}</svg>\n",
        escaped(title),
        width - 1.0,
        height - 1.0
    )
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A line of text. `anchor`: start, middle or end.
pub fn text(x: f64, y: f64, class: &str, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{}</text>\n", escaped(text))
}

pub fn bar(x: f64, y: f64, width: f64, height: f64, class: &str) -> String {
    format!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\"/>\n")
}

pub fn line(from: (f64, f64), to: (f64, f64), class: &str) -> String {
    format!(
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>\n",
        from.0, from.1, to.0, to.1
    )
}
