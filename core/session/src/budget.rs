//! The cooperative budget: when a task that never waits yields. Pure.

/// How much a task has done without waiting. The runtime cannot see work on buffered messages, and so cannot make the
/// task yield.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: usize,
}

/// How many frames a task reads for the session before others have their turn.
pub(crate) const FAIR_SHARE: usize = 64;

/// The budget in bytes; or 256 messages of at most [`LEAST`] bytes.
const SHARE: usize = 256 << 10;

/// The least that a message counts.
const LEAST: usize = SHARE / 256;

impl Budget {
    /// Charges one message of this size.
    #[inline]
    pub(super) fn count(&mut self, size: usize) {
        self.spent = self.spent.saturating_add(size.max(LEAST));
    }

    /// Charges this many short messages.
    #[inline]
    pub(super) fn count_short(&mut self, messages: usize) {
        self.spent = self.spent.saturating_add(messages.saturating_mul(LEAST));
    }

    /// Whether the task need not yield.
    #[inline]
    pub(super) fn has_left(&self) -> bool {
        self.spent < SHARE
    }

    /// Whether the task has to yield; if so, the budget is full again.
    pub(super) fn is_exhausted(&mut self) -> bool {
        let exhausted = !self.has_left();
        if exhausted {
            self.reset();
        }
        exhausted
    }

    /// Resets the budget after the task has waited.
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
            let mut budget = Budget::default();
            for _ in 0..messages {
                assert!(budget.has_left() && !budget.is_exhausted(), "{size}");
                budget.count(size);
            }
            assert!(!budget.has_left() && budget.is_exhausted(), "{size}");
            assert!(budget.has_left(), "anew");
        }
    }

    #[test]
    fn short_messages_count_the_same_together_and_one_by_one() {
        let mut budget = Budget::default();
        budget.count_short(255);
        assert!(budget.has_left());
        budget.count_short(1);
        assert!(!budget.has_left());
    }
}
