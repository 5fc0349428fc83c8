//! Replaces a file as a whole: who reads it sees the old text or the new one, and never a part.

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Writes `text` next to `path` under a hidden name, and renames it.
///
/// # Errors
/// There is no such directory, it cannot be written, or `path` names something that is no regular file: /dev/null and
/// /dev/stdout are everybody's. What was at `path` is still there.
pub fn replace(path: &Path, text: &[u8], mode: Mode) -> io::Result<()> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "it names no file");
    let name = path.file_name().ok_or_else(no_file)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let there = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
    if there.is_ok_and(|there| FileType::from_raw_mode(there.st_mode) != FileType::RegularFile) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "what is there is no regular file, and stays as it is",
        ));
    }
    let new = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    // Of an earlier process of this number that was killed, or somebody's link.
    let _ = rustix::fs::unlinkat(&directory, &new, AtFlags::empty());
    let written = (|| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&directory, &new, flags, mode)?);
        rustix::fs::fchmod(&file, mode)?;
        file.write_all(text)?;
        Ok(rustix::fs::renameat(&directory, &new, &directory, name)?)
    })();
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&directory, &new, AtFlags::empty());
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    const MODE: Mode = Mode::from_bits_retain(0o644);

    #[test]
    fn what_was_there_is_replaced_and_a_link_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, other) = (directory.path().join("x.prom"), directory.path().join("other"));
        std::fs::write(&other, "theirs").expect("a file");
        std::fs::write(&path, "from before").expect("a file");
        symlink(&other, directory.path().join(format!(".x.prom.{}", std::process::id()))).expect("a link");
        replace(&path, b"ours", MODE).expect("a file");
        assert_eq!(std::fs::read(&other).expect("a file"), b"theirs");
        assert_eq!(std::fs::read(&path).expect("a file"), b"ours");
        assert_eq!(path.symlink_metadata().expect("a file").mode() & 0o7777, 0o644);
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 2);
    }

    #[test]
    fn what_is_no_regular_file_stays_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("null");
        symlink("/dev/null", &path).expect("a link");
        assert!(replace(&path, b"x", MODE).is_err_and(|error| error.to_string().contains("no regular file")));
        assert!(path.is_symlink());
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(replace(&directory.path().join("none/x.prom"), b"x", MODE).is_err());
        let taken = directory.path().join("taken");
        std::fs::create_dir(&taken).expect("a directory");
        assert!(replace(&taken, b"x", MODE).is_err());
        assert!(replace(Path::new("/"), b"x", MODE).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }
}
