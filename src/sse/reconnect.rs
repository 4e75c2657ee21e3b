//! When to connect again: pure, with chance as an argument.

use std::time::Duration;

use crate::reconnect::backoff::{grown, part};

/// The shortest delay that a server can ask for, so that no client reconnects in a busy loop.
const SHORTEST_FROM_SERVER: Duration = Duration::from_millis(100);

/// Whether and when an event stream connects again after its connection was lost or ended.
///
/// The first try comes after [`delay`](Self::delay), or after the delay that the server sent in `retry:`. As long as
/// tries bring no event, the delay doubles up to [`max_delay`](Self::max_delay). Each delay is up to a quarter longer
/// at random, so that the clients of a restarted server do not return all at once.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// use drivetrain::sse::Reconnect;
///
/// let request = client.sse("https://example.com/events").reconnect(Reconnect::new().max_tries(10));
/// # request.connect().await?; Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    delay: Duration,
    max_delay: Duration,
    max_tries: Option<u32>,
}

impl Reconnect {
    /// As in browsers: after 3 s, without a limit of tries.
    pub fn new() -> Self {
        Self { delay: Duration::from_secs(3), max_delay: Duration::from_secs(30), max_tries: None }
    }

    /// The delay until the server sends another one, which is at least 100 ms. Default: 3 s.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The longest delay to grow to while tries bring no event. A longer one that was set, or that the server sent, stays
    /// unchanged. Default: 30 s.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How many tries in a row may bring no event before the stream ends with the result of the last one. A response
    /// that ends before its first event counts, even if it had comments. Default: no limit.
    #[must_use]
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.max_tries = Some(tries);
        self
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::new()
    }
}

/// The delays of the tries since the last event.
#[derive(Debug)]
pub(super) struct EventTries {
    policy: Reconnect,
    from_server: Option<Duration>,
    in_vain: u32,
}

impl EventTries {
    pub(super) fn new(policy: Reconnect) -> Self {
        Self { policy, from_server: None, in_vain: 0 }
    }

    /// The server has sent an event.
    pub(super) fn succeeded(&mut self) {
        self.in_vain = 0;
    }

    /// The server sent a delay.
    pub(super) fn set_delay(&mut self, delay: Duration) {
        self.from_server = Some(delay.max(SHORTEST_FROM_SERVER));
    }

    /// The delay before the next try; `None` if there is none.
    pub(super) fn next(&mut self, random: u32) -> Option<Duration> {
        let Reconnect { delay, max_delay, max_tries } = self.policy;
        if max_tries.is_some_and(|most| self.in_vain >= most) {
            return None;
        }
        let first = self.from_server.unwrap_or(delay);
        let doubled = grown(first, 2.0, self.in_vain);
        self.in_vain = self.in_vain.saturating_add(1);
        let delay = doubled.min(max_delay.max(first));
        Some(delay.saturating_add(part(delay / 4, random)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn delays(tries: &mut EventTries, count: usize) -> Vec<u64> {
        std::iter::from_fn(|| tries.next(0)).take(count).map(|delay| delay.as_secs()).collect()
    }

    #[test]
    fn the_delay_doubles_while_nothing_comes() {
        let mut tries = EventTries::new(Reconnect::new());
        assert_eq!(delays(&mut tries, 6), [3, 6, 12, 24, 30, 30]);
        tries.succeeded();
        assert_eq!(delays(&mut tries, 2), [3, 6]);
        assert_eq!(delays(&mut tries, 100).last(), Some(&30));
    }

    #[test]
    fn the_server_sets_the_delay() {
        let mut tries = EventTries::new(Reconnect::new());
        tries.set_delay(60 * SECOND);
        assert_eq!(delays(&mut tries, 3), [60, 60, 60]);
        tries.succeeded();
        tries.set_delay(Duration::ZERO);
        assert_eq!(tries.next(0), Some(SHORTEST_FROM_SERVER));
    }

    #[test]
    fn tries_in_vain_are_counted() {
        let mut tries = EventTries::new(Reconnect::new().max_tries(2));
        assert_eq!(delays(&mut tries, 9), [3, 6]);
        tries.succeeded();
        assert_eq!(delays(&mut tries, 9), [3, 6]);
        assert_eq!(EventTries::new(Reconnect::new().max_tries(0)).next(0), None);
    }

    #[test]
    fn the_random_part_is_a_quarter_at_most() {
        let longest = EventTries::new(Reconnect::new().delay(100 * SECOND)).next(u32::MAX);
        let longest = longest.expect("a try");
        assert!(longest > 124 * SECOND && longest <= 125 * SECOND, "{longest:?}");
        let most = Reconnect::new().delay(Duration::MAX).max_delay(Duration::MAX);
        assert_eq!(EventTries::new(most).next(u32::MAX), Some(Duration::MAX));
    }
}
