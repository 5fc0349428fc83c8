//! Medians with their spread.

use serde::Serialize;

/// Of several runs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

pub fn spread(values: &[f64]) -> Spread {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { panic!("nothing was measured") };
    Spread { min: *min, median: sorted[sorted.len() / 2], max: *max }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:9.1} ({:.1} to {:.1})", self.median, self.min, self.max)
    }
}
