//! The options that a unit gives sshd, as systemd would pass them: with `$VARIABLES` of its environment put in.

use crate::snapshot::Unit;

/// The arguments that ssh.service gives sshd, less those that choose how it runs.
#[must_use]
pub fn options(service: &Unit) -> Vec<String> {
    let Some(exec) = service.server() else { return Vec::new() };
    let mut environment: Vec<(String, String)> =
        service.environment.iter().filter_map(|line| assignment(line)).collect();
    for file in &service.environment_files {
        if let Ok(text) = std::fs::read_to_string(file) {
            environment.extend(text.lines().filter_map(assignment));
        }
    }
    expand(&exec.arguments, &environment)
        .into_iter()
        .filter(|option| !matches!(option.as_str(), "-D" | "-e" | "-d"))
        .collect()
}

/// `$NAME` as a word of its own becomes its value's words, `${NAME}` its value, `$$` a dollar sign (systemd.service(5),
/// "Command lines"). Values are put in once: what looks like a variable in a value is none.
#[must_use]
pub fn expand(arguments: &[String], environment: &[(String, String)]) -> Vec<String> {
    let value =
        |name: &str| environment.iter().rev().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let mut expanded = Vec::new();
    for argument in arguments {
        if let Some(name) = argument.strip_prefix('$').filter(|name| is_name(name)) {
            expanded.extend(value(name).split_whitespace().map(str::to_owned));
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

/// `NAME=value`, the value perhaps in quotes, as in systemd.exec(5), `EnvironmentFile=`.
#[must_use]
pub fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
    let value = value.trim();
    let unquoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((key.trim().to_owned(), unquoted.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_service_are_those_that_systemd_would_pass() {
        let arguments = ["-D", "$SSHD_OPTS", "-f", "${FILE}", "$"].map(str::to_owned);
        let environment = ["SSHD_OPTS='-p 2222 -o X=y'", "FILE=/etc/x", "# SSHD_OPTS=no"].map(assignment);
        let environment: Vec<_> = environment.into_iter().flatten().collect();
        assert_eq!(expand(&arguments, &environment), ["-D", "-p", "2222", "-o", "X=y", "-f", "/etc/x", "$"]);
        assert_eq!(expand(&["$MISSING".to_owned()], &environment), Vec::<String>::new());
        let nested = [("A".to_owned(), "${A}${A}".to_owned())];
        assert_eq!(expand(&["x${A}y$$z$".to_owned()], &nested), ["x${A}${A}y$z$"]);
    }
}
