//! When a task that never waits lets others run: pure.

/// How much a task has done without waiting. What is buffered already is done without the runtime, so
/// that the runtime cannot see that others are kept waiting.
#[derive(Debug, Default)]
pub(super) struct Fairness {
    messages: u32,
    bytes: usize,
}

impl Fairness {
    /// Counts one message of this size.
    pub(super) fn count(&mut self, size: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(size);
    }

    /// Whether the task should let others run; if so, counting begins anew.
    pub(super) fn is_exhausted(&mut self) -> bool {
        let exhausted = self.messages >= 256 || self.bytes >= 256 << 10;
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
