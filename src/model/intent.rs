//! What a repair is about to do, written before it terminates anything.
//!
//! After a crash the facts alone could not tell an interrupted repair from a service that somebody stopped.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The instances that a repair replaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// `/proc/sys/kernel/random/boot_id`: an intent of another boot means nothing.
    pub boot_id: String,
    pub instances: Vec<InstanceIntent>,
}

/// What is about to be done with one instance. It stays on record until every address is served again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceIntent {
    /// The instance's service.
    pub instance: String,
    /// Addresses that are served now and have to be served afterwards.
    pub addresses: BTreeSet<SocketAddr>,
    /// Units to be started.
    pub units: Vec<String>,
    /// A rescue was prepared: its units are in place.
    pub rescue: bool,
    /// Its unit was started again and serves, though perhaps not at every address: whoever stops it from now on does so on
    /// purpose.
    #[serde(default)]
    pub resumed: bool,
    /// Only its unit was stopped, which failed over and over while an orphan served: nothing was terminated.
    #[serde(default)]
    pub stopped: bool,
}

impl Intent {
    /// What is on record about one instance.
    pub fn of(&self, instance: &str) -> Option<&InstanceIntent> {
        self.instances.iter().find(|intent| intent.instance == instance)
    }
}
