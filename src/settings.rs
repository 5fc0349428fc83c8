//! `/etc/default/sshd-mend`: five keys, read as data and never run.
//!
//! Read only if root owns it and nobody else can write it. A mistake in it is an error that names the line; the hook
//! then reports and changes nothing.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::printable::printable;

/// Where the settings are.
pub const PATH: &str = "/etc/default/sshd-mend";
/// More than that is no settings file.
const LIMIT: u64 = 64 * 1024;

/// What an administrator can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `HOOK=`
    pub hook: Hook,
    /// `GRACE=`: between SIGTERM and SIGKILL, at most `DEADLINE=`.
    pub grace: Duration,
    /// `DEADLINE=`: for a whole run.
    pub deadline: Duration,
    /// `METRICS=`: what a run outside of package runs writes.
    pub metrics: Option<PathBuf>,
    /// `NOTIFY=`: the program that is told what came of a run.
    pub notify: Option<PathBuf>,
}

/// What the hook does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Mend what is broken.
    Repair,
    /// Report it.
    Report,
    /// Nothing.
    Off,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hook: Hook::Repair,
            grace: Duration::from_secs(5),
            deadline: Duration::from_secs(90),
            metrics: None,
            notify: None,
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug)]
pub enum Error {
    /// Somebody else than root could have written them.
    NotRootsOwn,
    /// They could not be read.
    Unreadable(std::io::Error),
    /// A line is no setting: its number, and what is wrong with it.
    Line(usize, String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRootsOwn => write!(
                f,
                "{PATH} is not used: it must be a file that root owns and nobody else can write. Run: chown root:root {PATH}; chmod 644 {PATH}"
            ),
            Self::Unreadable(error) => write!(f, "{PATH} could not be read: {error}"),
            Self::Line(number, what) => write!(f, "{PATH}, line {number}: {what}. Correct or remove the line"),
        }
    }
}

impl std::error::Error for Error {}

/// SSHD_MEND_SUSPEND has this value in the environment of a package run: whatever is not empty and not 0 suspends it, for
/// nobody sets it to `no` or to a mistake in order to have something done.
pub fn is_suspended(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0")
}

/// Reads the settings. A file that is not there means the defaults.
///
/// # Errors
/// The file cannot be trusted, read or understood.
pub fn read(path: &Path) -> Result<Settings, Error> {
    let file = match rustix::fs::open(
        path,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    ) {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(Settings::default()),
        Err(error) => return Err(Error::Unreadable(error.into())),
    };
    let facts = file.metadata().map_err(Error::Unreadable)?;
    if !facts.is_file() || facts.uid() != 0 || facts.mode() & 0o022 != 0 {
        return Err(Error::NotRootsOwn);
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).map_err(Error::Unreadable)?;
    parse(&String::from_utf8_lossy(&bytes))
}

/// Reads the text of the settings.
///
/// # Errors
/// Names the line that is no setting.
pub fn parse(text: &str) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: String| Err(Error::Line(index + 1, what));
        let Some((key, value)) = line.split_once('=') else { return wrong("there is no \"=\" in it".to_owned()) };
        let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        let value = unquoted.unwrap_or(value);
        let seconds =
            || value.parse::<u32>().ok().filter(|s| (1..=600).contains(s)).map(|s| Duration::from_secs(s.into()));
        match (key, value) {
            ("HOOK", "repair") => settings.hook = Hook::Repair,
            ("HOOK", "report") => settings.hook = Hook::Report,
            ("HOOK", "off") => settings.hook = Hook::Off,
            ("HOOK", other) => {
                return wrong(format!("HOOK is repair, report or off, not \"{}\"", printable(other)));
            }
            ("GRACE" | "DEADLINE", other) => match (seconds(), key) {
                (Some(seconds), "GRACE") => settings.grace = seconds,
                (Some(seconds), _) => settings.deadline = seconds,
                (None, _) => {
                    return wrong(format!("{key} is a number of seconds from 1 to 600, not \"{}\"", printable(other)));
                }
            },
            ("METRICS", path) if path.starts_with('/') => settings.metrics = Some(PathBuf::from(path)),
            ("NOTIFY", path) if path.starts_with('/') => settings.notify = Some(PathBuf::from(path)),
            ("METRICS" | "NOTIFY", other) => {
                return wrong(format!("{key} is the absolute path of a file, not \"{}\"", printable(other)));
            }
            (other, _) => return wrong(format!("\"{}\" is not a setting", printable(other))),
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let settings =
            parse("# x\n\nHOOK=report\nGRACE=7\nDEADLINE=30\nMETRICS=/x.prom\nNOTIFY=/y\n").expect("valid settings");
        let (grace, deadline) = (Duration::from_secs(7), Duration::from_secs(30));
        let (metrics, notify) = (Some(PathBuf::from("/x.prom")), Some(PathBuf::from("/y")));
        assert_eq!(settings, Settings { hook: Hook::Report, grace, deadline, metrics, notify });
        assert_eq!(parse("").expect("valid settings"), Settings::default());
        assert_eq!(parse("HOOK=\"off\"\nGRACE='5'\n").expect("valid settings").hook, Hook::Off);
    }

    #[test]
    fn one_pair_of_quotes_is_removed() {
        for quote in ["\"", "'"] {
            let text = format!("HOOK={quote}report{quote}\nGRACE={quote}7{quote}\nDEADLINE={quote}30{quote}\n");
            let (grace, deadline) = (Duration::from_secs(7), Duration::from_secs(30));
            let settings = Settings { hook: Hook::Report, grace, deadline, metrics: None, notify: None };
            assert_eq!(parse(&text).expect(&text), settings);
        }
        for text in ["HOOK=\"off'", "HOOK=off\"", "HOOK=\"", "HOOK=\"\"off\"\"", "HOOK=\"\""] {
            parse(text).expect_err(text);
        }
    }

    #[test]
    fn any_value_suspends_but_none_and_zero() {
        for (value, suspends) in
            [("1", true), ("yes", true), ("no", true), ("00", true), (" ", true), ("", false), ("0", false)]
        {
            assert_eq!(is_suspended(Some(OsStr::new(value))), suspends, "{value:?}");
        }
        assert!(!is_suspended(None));
    }

    #[test]
    fn a_mistake_names_its_line() {
        for text in [
            "HOOK=maybe",
            "GRACE=-1",
            "GRACE=0",
            "DEADLINE=601",
            "GRACE",
            "COLOUR=1",
            "METRICS=x.prom",
            "METRICS=",
            "NOTIFY=mail root",
            "HOOK=off;reboot",
            "GRACE=$(reboot)",
            "HOOK=\"off",
        ] {
            let error = parse(&format!("# first\n{text}\n")).expect_err(text).to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("settings");
        std::fs::write(&path, "HOOK=off\n").expect("a file");
        let with_mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            read(&path)
        };
        assert!(matches!(with_mode(0o666), Err(Error::NotRootsOwn)));
        let roots = nix::unistd::geteuid().is_root();
        assert_eq!(with_mode(0o644).is_ok(), roots);
        assert!(matches!(read(directory.path()), Err(Error::NotRootsOwn)));
        assert!(read(&directory.path().join("none")).is_ok());
    }
}
