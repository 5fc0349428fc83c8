//! The options that a unit gives sshd, as systemd would pass them: with `$VARIABLES` of its environment put in.

use std::path::PathBuf;

use crate::model::unit::Unit;
use crate::model::words::words;

/// Flags of sshd that take a value, and flags that choose how it runs: in the foreground, with debugging output, for one
/// connection, as a test, and where it logs (sshd.c, `getopt`).
const WITH_VALUE: &str = "CEbcfghkopu";
const MODE: &str = "DdeitTGqrRE";

/// The arguments that a unit gives sshd, less those that choose how it runs.
pub fn options(service: &Unit) -> Vec<String> {
    without_mode(&arguments(service))
}

fn arguments(service: &Unit) -> Vec<String> {
    let Some(exec) = service.sshd() else { return Vec::new() };
    let mut environment: Vec<(String, String)> =
        service.environment.iter().filter_map(|line| line.split_once('=')).map(owned).collect();
    for file in &service.environment_files {
        if let Ok(bytes) = std::fs::read(file) {
            // A backslash at the end of a line continues it.
            let text = String::from_utf8_lossy(&bytes).replace("\\\n", "");
            environment.extend(text.lines().filter(|line| !line.contains('\u{fffd}')).filter_map(assignment));
        }
    }
    expand(&exec.arguments, &environment)
}

/// The file that sshd logs to (`-E`), which the trial does not open: the last one counts.
pub fn log_file(service: &Unit) -> Option<PathBuf> {
    let arguments = arguments(service);
    let mut arguments = arguments.iter();
    let mut file = None;
    while let Some(argument) = arguments.next() {
        let Some(flags) = argument.strip_prefix('-') else { continue };
        let Some(value_at) = flags.find(|flag| WITH_VALUE.contains(flag)) else { continue };
        let (flag, value) = flags[value_at..].split_at(1);
        let value = if value.is_empty() { arguments.next().map(String::as_str) } else { Some(value) };
        if flag == "E" {
            file = value.map(PathBuf::from);
        }
    }
    file
}

/// A flag with which sshd tests something, or serves one connection, and ends (sshd(8)). `-i` is right where systemd has
/// accepted the connection.
pub fn other_mode(service: &Unit, is_per_connection: bool) -> Option<char> {
    let others = if is_per_connection { "tTGV" } else { "tTGVdi" };
    let arguments = arguments(service);
    let mut arguments = arguments.iter();
    while let Some(flags) = arguments.next() {
        let Some(flags) = flags.strip_prefix('-') else { continue };
        let value_at = flags.find(|flag| WITH_VALUE.contains(flag)).unwrap_or(flags.len());
        if let Some(flag) = flags[..value_at].chars().find(|flag| others.contains(*flag)) {
            return Some(flag);
        }
        // The value of the last flag is the next argument.
        if value_at + 1 == flags.len() {
            arguments.next();
        }
    }
    None
}

/// Everything that decides the options can be read. A pattern in `EnvironmentFile=` is systemd's to expand (glob(7)).
pub fn are_known(service: &Unit) -> bool {
    service.environment_files.iter().all(|file| match std::fs::read(file) {
        Ok(_) => true,
        Err(error) => {
            let is_pattern = file.to_string_lossy().contains(['*', '?', '[']);
            error.kind() == std::io::ErrorKind::NotFound && !is_pattern
        }
    })
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// The arguments without the flags of [`MODE`], which may be joined: `-De`.
fn without_mode(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(flags) = argument.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            kept.push(argument.clone());
            continue;
        };
        let value_at = flags.find(|flag| WITH_VALUE.contains(flag)).unwrap_or(flags.len());
        let (modes, with_value) = flags.split_at(value_at);
        let others: String = modes.chars().filter(|flag| !MODE.contains(*flag)).collect();
        // Its value is the next argument.
        let value = if with_value.chars().count() == 1 { arguments.next() } else { None };
        let is_kept = !with_value.starts_with(|flag| MODE.contains(flag));
        let with_value = if is_kept { with_value } else { "" };
        if !others.is_empty() || !with_value.is_empty() {
            kept.push(format!("-{others}{with_value}"));
        }
        kept.extend(value.filter(|_| is_kept).cloned());
    }
    kept
}

