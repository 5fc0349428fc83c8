//! What a probe found: whether a new connection gets through to an address.

use serde::{Deserialize, Serialize};

/// The result of a probe, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    #[serde(rename = "probe")]
    pub result: ProbeResult,
    /// What was seen, for a person; printable.
    #[serde(rename = "probe_detail")]
    pub detail: String,
    /// The authentication methods that the server offered to a real client. `None`: no client was tried, or it did not get
    /// that far.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub authentication: Option<Vec<String>>,
    /// Why the client did not get that far although the server's KEXINIT arrived, in its own words; printable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof_detail: Option<String>,
    /// It refused with text: a server is there, whatever it has against this client.
    #[serde(skip)]
    pub refused: bool,
}

/// The four results of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeResult {
    /// The server's KEXINIT arrived.
    Ok,
    /// Connected, got a banner or nothing at all, and closed before KEXINIT, three times.
    Dead,
    /// Refused with text, timed out, or no connection: nothing is known about the listener.
    Inconclusive,
    /// Not tried.
    Skipped,
}

impl Probe {
    /// A probe up to KEXINIT.
    pub fn new(result: ProbeResult, detail: impl Into<String>) -> Self {
        Self { result, detail: detail.into(), authentication: None, proof_detail: None, refused: false }
    }

    /// A probe that was not made, and why.
    pub fn skipped(why: &str) -> Self {
        Self::new(ProbeResult::Skipped, why)
    }

    /// The listener closes every connection.
    pub fn is_dead(&self) -> bool {
        self.result == ProbeResult::Dead
    }

    /// A new connection got through.
    pub fn is_ok(&self) -> bool {
        self.result == ProbeResult::Ok
    }
}
