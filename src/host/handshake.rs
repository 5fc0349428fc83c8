//! A client's half of SSH up to the server's KEXINIT (RFC 4253 §4.2 to §7.1), over any stream.
//!
//! Nothing that the peer says is interpreted beyond its framing, and every read is bounded in bytes and in time: whatever
//! holds the other end may be hostile.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::deadline::Deadline;
use crate::model::printable::printable_bytes;

/// What a server may say before its KEXINIT. RFC 4253 allows lines before the banner and 255 bytes a banner.
const BANNER_LIMIT: usize = 16 * 1024;
/// Largest packet that every implementation must take (RFC 4253 §6.1).
const PACKET_LIMIT: u32 = 35_000;
/// Of a banner or a refusal, for people to see.
const SHOWN: usize = 120;
const MSG_DISCONNECT: u8 = 1;
const MSG_KEXINIT: u8 = 20;

/// How one connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The server's KEXINIT arrived after this banner.
    Kexinit(String),
    /// The server closed the connection before its KEXINIT; with its banner, if it sent one.
    Closed(Option<String>),
    /// The server said something that is no banner, and closed.
    Refused(String),
    /// The server neither finished nor closed in time, or it does not speak SSH.
    Unclear(String),
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kexinit(banner) => write!(f, "it answers ({banner})"),
            Self::Closed(None) => f.write_str("it closes the connection before a banner"),
            Self::Closed(Some(banner)) => {
                write!(f, "it closes the connection after the client's KEXINIT (banner {banner})")
            }
            Self::Refused(text) => write!(f, "it refuses with \"{text}\""),
            Self::Unclear(what) => f.write_str(what),
        }
    }
}

/// A stream whose reads and writes can be given a time limit.
pub trait Timed: Read + Write {
    /// The limit for the next read or write; never zero.
    ///
    /// # Errors
    /// setsockopt(2) failed.
    fn limit(&self, limit: Duration) -> io::Result<()>;
}

impl Timed for TcpStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

impl Timed for std::os::unix::net::UnixStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

/// Speaks SSH as a client over a connected stream until the server's KEXINIT, then says goodbye.
pub fn handshake(stream: &mut impl Timed, deadline: Deadline) -> Attempt {
    let banner = match read_banner(stream, deadline) {
        Ok(banner) => banner,
        Err(attempt) => return attempt,
    };
    // Errors while sending show as an early end when reading; what the server said is what counts.
    let _ = send(stream, deadline, b"SSH-2.0-sshd_mend_probe\r\n").and_then(|()| send(stream, deadline, &kexinit()));
    match read_kexinit(stream, deadline) {
        Ok(()) => {
            let _ = send(stream, deadline, &disconnect());
            Attempt::Kexinit(banner)
        }
        Err(error) => match error.kind() {
            io::ErrorKind::InvalidData => Attempt::Unclear(format!("{error} (banner {banner})")),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Attempt::Unclear(format!("no KEXINIT in time (banner {banner})"))
            }
            _ => Attempt::Closed(Some(banner)),
        },
    }
}

/// Reads up to the line that starts with `SSH-`.
fn read_banner(stream: &mut impl Timed, deadline: Deadline) -> Result<String, Attempt> {
    let mut said = Vec::new();
    let mut line_start = 0;
    loop {
        let mut byte = [0];
        match read_some(stream, deadline, &mut byte) {
            Ok(0) => break,
            Ok(_) => said.push(byte[0]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(Attempt::Unclear("no banner in time".to_owned()));
            }
            Err(_) => break,
        }
        if byte[0] == b'\n' {
            if said[line_start..].starts_with(b"SSH-") {
                return Ok(shown(&said[line_start..]));
            }
            line_start = said.len();
        }
        if said.len() >= BANNER_LIMIT {
            return Err(Attempt::Unclear(format!("{BANNER_LIMIT} bytes and no SSH banner")));
        }
    }
    Err(if said.is_empty() { Attempt::Closed(None) } else { Attempt::Refused(shown(&said)) })
}

fn read_kexinit(stream: &mut impl Timed, deadline: Deadline) -> io::Result<()> {
    let mut length = [0; 4];
    read_all(stream, deadline, &mut length)?;
    let length = u32::from_be_bytes(length);
    if !(2..=PACKET_LIMIT).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a packet of {length} bytes in place of KEXINIT"),
        ));
    }
    let mut packet = vec![0; length as usize];
    read_all(stream, deadline, &mut packet)?;
    match packet[1] {
        MSG_KEXINIT => Ok(()),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("message {other} in place of KEXINIT"))),
    }
}

