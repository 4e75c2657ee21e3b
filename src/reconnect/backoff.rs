//! Delays and the number of attempts: pure, with random numbers as an argument. Event streams use the same delays.

use std::time::Duration;

use drivetrain_engine::{Error, ErrorKind, Result};

/// Delay before the next attempt, and the number of attempts.
///
/// Attempts are counted from the loss of a connection. The delay before each is random between zero and a limit (*full
/// jitter*), so that the clients of a restarting server do not return at once. The limit starts with
/// [`first_delay`](Self::first_delay) and grows by [`factor`](Self::factor) up to [`max_delay`](Self::max_delay). A
/// connection that lasts less than [`reset_after`](Self::reset_after) counts as a failed attempt, so that the session
/// also gives up on a server that accepts and hangs up.
///
/// A `Retry-After` in a refusal (RFC 9110 section 10.2.3) is added to the delay.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// use std::time::Duration;
/// use drivetrain::reconnect::Backoff;
///
/// let backoff = Backoff::new().first_delay(Duration::from_millis(200)).max_tries(20);
/// let session = client.web_socket("wss://example.com/feed").reconnect(backoff).connect().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    first_delay: Duration,
    factor: f64,
    max_delay: Duration,
    max_tries: Option<u32>,
    reset_after: Duration,
    max_retry_after: Duration,
}

impl Backoff {
    /// Ten attempts, after up to 1, 2, 4, 8, 16 and then 30 seconds.
    pub fn new() -> Self {
        Self {
            first_delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(30),
            max_tries: Some(10),
            reset_after: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(600),
        }
    }

    /// The longest delay before the first attempt. Default: 1 s.
    #[must_use]
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// Growth of the delay's limit with each attempt; at least 1. Default: 2.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Maximum of the delay's limit; at least [`first_delay`](Self::first_delay). Default: 30 s.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Number of failed attempts in a row before the session gives up; `None` is no limit. Default: 10.
    #[must_use]
    pub fn max_tries(mut self, tries: impl Into<Option<u32>>) -> Self {
        self.max_tries = tries.into();
        self
    }

    /// Duration after which a connection resets the number of attempts. Default: 30 s.
    #[must_use]
    pub fn reset_after(mut self, lived: Duration) -> Self {
        self.reset_after = lived;
        self
    }

    /// The longest accepted `Retry-After`. The session gives up on a longer one; the application decides about such a
    /// wait. Default: 10 min.
    #[must_use]
    pub fn max_retry_after(mut self, delay: Duration) -> Self {
        self.max_retry_after = delay;
        self
    }

    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an impossible value.
    pub(super) fn check(&self) -> Result<()> {
        let Self { first_delay, factor, max_delay, max_tries, reset_after, max_retry_after: _ } =
            *self;
        let wrong = if first_delay.is_zero() {
            "a first_delay of zero is not possible: a server in trouble needs some time"
        } else if !(factor.is_finite() && factor >= 1.0) {
            "the factor of a backoff has to be 1 or more"
        } else if max_delay < first_delay {
            "a max_delay below the first_delay is not possible"
        } else if max_tries == Some(0) {
            "max_tries of zero is not possible: do not call reconnect"
        } else if reset_after.is_zero() {
            "a reset_after of zero is not possible: the tries would have no end"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidInput, wrong))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// The attempts so far.
#[derive(Debug)]
pub(super) struct Tries {
    policy: Backoff,
    in_vain: u32,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextTry {
    /// The attempt of this number, after this delay.
    Try { attempt: u32, delay: Duration },
    /// The maximum number of attempts has failed.
    Enough(u32),
    /// The server asks for a longer delay than the maximum.
    TooLong(Duration),
}

impl Tries {
    pub(super) fn new(policy: Backoff) -> Self {
        Self { policy, in_vain: 0 }
    }

    /// The maximum number of attempts.
    pub(super) fn most(&self) -> Option<u32> {
        self.policy.max_tries
    }

    /// Records the lifetime of a connection that has ended.
    pub(super) fn lived(&mut self, time: Duration) {
        if time >= self.policy.reset_after {
            self.in_vain = 0;
        }
    }

