//! Whether dpkg has finished with the package that owns a program.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::host::command;
use crate::host::deadline::Deadline;
use crate::model::trial::Package;

const DPKG_QUERY: &str = "/usr/bin/dpkg-query";
/// Limits one query, which takes some 10 ms.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn package(program: &Path, deadline: Deadline) -> Package {
    let query = |arguments: &[&str]| command::run(Path::new(DPKG_QUERY), arguments, deadline.at_most(QUERY_TIMEOUT));
    let path = program.display().to_string();
    let owner = match query(&["--search", "--", &path]) {
        Ok(finished) if finished.succeeded() => owner(&path, &finished.output),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Package::Unconfigured(format!("dpkg-query: {error}")),
    };
    let Some(owner) = owner else { return Package::Ready };
    match query(&["--show", "--showformat=${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status}", "--", &owner]) {
        Ok(finished) if finished.output.ends_with(" ok installed") => Package::Ready,
        Ok(finished) => Package::Unconfigured(format!("{owner} is \"{}\"", finished.output.trim())),
        Err(error) => Package::Unconfigured(format!("dpkg-query: {error}")),
    }
}

/// The package that owns a file, from what `dpkg-query --search` prints: `openssh-server: /usr/sbin/sshd`. Lines about
/// diversions start otherwise.
pub fn owner(path: &str, found: &str) -> Option<String> {
    found.lines().find_map(|line| {
        let (packages, file) = line.rsplit_once(": ")?;
        (file == path && !packages.starts_with("diversion "))
            .then(|| packages.split(", ").next().unwrap_or(packages).to_owned())
    })
}
