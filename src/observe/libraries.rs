//! Libraries that a process runs and that are no longer on disk, from `/proc/PID/maps`.

use std::collections::BTreeSet;

/// What the kernel appends to the name of a mapped file whose directory entry is gone (d_path, fs/d_path.c).
const DELETED: &str = " (deleted)";

/// File names, in order, each once. Only code counts: sshd shares memory through `/dev/zero (deleted)`, which is no file.
pub fn stale(maps: &[u8]) -> Vec<String> {
    let maps = String::from_utf8_lossy(maps);
    let of_line = |line: &str| {
        // address perms offset dev inode pathname (proc_pid_maps(5)); the path may have spaces in it.
        let permissions = line.split(' ').nth(1)?;
        let path = &line[line.find(" /")? + 1..];
        let path = path.strip_suffix(DELETED).filter(|_| permissions.contains('x'))?;
        Some(path.rsplit('/').next()?.to_owned())
    };
    maps.lines().filter_map(of_line).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_files_that_are_gone() {
        let maps = b"\
5581d2d6e000-5581d2d7f000 r--p 00000000 00:2f 1234      /usr/sbin/sshd\n\
7f1c2e600000-7f1c2e700000 r--p 00000000 00:2f 88      /usr/lib/x86_64-linux-gnu/libcrypto.so.3 (deleted)\n\
7f1c2e700000-7f1c2e9b0000 r-xp 000c8000 00:2f 88      /usr/lib/x86_64-linux-gnu/libcrypto.so.3 (deleted)\n\
7f1c2ea00000-7f1c2eb00000 r-xp 000c8000 00:2f 89      /usr/lib/x86_64-linux-gnu/libc.so.6\n\
7f1c2f000000-7f1c2f001000 rw-s 00000000 00:01 5       /dev/zero (deleted)\n\
7ffd1f5ce000-7ffd1f5d0000 r-xp 00000000 00:00 0       [vdso]\n\
malformed";
        assert_eq!(stale(maps), ["libcrypto.so.3"]);
        assert_eq!(stale(b""), Vec::<String>::new());
    }
}
