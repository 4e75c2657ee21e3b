//! When a task that never waits lets others run: pure.

/// How much a task has done without waiting. What is buffered already is done without the runtime, so
/// that the runtime cannot see that others are kept waiting.
#[derive(Debug, Default)]
pub(super) struct Fairness {
    spent: usize,
}

/// So many bytes, or so many messages of at most [`LEAST`], are a task's share.
const SHARE: usize = 256 << 10;

/// What a message counts at least.
const LEAST: usize = SHARE / 256;

impl Fairness {
    /// Counts one message of this size.
    #[inline]
    pub(super) fn count(&mut self, size: usize) {
        self.spent = self.spent.saturating_add(size.max(LEAST));
    }

    /// Counts so many messages that are short.
    #[inline]
    pub(super) fn count_short(&mut self, messages: usize) {
        self.spent = self.spent.saturating_add(messages.saturating_mul(LEAST));
    }

    /// Whether the task may go on without letting others run.
    #[inline]
    pub(super) fn goes_on(&self) -> bool {
        self.spent < SHARE
    }

    /// Whether the task should let others run; if so, counting begins anew.
    pub(super) fn is_exhausted(&mut self) -> bool {
        let exhausted = !self.goes_on();
        if exhausted {
            self.reset();
        }
        exhausted
    }

    /// The task has waited.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_256_short_messages_or_256_kib() {
        for (size, messages) in [(0, 256), (32, 256), (1 << 10, 256), (64 << 10, 4), (1 << 20, 1)] {
            let mut fairness = Fairness::default();
            for _ in 0..messages {
                assert!(fairness.goes_on() && !fairness.is_exhausted(), "{size}");
                fairness.count(size);
            }
            assert!(!fairness.goes_on() && fairness.is_exhausted(), "{size}");
            assert!(fairness.goes_on(), "anew");
        }
    }

    #[test]
    fn short_messages_count_the_same_together_and_one_by_one() {
        let mut fairness = Fairness::default();
        fairness.count_short(255);
        assert!(fairness.goes_on());
        fairness.count_short(1);
        assert!(!fairness.goes_on());
    }
}