fn read_all(stream: &mut impl Timed, deadline: Deadline, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(stream, deadline, &mut buffer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(())
}

/// One read within the deadline of the whole exchange, so that one byte a second does not go on for ever.
fn read_some(stream: &mut impl Timed, deadline: Deadline, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let left = deadline.remaining();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.limit(left)?;
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn send(stream: &mut impl Timed, deadline: Deadline, bytes: &[u8]) -> io::Result<()> {
    stream.limit(deadline.remaining().max(Duration::from_millis(1)))?;
    stream.write_all(bytes)
}

/// The client's KEXINIT. The cookie is all zeroes: it protects a key exchange that never takes place.
fn kexinit() -> Vec<u8> {
    let mut payload = vec![MSG_KEXINIT];
    payload.extend([0; 16]);
    let ciphers = "aes128-ctr,chacha20-poly1305@openssh.com";
    let macs = "hmac-sha2-256,hmac-sha2-256-etm@openssh.com";
    let key_exchange = "curve25519-sha256,ecdh-sha2-nistp256,diffie-hellman-group14-sha256";
    let host_keys = "ssh-ed25519,rsa-sha2-256,ecdsa-sha2-nistp256";
    for names in [key_exchange, host_keys, ciphers, ciphers, macs, macs, "none", "none", "", ""] {
        put_string(&mut payload, names.as_bytes());
    }
    payload.extend([0; 5]); // first_kex_packet_follows, reserved
    packet(&payload)
}

fn disconnect() -> Vec<u8> {
    let mut payload = vec![MSG_DISCONNECT];
    payload.extend(11_u32.to_be_bytes()); // SSH_DISCONNECT_BY_APPLICATION
    put_string(&mut payload, b"sshd-mend: probe");
    put_string(&mut payload, b"");
    packet(&payload)
}

fn put_string(payload: &mut Vec<u8>, bytes: &[u8]) {
    payload.extend(u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    payload.extend(bytes);
}

/// Frames a payload (RFC 4253 §6): length, padding length, payload, padding to a multiple of 8 bytes.
fn packet(payload: &[u8]) -> Vec<u8> {
    let mut padding = 8 - (payload.len() + 5) % 8;
    if padding < 4 {
        padding += 8;
    }
    let length = u32::try_from(payload.len() + padding + 1).unwrap_or(0);
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap_or(0));
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

/// At most [`SHOWN`] bytes of what the peer sent, on one printable line.
fn shown(bytes: &[u8]) -> String {
    printable_bytes(bytes[..bytes.len().min(SHOWN)].trim_ascii_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// Runs a handshake against a server that says `said` and closes.
    fn against(said: &[u8]) -> Attempt {
        let (mut client, mut server) = UnixStream::pair().expect("a socket pair");
        let said = said.to_vec();
        let server = std::thread::spawn(move || {
            server.write_all(&said).expect("the client reads");
            server.shutdown(std::net::Shutdown::Write).expect("a connected socket");
            let mut rest = Vec::new();
            let _ = server.read_to_end(&mut rest);
            rest
        });
        let attempt = handshake(&mut client, Deadline::after(Duration::from_secs(5)));
        drop(client);
        server.join().expect("the server's thread");
        attempt
    }

    #[test]
    fn a_server_that_reaches_kexinit_is_ok() {
        let mut said = b"a line before the banner\r\nSSH-2.0-OpenSSH_10.0\r\n".to_vec();
        said.extend(kexinit());
        assert_eq!(against(&said), Attempt::Kexinit("SSH-2.0-OpenSSH_10.0".into()));
    }

    #[test]
    fn a_close_after_the_banner_is_closed() {
        assert_eq!(against(b"SSH-2.0-OpenSSH_10.0\r\n"), Attempt::Closed(Some("SSH-2.0-OpenSSH_10.0".into())));
        assert_eq!(against(b""), Attempt::Closed(None));
    }

    #[test]
    fn text_in_place_of_a_banner_is_a_refusal() {
        assert_eq!(against(b"Not allowed at this time\r\n"), Attempt::Refused("Not allowed at this time".into()));
        assert_eq!(against(b"\x1b[2J\n"), Attempt::Refused("\\u{1b}[2J".into()));
    }

    #[test]
    fn what_is_no_ssh_is_unclear() {
        assert!(matches!(against(&[b'x'; BANNER_LIMIT + 1]), Attempt::Unclear(_)));
        assert!(matches!(against(b"SSH-2.0-x\n\xff\xff\xff\xff"), Attempt::Unclear(_)));
        assert!(matches!(against(b"SSH-2.0-x\n\x00\x00\x00\x02\x00\x01"), Attempt::Unclear(_)));
    }

    #[test]
    fn silence_and_dripping_end_at_the_deadline() {
        let (mut client, mut server) = UnixStream::pair().expect("a socket pair");
        let dripping = std::thread::spawn(move || {
            while server.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let attempt = handshake(&mut client, Deadline::after(Duration::from_millis(200)));
        drop(client);
        dripping.join().expect("the server's thread");
        assert_eq!(attempt, Attempt::Unclear("no banner in time".into()));
    }

    #[test]
    fn packets_are_framed_in_blocks_of_eight() {
        for length in 0..64 {
            let packet = packet(&vec![7; length]);
            assert_eq!(packet.len() % 8, 0);
            assert!(packet[4] >= 4);
            let declared = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]) as usize;
            assert_eq!(declared + 4, packet.len());
        }
    }
}
