//! How single facts are written in JSON, where serde's own way is not what people and programs expect.

/// JSON of a time: RFC 3339 in UTC.
pub(crate) mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::SystemTime;

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// JSON of addresses: as people write them.
pub(crate) mod addresses {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    pub(crate) fn serialize<S: Serializer>(addresses: &BTreeSet<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(addresses.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<SocketAddr>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .collect()
    }
}

/// JSON of a probe: `probe` and `probe_detail` beside the listener's other fields.
pub(crate) mod probe_fields {
    use crate::probe::{Probe, ProbeResult};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Fields {
        probe: ProbeResult,
        probe_detail: String,
    }

    pub(crate) fn serialize<S: Serializer>(probe: &Probe, serializer: S) -> Result<S::Ok, S::Error> {
        Fields { probe: probe.result, probe_detail: probe.detail.clone() }.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Probe, D::Error> {
        let fields = Fields::deserialize(deserializer)?;
        Ok(Probe { result: fields.probe, detail: fields.probe_detail })
    }
}
