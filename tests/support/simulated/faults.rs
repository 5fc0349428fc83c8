//! What can go wrong on a machine while a plan is executed: each list is used up from its start, and what comes after it
//! goes well.

use proptest::prelude::*;
use proptest::sample::select;
use std::net::SocketAddr;

/// How systemd deals with one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Works,
    /// Nothing happens at all: another job is in the way, or systemd does not answer.
    Refused,
    /// The unit is stopped, and its start fails (`ExecStartPre=/bin/false`).
    Fails,
    /// It is stopped, and its start takes longer than anybody waits.
    Hangs,
    /// The old process does not stop in time.
    HangsStopping,
    /// Done, but only after nobody waited for it any more.
    Slow,
    /// Done, but the reply was lost.
    ReplyLost,
    /// Done, and the unit fails just afterwards.
    Dies,
    /// The service is active, and binds nothing.
    NeverBinds,
    /// The service is active (`Type=simple`), and binds its addresses so many looks later.
    BindsLate(usize),
    /// The service binds only the first of its addresses.
    BindsOne,
}

/// What a probe says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    Truth,
    Ok,
    Dead,
    Inconclusive,
}

/// What it takes to end a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stubborn {
    #[default]
    No,
    /// It ignores SIGTERM.
    Sigterm,
    /// It is in uninterruptible sleep.
    Sigkill,
    /// SIGTERM is refused by the kernel; SIGKILL works.
    Refuses,
}

/// What somebody else does to a listener between two looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It exits by itself.
    Exits,
    /// Its unit is restarted, or takes it over if it is an orphan.
    Restarted,
    /// It listens at another address, too.
    Binds,
}

/// A program that takes an address of ssh as soon as it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taker {
    pub address: SocketAddr,
    /// It answers as an SSH server does.
    pub ssh: bool,
    /// It is a socket unit, so PID 1 holds the address.
    pub socket_unit: bool,
}

/// The executor dies at its n-th call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    pub call: usize,
    /// The call has its effect first.
    pub after: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    pub jobs: Vec<Fate>,
    pub answers: Vec<Answer>,
    /// By the order in which processes are signalled.
    pub stubborn: Vec<Stubborn>,
    /// The n-th is refused.
    pub mkdirs: Vec<bool>,
    pub intents: Vec<bool>,
    pub resets: Vec<bool>,
    pub aborts: Vec<bool>,
    /// Units of a rescue, or a fallback, cannot be written.
    pub files: bool,
    /// The rescue's program closes every connection.
    pub rescue_is_dead: bool,
    /// At the n-th question whether somebody asked it to stop, and from then on.
    pub asked_to_stop: Option<usize>,
    /// At the n-th moment before the last look at the pinned listeners.
    pub change: Option<(usize, Change)>,
    pub taker: Option<Taker>,
    pub crash: Option<Crash>,
}

fn rarely() -> impl Strategy<Value = Vec<bool>> {
    prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any::<bool>(), 1..5)]
}

fn some_fate() -> impl Strategy<Value = Fate> {
    let simple = select(vec![
        Fate::Refused,
        Fate::Fails,
        Fate::Hangs,
        Fate::HangsStopping,
        Fate::Slow,
        Fate::ReplyLost,
        Fate::Dies,
        Fate::NeverBinds,
        Fate::BindsOne,
    ]);
    prop_oneof![4 => Just(Fate::Works), 3 => Just(Fate::Fails), 8 => simple, 1 => (1..8_usize).prop_map(Fate::BindsLate)]
}

fn some_taker() -> impl Strategy<Value = Taker> {
    let addresses = ["0.0.0.0:22", "[::]:22", "127.0.0.1:22", "0.0.0.0:1022", "0.0.0.0:2222", "[::]:2222"];
    let address = select(addresses.to_vec()).prop_map(|text| text.parse().expect("an address"));
    (address, any::<bool>()).prop_map(|(address, ssh)| Taker { address, ssh, socket_unit: false })
}

pub fn some_faults() -> impl Strategy<Value = Faults> {
    let answers = select(vec![Answer::Truth, Answer::Truth, Answer::Ok, Answer::Dead, Answer::Inconclusive]);
    let stubborn =
        select(vec![Stubborn::No, Stubborn::No, Stubborn::No, Stubborn::Sigterm, Stubborn::Sigkill, Stubborn::Refuses]);
    let change = (1..9_usize, select(vec![Change::Exits, Change::Restarted, Change::Binds]));
    let lists = (
        prop::collection::vec(some_fate(), 0..7),
        prop_oneof![Just(Vec::new()), prop::collection::vec(answers, 0..5)],
        prop_oneof![Just(Vec::new()), prop::collection::vec(stubborn, 0..4)],
    );
    let flags = (prop::bool::weighted(0.05), prop::bool::weighted(0.1));
    let once = (
        prop::option::weighted(0.15, 1..8_usize),
        prop::option::weighted(0.15, change),
        prop::option::weighted(0.25, some_taker()),
    );
    (lists, (rarely(), rarely(), rarely(), rarely()), flags, once).prop_map(
        |(
            (jobs, answers, stubborn),
            (mkdirs, intents, resets, aborts),
            (files, rescue_is_dead),
            (asked_to_stop, change, taker),
        )| Faults {
            jobs,
            answers,
            stubborn,
            mkdirs,
            intents,
            resets,
            aborts,
            files,
            rescue_is_dead,
            asked_to_stop,
            change,
            taker,
            crash: None,
        },
    )
}
