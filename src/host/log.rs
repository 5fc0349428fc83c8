//! The log: the journal in its own protocol, and a terminal's stderr through env_logger; never both to the same place.
//!
//! A stopped journald blocks its senders, and so does a stopped terminal. Nothing that can block may stand between the
//! signal to a listener and the start of its successor, so a thread of its own writes, and a log call only hands over.

use crate::model::printable::printable;
use log::kv::{self, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// Room for lines that wait to be written. What does not fit is dropped: a repair must not wait for its log.
const QUEUE: usize = 256;
/// How long the end of the program waits for the last lines.
const FLUSH: Duration = Duration::from_secs(1);
/// The target of what a terminal need not show, since the outcome on it says the same.
pub const JOURNAL_ONLY: &str = "sshd_mend::journal_only";

/// Where lines go besides a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// To journald.
    Write,
    /// Nowhere: examining writes nothing.
    Silent,
}

enum Message {
    Line { level: Level, target: String, text: String, fields: Vec<(String, String)> },
    Flush(SyncSender<()>),
}

/// Hands lines over to the writing thread.
struct HandOver {
    queue: SyncSender<Message>,
}

/// Flushes the log when it goes out of scope.
pub struct Started(SyncSender<Message>);

/// Starts the log. `terminal` is the level for stderr.
pub fn start(journal: Journal, terminal: LevelFilter) -> Option<Started> {
    let to_journal = match journal {
        // Fails where there is no journal socket, as in a chroot: then there is no journal to write to.
        Journal::Write => JournalLog::new().ok().map(|log| log.with_syslog_identifier("sshd-mend".to_owned())),
        Journal::Silent => None,
    };
    let twice = to_journal.is_some() && connected_to_journal();
    let to_terminal = (!twice && (std::io::stderr().is_terminal() || terminal > LevelFilter::Info)).then(|| {
        env_logger::Builder::new()
            .filter_level(terminal)
            .filter_module(JOURNAL_ONLY, LevelFilter::Off)
            .format(|out, record| {
                use std::io::Write;
                writeln!(out, "sshd-mend: {}", printable(&record.args().to_string()))
            })
            .build()
    });
    let level = if to_journal.is_some() { terminal.max(LevelFilter::Info) } else { terminal };
    let (queue, lines) = sync_channel(QUEUE);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(&lines, to_journal.as_ref(), to_terminal.as_ref()))
        .ok()?;
    log::set_boxed_logger(Box::new(HandOver { queue: queue.clone() })).ok()?;
    log::set_max_level(level);
    Some(Started(queue))
}

impl Drop for Started {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH);
        }
    }
}

impl Log for HandOver {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Of other crates only what goes wrong: zbus and polling trace every packet.
        metadata.target().starts_with("sshd_mend") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut fields = Fields(Vec::new());
        let _ = record.key_values().visit(&mut fields);
        let line = Message::Line {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
            fields: fields.0,
        };
        let _ = self.queue.try_send(line);
    }

    fn flush(&self) {}
}

struct Fields(Vec<(String, String)>);

impl VisitSource<'_> for Fields {
    fn visit_pair(&mut self, key: kv::Key<'_>, value: kv::Value<'_>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

fn write(lines: &Receiver<Message>, journal: Option<&JournalLog>, terminal: Option<&env_logger::Logger>) {
    for message in lines {
        match message {
            Message::Flush(done) => drop(done.try_send(())),
            Message::Line { level, target, text, fields } => {
                let fields: Vec<(&str, &str)> =
                    fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                let send = |log: &dyn Fn(&Record<'_>)| {
                    log(&Record::builder()
                        .level(level)
                        .target(&target)
                        .key_values(&fields)
                        .args(format_args!("{text}"))
                        .build());
                };
                if let Some(journal) = journal {
                    send(&|record| drop(journal.journal_send(record)));
                }
                if let Some(terminal) = terminal {
                    send(&|record| terminal.log(record));
                }
            }
        }
    }
}
