//! Rust source as far as the layout needs it: which paths a file names, which methods it calls and which it defines for
//! types of other files. No unit tests: what is under `#[cfg(test)]` is left out.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// A file of `src/`.
#[derive(Debug)]
pub struct Source {
    /// Below `src/`: `host/systemd/bus.rs`.
    pub file: String,
    pub lines: usize,
    /// Its first line is `//! …`.
    pub has_heading: bool,
    /// `crate`, `crate::host::systemd::bus`.
    pub module: String,
    /// Paths that it names, absolute where they lead into this crate, each with its line.
    pub paths: Vec<(String, usize)>,
    /// Methods that it calls, each with its line.
    pub calls: Vec<(String, usize)>,
    /// Methods that it defines for types (absolute paths) that it has imported.
    pub methods: Vec<(String, String)>,
}

impl Source {
    /// Reads one file.
    pub fn read(file: &str, text: &str) -> Self {
        let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
        let module = match stem {
            "lib" | "main" => "crate".to_owned(),
            stem => format!("crate::{}", stem.replace('/', "::")),
        };
        let tokens = without_tests(&tokens(text));
        let mut source = Self {
            file: file.to_owned(),
            lines: text.lines().count(),
            has_heading: text.lines().next().is_some_and(|line| line.starts_with("//! ")),
            module,
            paths: Vec::new(),
            calls: Vec::new(),
            methods: Vec::new(),
        };
        source.examine(&tokens);
        source
    }