    /// The next step after a loss or a failed attempt. The random number shortens the delay in proportion to
    /// `u32::MAX`; zero keeps the full delay.
    pub(super) fn next(&mut self, retry_after: Option<Duration>, random: u32) -> NextTry {
        let Backoff { first_delay, factor, max_delay, max_tries, max_retry_after, .. } =
            self.policy;
        if max_tries.is_some_and(|most| self.in_vain >= most) {
            return NextTry::Enough(self.in_vain);
        }
        let wanted = retry_after.unwrap_or_default();
        if wanted > max_retry_after {
            return NextTry::TooLong(wanted);
        }
        let limit = grown(first_delay, factor, self.in_vain).min(max_delay);
        self.in_vain = self.in_vain.saturating_add(1);
        NextTry::Try {
            attempt: self.in_vain,
            delay: wanted.saturating_add(limit - part(limit, random)),
        }
    }
}

/// The delay after this many failed attempts, without an upper bound.
pub(crate) fn grown(first: Duration, factor: f64, in_vain: u32) -> Duration {
    let exponent = i32::try_from(in_vain).unwrap_or(i32::MAX);
    let seconds = first.as_secs_f64() * factor.powi(exponent);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// A part of the delay, from zero for 0 to the whole delay for `u32::MAX`.
pub(crate) fn part(delay: Duration, random: u32) -> Duration {
    let share = f64::from(random) / f64::from(u32::MAX);
    Duration::try_from_secs_f64(delay.as_secs_f64() * share).map_or(delay, |part| part.min(delay))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn longest(tries: &mut Tries, count: usize) -> Vec<u64> {
        let delay = || match tries.next(None, 0) {
            NextTry::Try { delay, .. } => Some(delay.as_secs()),
            _ => None,
        };
        std::iter::from_fn(delay).take(count).collect()
    }

    #[test]
    fn the_limit_grows_and_the_tries_end() {
        let mut tries = Tries::new(Backoff::new());
        assert_eq!(longest(&mut tries, 99), [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]);
        assert_eq!(tries.next(None, 0), NextTry::Enough(10));
        let mut tries = Tries::new(Backoff::new().factor(1.0).max_tries(3));
        assert_eq!(longest(&mut tries, 99), [1, 1, 1]);
        let mut tries = Tries::new(Backoff::new().max_tries(None));
        assert_eq!(longest(&mut tries, 5000).last(), Some(&30));
    }

    #[test]
    fn jitter_covers_everything_up_to_the_limit() {
        let delay = |random| match Tries::new(Backoff::new()).next(None, random) {
            NextTry::Try { attempt: 1, delay } => delay,
            other => panic!("{other:?}"),
        };
        assert_eq!(delay(0), SECOND, "as it was set");
        assert_eq!(delay(u32::MAX), Duration::ZERO);
        assert_eq!(delay(u32::MAX / 2).as_millis(), 500);
        let most = Backoff::new().first_delay(Duration::MAX).max_delay(Duration::MAX);
        let longest = NextTry::Try { attempt: 1, delay: Duration::MAX };
        assert_eq!(Tries::new(most).next(Some(SECOND), 0), longest);
    }

    #[test]
    fn only_a_connection_that_lived_long_enough_forgets_the_tries() {
        let mut tries = Tries::new(Backoff::new().max_tries(2));
        for attempt in [1, 2] {
            tries.lived(29 * SECOND);
            assert_eq!(tries.next(None, u32::MAX), NextTry::Try { attempt, delay: Duration::ZERO });
        }
        tries.lived(29 * SECOND);
        assert_eq!(tries.next(None, 0), NextTry::Enough(2));
        tries.lived(30 * SECOND);
        assert_eq!(tries.next(None, 0), NextTry::Try { attempt: 1, delay: SECOND });
    }

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_says_and_then_for_the_delay() {
        let mut tries = Tries::new(Backoff::new());
        let NextTry::Try { delay, .. } = tries.next(Some(60 * SECOND), 0) else { panic!("a try") };
        assert_eq!(delay, 61 * SECOND);
        assert_eq!(tries.next(Some(601 * SECOND), 0), NextTry::TooLong(601 * SECOND));
    }

    #[test]
    fn what_can_never_work_is_refused() {
        let new = Backoff::new;
        for wrong in [
            new().first_delay(Duration::ZERO),
            new().factor(0.99),
            new().factor(f64::NAN),
            new().factor(f64::INFINITY),
            new().max_delay(SECOND / 2),
            new().max_tries(0),
            new().reset_after(Duration::ZERO),
        ] {
            let error = wrong.check().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong:?}");
        }
        for right in [new(), new().factor(f64::MAX).max_tries(None).max_delay(Duration::MAX)] {
            right.check().expect("possible");
            assert!(longest(&mut Tries::new(right), 3).len() == 3);
        }
    }
}