/// `$NAME` as a word of its own becomes its value's words, `${NAME}` its value, `$$` a dollar sign (systemd.service(5),
/// "Command lines"). Values are put in once: what looks like a variable in a value is none.
pub fn expand(arguments: &[String], environment: &[(String, String)]) -> Vec<String> {
    let value =
        |name: &str| environment.iter().rev().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let mut expanded = Vec::new();
    for argument in arguments {
        if let Some(name) = argument.strip_prefix('$').filter(|name| is_name(name)) {
            expanded.extend(words(value(name)));
            continue;
        }
        let mut text = String::new();
        let mut rest = argument.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let braced = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            rest = if let Some((name, behind)) = braced.filter(|(name, _)| is_name(name)) {
                text.push_str(value(name));
                behind
            } else {
                text.push('$');
                after.strip_prefix('$').unwrap_or(after)
            };
        }
        text.push_str(rest);
        expanded.push(text);
    }
    expanded
}

/// `NAME=value` as in systemd.exec(5), `EnvironmentFile=`: quotes are removed, and a backslash is where it escapes
/// something (parse_env_file_internal in systemd's env-file.c).
pub fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (key, text) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
    let mut value = String::new();
    let mut quote = None;
    let mut characters = text.trim().chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', Some('"')) => match characters.next() {
                Some(escaped @ ('"' | '\\' | '`' | '$')) => value.push(escaped),
                other => value.extend(Some('\\').into_iter().chain(other)),
            },
            ('\\', None) => value.extend(characters.next()),
            ('"' | '\'', None) => quote = Some(c),
            (c, _) => value.push(c),
        }
    }
    Some((key.trim().to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_choose_how_sshd_runs_are_left_out() {
        let kept = |line: &str| without_mode(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).join(" ");
        assert_eq!(kept("-D -p 22"), "-p 22");
        assert_eq!(kept("-De -4 -f /etc/x -o -D"), "-4 -f /etc/x -o -D");
        assert_eq!(kept("-D4p2222 -oPort=1"), "-4p2222 -oPort=1");
        assert_eq!(kept("-D -E /var/log/sshd -4 -E/var/log/sshd -4E x -o E"), "-4 -4 -o E");
    }

    #[test]
    fn options_of_the_service_are_those_that_systemd_would_pass() {
        let arguments = ["-D", "$SSHD_OPTS", "-f", "${FILE}", "$"].map(str::to_owned);
        let environment = ["SSHD_OPTS='-p 2222 -o X=y'", "FILE=/etc/x", "# SSHD_OPTS=no"].map(assignment);
        let environment: Vec<_> = environment.into_iter().flatten().collect();
        assert_eq!(expand(&arguments, &environment), ["-D", "-p", "2222", "-o", "X=y", "-f", "/etc/x", "$"]);
        assert_eq!(expand(&["$MISSING".to_owned()], &environment), Vec::<String>::new());
        let escaped = assignment(r#"OPTS="-p \"2222\" -f \\x \y" "#).map(|(_, value)| value);
        assert_eq!(escaped.as_deref(), Some(r#"-p "2222" -f \x \y"#));
        let quoted = [("OPTS".to_owned(), "-o 'Port 22' -o \"Banner none\"".to_owned())];
        assert_eq!(expand(&["$OPTS".to_owned()], &quoted), ["-o", "Port 22", "-o", "Banner none"]);
        let nested = [("A".to_owned(), "${A}${A}".to_owned())];
        assert_eq!(expand(&["x${A}y$$z$".to_owned()], &nested), ["x${A}${A}y$z$"]);
    }
}
