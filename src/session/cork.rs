//! Which message is written at once, and which with those after it: pure.

/// The cork of a burst: the first message after the application has waited for input is written at once,
/// those after it are not.
#[derive(Debug)]
pub(super) struct Cork {
    is_open: bool,
    /// How many messages the application has received since it last had to go to the socket.
    batch: usize,
}

impl Cork {
    /// Open: the first message is written at once.
    pub(super) fn new() -> Self {
        Self { is_open: true, batch: 0 }
    }

    /// The application waits for input.
    pub(super) fn waits(&mut self) {
        self.is_open = true;
        self.batch = 0;
    }

    /// The application has received a message: `from_socket`, or one that an earlier read had brought.
    ///
    /// Where the peer answers before the application can wait, going to the socket for each message is as
    /// good as waiting. Not so if reads bring many: these are answered together.
    #[inline]
    pub(super) fn receives(&mut self, from_socket: bool) {
        if !from_socket {
            return self.receives_buffered(1);
        }
        self.is_open |= self.batch <= 1;
        self.batch = 1;
    }

    /// So many that earlier reads had brought.
    #[inline]
    pub(super) fn receives_buffered(&mut self, messages: usize) {
        self.batch = self.batch.saturating_add(messages);
    }

    /// Whether messages come faster than they are received: two in a row needed neither waiting nor the
    /// socket.
    #[inline]
    pub(super) fn is_flooded(&self) -> bool {
        self.batch > 2
    }

    /// Whether the message that is sent now is written at once.
    #[inline]
    pub(super) fn lets_pass(&mut self) -> bool {
        std::mem::take(&mut self.is_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_after_waiting_passes() {
        let mut cork = Cork::new();
        assert_eq!([cork.lets_pass(), cork.lets_pass()], [true, false]);
        cork.waits();
        cork.receives(false);
        assert_eq!([cork.lets_pass(), cork.lets_pass()], [true, false]);
    }

    #[test]
    fn a_flood_is_two_in_a_row_that_were_here() {
        let mut cork = Cork::new();
        for from_socket in [true, false, true, true, false] {
            cork.receives(from_socket);
            assert!(!cork.is_flooded());
        }
        cork.receives(false);
        assert!(cork.is_flooded());
        cork.waits();
        assert!(!cork.is_flooded());
    }

    #[test]
    fn going_to_the_socket_for_each_message_is_waiting() {
        let mut cork = Cork::new();
        for _ in 0..3 {
            assert_eq!([cork.lets_pass(), cork.lets_pass()], [true, false]);
            cork.receives(true);
        }
    }

    #[test]
    fn reads_that_bring_many_are_answered_together() {
        let mut cork = Cork::new();
        for round in 0..3 {
            cork.receives(true);
            assert_eq!(cork.lets_pass(), round == 0, "{round}");
            for _ in 0..9 {
                cork.receives(false);
                assert!(!cork.lets_pass());
            }
        }
        cork.receives(true);
        assert!(!cork.lets_pass());
        cork.receives(true);
        assert!(cork.lets_pass(), "that one had come alone");
    }
}
