//! The text of unit files, as systemd reads it, and when a file was changed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The files of a unit, in systemd's order, as far as they can be read. systemd ignores a line that is not UTF-8, such as a
/// comment of older times, and reads on (parse_line in conf-parser.c).
pub(super) fn texts(files: &[PathBuf]) -> Vec<String> {
    files.iter().filter_map(|file| std::fs::read(file).ok()).map(|bytes| settings(&bytes)).collect()
}

/// A line that ends with a backslash goes on in the next one that is no comment (systemd.syntax(7)).
pub(super) fn settings(file: &[u8]) -> String {
    let lines = file.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let lines: Vec<&str> = lines.filter(|line| !line.trim_start().starts_with(['#', ';'])).collect();
    lines.join("\n").replace("\\\n", " ")
}

/// When a file, or what is at its place, was changed last. Whoever unpacks or moves an older file sets its time of
/// modification; nobody sets the time of change (inode(7)).
pub(super) fn last_change(path: &Path) -> Option<SystemTime> {
    let facts = std::fs::metadata(path).ok()?;
    let changed = Duration::new(u64::try_from(facts.ctime()).ok()?, u32::try_from(facts.ctime_nsec()).ok()?);
    Some(SystemTime::UNIX_EPOCH + changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_past_comments_and_not_from_one() {
        assert_eq!(settings(b"# ends so \\\nA=1 \\\n; between\n  2\nB=\xff\nC=3"), "A=1    2\nC=3");
    }
}