    /// The folder below `src/`, or the file's own name without suffix if it is in none.
    pub fn folder(&self) -> &str {
        self.file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    fn examine(&mut self, tokens: &[(Token, usize)]) {
        let mut imports = BTreeMap::new();
        for name in declared_modules(tokens) {
            imports.insert(name.clone(), format!("{}::{name}", self.module));
        }
        // Twice, because an import may begin with what another one brings in.
        for _ in 0..2 {
            let mut at = 0;
            while at < tokens.len() {
                if word(tokens, at) == Some("use") {
                    at += 1;
                    for (path, name, _) in use_tree(tokens, &mut at) {
                        let path = self.absolute(&path, &imports);
                        imports.insert(name, path);
                    }
                }
                at += 1;
            }
        }
        let mut at = 0;
        while at < tokens.len() {
            let line = tokens[at].1;
            let sign = |at: usize, sign: char| tokens.get(at).is_some_and(|(token, _)| *token == Token::Sign(sign));
            let after_dot = at > 1 && sign(at - 1, '.') && !sign(at - 2, '.');
            let is_called = sign(at + 1, '(') || sign(at + 1, ':');
            match &tokens[at].0 {
                Token::Word(word) if word == "use" => {
                    at += 1;
                    for (path, _, line) in use_tree(tokens, &mut at) {
                        self.paths.push((self.absolute(&path, &imports), line));
                    }
                }
                Token::Word(word) if word == "impl" => self.inherent_methods(tokens, at, &imports),
                Token::Word(word) if after_dot && is_called => self.calls.push((word.clone(), line)),
                Token::Word(_) if after_dot => {}
                Token::Word(_) => {
                    let path = path_at(tokens, &mut at);
                    if path.len() > 1 {
                        self.paths.push((self.absolute(&path, &imports), line));
                    }
                }
                // #[serde(with = "super::json::rfc3339")]
                Token::Text(text) if at > 1 && word(tokens, at - 2) == Some("with") => {
                    let path: Vec<String> = text.split("::").map(str::to_owned).collect();
                    self.paths.push((self.absolute(&path, &imports), line));
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Methods in `impl Type { … }`, if the type is another file's.
    fn inherent_methods(&mut self, tokens: &[(Token, usize)], at: usize, imports: &BTreeMap<String, String>) {
        let Some(length) = tokens[at..].iter().position(|(token, _)| *token == Token::Sign('{')) else { return };
        let head = &tokens[at + 1..at + length];
        if head.iter().any(|(token, _)| *token == Token::Word("for".to_owned())) {
            return;
        }
        let mut angle = 0_i32;
        let name = head.iter().find_map(|(token, _)| match token {
            Token::Sign('<') => {
                angle += 1;
                None
            }
            Token::Sign('>') => {
                angle -= 1;
                None
            }
            Token::Word(word) if angle == 0 => Some(word.clone()),
            _ => None,
        });
        let Some(name) = name.and_then(|name| imports.get(&name)) else { return };
        let mut depth = 0;
        for (index, (token, _)) in tokens[at + length..].iter().enumerate() {
            match token {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth -= 1,
                Token::Word(word) if word == "fn" && depth == 1 => {
                    if let Some(method) = self::word(tokens, at + length + index + 1) {
                        self.methods.push((name.clone(), method.to_owned()));
                    }
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }

    /// A path from the root of its crate.
    fn absolute(&self, path: &[String], imports: &BTreeMap<String, String>) -> String {
        let mut module: Vec<&str> = self.module.split("::").collect();
        let mut rest = path.iter().map(String::as_str).peekable();
        let first = rest.next().unwrap_or_default();
        match first {
            "crate" | "sshd_mend" => module.truncate(1),
            "self" => {}
            "super" => {
                module.pop();
                while rest.next_if_eq(&"super").is_some() {
                    module.pop();
                }
            }
            name => match imports.get(name) {
                Some(known) if *known != path.join("::") => module = known.split("::").collect(),
                _ => module = vec![name],
            },
        }
        module.extend(rest);
        module.join("::")
    }
}

/// The paths of a `use`, each with the name that it brings in, and its line.
fn use_tree(tokens: &[(Token, usize)], at: &mut usize) -> Vec<(Vec<String>, String, usize)> {
    fn tree(
        tokens: &[(Token, usize)],
        at: &mut usize,
        before: &[String],
        found: &mut Vec<(Vec<String>, String, usize)>,
    ) {
        let mut path = before.to_vec();
        let mut name = None;
        let mut line = tokens.get(*at).map_or(0, |(_, line)| *line);
        while let Some((token, here)) = tokens.get(*at) {
            match token {
                Token::Word(word) if word == "as" => {
                    *at += 1;
                    name = self::word(tokens, *at).map(str::to_owned);
                }
                Token::Word(word) => {
                    line = *here;
                    path.push(word.clone());
                }
                Token::Sign('{') => {
                    *at += 1;
                    while tokens.get(*at).is_some_and(|(token, _)| *token != Token::Sign('}')) {
                        tree(tokens, at, &path, found);
                        if tokens.get(*at).is_some_and(|(token, _)| *token == Token::Sign(',')) {
                            *at += 1;
                        }
                    }
                    *at += 1;
                    return;
                }
                Token::Sign(',' | ';' | '}') => break,
                _ => {}
            }
            *at += 1;
        }
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        found.push((path, name, line));
    }
    let mut found = Vec::new();
    tree(tokens, at, &[], &mut found);
    found
}

/// `a::b::c`, ending at its last word.
fn path_at(tokens: &[(Token, usize)], at: &mut usize) -> Vec<String> {
    let mut path: Vec<String> = word(tokens, *at).into_iter().map(str::to_owned).collect();
    let colons = |at: usize| (0..2).all(|i| tokens.get(at + i).is_some_and(|(token, _)| *token == Token::Sign(':')));
    while colons(*at + 1) {
        let Some(next) = word(tokens, *at + 3) else { break };
        path.push(next.to_owned());
        *at += 3;
    }
    path
}

fn word(tokens: &[(Token, usize)], at: usize) -> Option<&str> {
    match &tokens.get(at)?.0 {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

/// `mod name;`
fn declared_modules(tokens: &[(Token, usize)]) -> Vec<String> {
    let declared = |at: usize| tokens.get(at + 2).is_some_and(|(token, _)| *token == Token::Sign(';'));
    let here = (0..tokens.len()).filter(|at| word(tokens, *at) == Some("mod") && declared(*at));
    here.filter_map(|at| word(tokens, at + 1)).map(str::to_owned).collect()
}

/// Leaves out what follows `#[cfg(test)]`, up to its end.
fn without_tests(tokens: &[(Token, usize)]) -> Vec<(Token, usize)> {
    let mark: Vec<Token> = self::tokens("#[cfg(test)]").into_iter().map(|(token, _)| token).collect();
    let marked = |at: usize| tokens[at..].iter().map(|(token, _)| token).take(mark.len()).eq(&mark);
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !marked(at) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += mark.len();
        let mut depth = 0;
        while at < tokens.len() {
            match tokens[at].0 {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth -= 1,
                _ => {}
            }
            let ends = depth == 0 && matches!(tokens[at].0, Token::Sign('}' | ';'));
            at += 1;
            if ends {
                break;
            }
        }
    }
    kept
}

/// Words, texts and signs with their lines; comments are left out.
pub fn tokens(text: &str) -> Vec<(Token, usize)> {
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut line) = (0, 1);
    let mut found = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let ahead = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let begun = at;
        let token = match chars[at] {
            '/' if ahead(at + 1) == '/' => {
                at = (at..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len());
                None
            }
            '/' if ahead(at + 1) == '*' => {
                let end = (at + 2..chars.len()).find(|at| chars[*at] == '*' && ahead(at + 1) == '/');
                at = end.map_or(chars.len(), |end| end + 2);
                None
            }
            // r"…", r#"…"#, br"…"
            'r' | 'b' if raw_start(&chars[at..]).is_some() => {
                let (start, hashes) = raw_start(&chars[at..]).unwrap_or_default();
                let closing: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let content: String = chars[at + start..].iter().collect();
                let content = content.split(&closing).next().unwrap_or_default().to_owned();
                at += start + content.chars().count() + closing.chars().count();
                Some(Token::Text(content))
            }
            '"' => {
                at += 1;
                let start = at;
                while at < chars.len() && chars[at] != '"' {
                    at += if chars[at] == '\\' { 2 } else { 1 };
                }
                at += 1;
                Some(Token::Text(chars[start..(at - 1).min(chars.len())].iter().collect()))
            }
            // A character, or a lifetime.
            '\'' if ahead(at + 1) == '\\' || ahead(at + 2) == '\'' => {
                at += if ahead(at + 1) == '\\' { 3 } else { 2 };
                at = (at..chars.len()).find(|at| chars[*at] == '\'').unwrap_or(chars.len()) + 1;
                None
            }
            '\'' => {
                at += 1;
                while at < chars.len() && is_word(chars[at]) {
                    at += 1;
                }
                None
            }
            c if is_word(c) => {
                while at < chars.len() && is_word(chars[at]) {
                    at += 1;
                }
                Some(Token::Word(chars[begun..at].iter().collect()))
            }
            c => {
                at += 1;
                (!c.is_whitespace()).then_some(Token::Sign(c))
            }
        };
        found.extend(token.map(|token| (token, line)));
        line += chars[begun..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// Where the content of a raw text begins, and how many `#` end it.
fn raw_start(chars: &[char]) -> Option<(usize, usize)> {
    let letters = chars.iter().take_while(|c| matches!(c, 'b' | 'r')).count();
    let hashes = chars[letters..].iter().take_while(|c| **c == '#').count();
    let raw = letters <= 2 && chars[..letters].contains(&'r') && chars.get(letters + hashes) == Some(&'"');
    raw.then_some((letters + hashes + 1, hashes))
}
