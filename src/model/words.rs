//! A line split into words, as systemd does it.

/// Words are separated by whitespace; quotes hold words together and are removed, and a backslash takes its meaning from
/// the next character (extract_first_word in systemd's extract-word.c, `EXTRACT_UNQUOTE | EXTRACT_RELAX`).
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(words("-o 'Port 22'  -f \"/a b\"'c' \\$x ''"), ["-o", "Port 22", "-f", "/a bc", "$x", ""]);
        assert_eq!(words(" \t "), Vec::<String>::new());
        assert_eq!(words("'open"), ["open"]);
    }
}
