//! Reassembles a fragmented message for `receive`. Pure.

use std::fmt;

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Frame, Result};

use crate::{
    inbound::validation::{Fragment, MAX_MESSAGE_SIZE, above, message},
    kind::MessageKind,
};

/// The beginning of the next message for the application.
#[derive(Default)]
pub(crate) struct Reassembly {
    /// `None` between messages.
    kind: Option<MessageKind>,
    payload: BytesMut,
}

impl Reassembly {
    /// Number of held bytes.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.payload.len()
    }

    /// Adds a fragment. Returns the message with the last one. A continuation whose first fragment was lost with a leaked
    /// reader is ignored.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`]; what was reassembled is dropped.
    pub(crate) fn push(&mut self, part: &Fragment, limit: usize) -> Result<Option<Frame>> {
        if part.start.is_some() {
            self.kind = part.start;
        }
        let Some(kind) = self.kind else { return Ok(None) };
        let size = self.payload.len().saturating_add(part.payload.len());
        if size > limit {
            self.clear();
            return Err(above("message", size, MAX_MESSAGE_SIZE, limit));
        }
        self.payload.extend_from_slice(&part.payload);
        if !part.last {
            return Ok(None);
        }
        let payload = std::mem::take(self).payload.freeze();
        message(kind, payload).map(Some)
    }

    /// Takes the beginning of an unfinished message.
    pub(crate) fn take(&mut self) -> Option<(MessageKind, Bytes)> {
        let kind = self.kind?;
        Some((kind, std::mem::take(self).payload.freeze()))
    }

    /// Drops the beginning of an unfinished message.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl fmt::Debug for Reassembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reassembly({:?}, {} bytes)", self.kind, self.payload.len())
    }
}

#[cfg(test)]
mod tests {
    use drivetrain_engine::ErrorKind;

    use super::*;

    fn part(start: Option<MessageKind>, payload: &'static str, last: bool) -> Fragment {
        Fragment { start, payload: payload.into(), last }
    }

    #[test]
    fn fragments_become_a_message_up_to_the_limit() {
        let mut reassembly = Reassembly::default();
        let text = Some(MessageKind::Text);
        assert_eq!(reassembly.push(&part(text, "ab", false), 4).unwrap(), None);
        assert_eq!(reassembly.held(), 2);
        let whole = reassembly.push(&part(None, "cd", true), 4).unwrap();
        assert_eq!(whole, Some(Frame::from("abcd")));
        assert_eq!(reassembly.held(), 0);
        reassembly.push(&part(text, "ab", false), 4).unwrap();
        let error = reassembly.push(&part(None, "cde", true), 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        assert_eq!(reassembly.held(), 0, "nothing is held of it");
    }

    #[test]
    fn payloads_are_not_printed() {
        let mut reassembly = Reassembly::default();
        reassembly.push(&part(Some(MessageKind::Text), "secret", false), 10).unwrap();
        assert_eq!(format!("{reassembly:?}"), "Reassembly(Some(Text), 6 bytes)");
    }

    #[test]
    fn the_rest_of_a_message_whose_beginning_is_gone_is_no_message() {
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.push(&part(None, "ab", false), 4).unwrap(), None);
        assert_eq!(reassembly.push(&part(None, "cd", true), 4).unwrap(), None);
        let whole = reassembly.push(&part(Some(MessageKind::Binary), "", false), 4).unwrap();
        assert!(whole.is_none() && reassembly.take().is_some());
    }
}
