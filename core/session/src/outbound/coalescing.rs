//! Decides which message is written at once, and which is written with later ones. Pure.

/// The first message after the application has waited for input is written at once. Later ones are written together.
#[derive(Debug)]
pub(crate) struct WriteCoalescing {
    writes_next: bool,
    /// How many messages the application has received since its latest read of the socket.
    batch: usize,
}

impl WriteCoalescing {
    /// In the state in which the next message is written at once.
    pub(crate) fn new() -> Self {
        Self { writes_next: true, batch: 0 }
    }

    /// The application waits for input.
    pub(crate) fn waits_for_input(&mut self) {
        self.writes_next = true;
        self.batch = 0;
    }

    /// The application has received a message: from the socket (`from_socket`), or from the buffer of an earlier read.
    ///
    /// Where the peer answers before the application can wait, a read of the socket for each message counts as waiting.
    /// Reads that bring many messages do not: their answers are written together.
    #[inline]
    pub(crate) fn receives(&mut self, from_socket: bool) {
        if !from_socket {
            return self.receives_buffered(1);
        }
        self.writes_next |= self.batch <= 1;
        self.batch = 1;
    }

    /// The application has received `messages` from the buffer of earlier reads.
    #[inline]
    pub(crate) fn receives_buffered(&mut self, messages: usize) {
        self.batch = self.batch.saturating_add(messages);
    }

    /// Whether messages come faster than they are received: two in a row came from the buffer.
    #[inline]
    pub(crate) fn is_flooded(&self) -> bool {
        self.batch > 2
    }

    /// Whether the message that is being sent is written at once.
    #[inline]
    pub(crate) fn writes_now(&mut self) -> bool {
        std::mem::take(&mut self.writes_next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_after_waiting_passes() {
        let mut coalescing = WriteCoalescing::new();
        assert_eq!([coalescing.writes_now(), coalescing.writes_now()], [true, false]);
        coalescing.waits_for_input();
        coalescing.receives(false);
        assert_eq!([coalescing.writes_now(), coalescing.writes_now()], [true, false]);
    }

    #[test]
    fn a_flood_is_two_in_a_row_that_were_here() {
        let mut coalescing = WriteCoalescing::new();
        for from_socket in [true, false, true, true, false] {
            coalescing.receives(from_socket);
            assert!(!coalescing.is_flooded());
        }
        coalescing.receives(false);
        assert!(coalescing.is_flooded());
        coalescing.waits_for_input();
        assert!(!coalescing.is_flooded());
    }

    #[test]
    fn going_to_the_socket_for_each_message_is_waiting() {
        let mut coalescing = WriteCoalescing::new();
        for _ in 0..3 {
            assert_eq!([coalescing.writes_now(), coalescing.writes_now()], [true, false]);
            coalescing.receives(true);
        }
    }

    #[test]
    fn reads_that_bring_many_are_answered_together() {
        let mut coalescing = WriteCoalescing::new();
        for round in 0..3 {
            coalescing.receives(true);
            assert_eq!(coalescing.writes_now(), round == 0, "{round}");
            for _ in 0..9 {
                coalescing.receives(false);
                assert!(!coalescing.writes_now());
            }
        }
        coalescing.receives(true);
        assert!(!coalescing.writes_now());
        coalescing.receives(true);
        assert!(coalescing.writes_now(), "that one had come alone");
    }
}
