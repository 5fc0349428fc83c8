//! What strangers said, made safe to print: names of files, banners, messages of other programs.
//!
//! It lets nothing through that a terminal would interpret, and nothing that looks like something else.

/// The same in visible ASCII; whatever else there is, is escaped as Rust writes it (`\n`, `\u{1b}`).
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => safe.push(c),
            _ => safe.extend(c.escape_default()),
        }
    }
    safe
}

/// As [`printable`], of bytes that need not be text.
pub fn printable_bytes(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_interpret_gets_through() {
        assert_eq!(printable("/usr/sbin/sshd (deleted)"), "/usr/sbin/sshd (deleted)");
        assert_eq!(printable("a\x1b[2J\r\nb\u{202e}"), "a\\u{1b}[2J\\r\\nb\\u{202e}");
        assert_eq!(printable_bytes(b"\xff\x00"), "\\u{fffd}\\u{0}");
    }
}
