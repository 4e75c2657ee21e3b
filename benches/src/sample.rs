//! The result of one run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times are nanoseconds a message.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
    /// How long single messages took, where that is of interest.
    pub(crate) latency: Option<Latency>,
    /// How much of the time the server worked.
    pub(crate) server_busy: f64,
}

/// Nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Sample {
    /// The sample of this many messages in this time. Sorts the latencies.
    pub(crate) fn new(messages: usize, cpu: Duration, wall: Duration, trips: &mut [u32]) -> Self {
        let each = |time: Duration| time.as_nanos() as f64 / messages as f64;
        Self { cpu: each(cpu), wall: each(wall), latency: Latency::of(trips), server_busy: 0.0 }
    }
}

impl Latency {
    fn of(trips: &mut [u32]) -> Option<Self> {
        trips.sort_unstable();
        let at = |part: f64| {
            let index = (trips.len() as f64 * part) as usize;
            trips.get(index).copied().map(f64::from)
        };
        Some(Self { p50: at(0.5)?, p99: at(0.99)?, p999: at(0.999)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_sorted() {
        let mut trips: Vec<u32> = (0..1000).rev().collect();
        let latency = Latency::of(&mut trips).expect("there are some");
        assert_eq!(latency, Latency { p50: 500.0, p99: 990.0, p999: 999.0 });
        assert!(Latency::of(&mut []).is_none());
    }
}
