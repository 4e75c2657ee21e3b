//! A message in fragments, put together for whoever wants it whole: pure.

use std::fmt;

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Error, ErrorKind, Frame, Result};

use super::{
    assembler::{Part, message},
    kind::MessageKind,
};

/// What is there of the message that the application is to get next.
#[derive(Default)]
pub(super) struct Gathered {
    /// `None` if there is none.
    kind: Option<MessageKind>,
    payload: BytesMut,
}

impl Gathered {
    /// How much is held.
    #[inline]
    pub(super) fn held(&self) -> usize {
        self.payload.len()
    }

    /// Adds a fragment. Returns the message if it was the last one. One that goes on with a message whose
    /// beginning is gone, with a reader that was forgotten, is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`]; what was gathered is dropped.
    pub(super) fn push(&mut self, part: Part, limit: usize) -> Result<Option<Frame>> {
        if part.start.is_some() {
            self.kind = part.start;
        }
        let Some(kind) = self.kind else { return Ok(None) };
        let size = self.payload.len().saturating_add(part.payload.len());
        if size > limit {
            self.clear();
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("a message of at least {size} bytes is above the limit of {limit}"),
            ));
        }
        self.payload.extend_from_slice(&part.payload);
        if !part.last {
            return Ok(None);
        }
        let payload = std::mem::take(self).payload.freeze();
        message(kind, payload).map(Some)
    }

    /// Takes what is there of an unfinished message.
    pub(super) fn take(&mut self) -> Option<(MessageKind, Bytes)> {
        let kind = self.kind?;
        Some((kind, std::mem::take(self).payload.freeze()))
    }

    /// Throws it away.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gathered({:?}, {} bytes)", self.kind, self.payload.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: Option<MessageKind>, payload: &'static str, last: bool) -> Part {
        Part { start, payload: payload.into(), last }
    }

    #[test]
    fn fragments_become_a_message_up_to_the_limit() {
        let mut gathered = Gathered::default();
        let text = Some(MessageKind::Text);
        assert_eq!(gathered.push(part(text, "ab", false), 4).unwrap(), None);
        assert_eq!(gathered.held(), 2);
        let whole = gathered.push(part(None, "cd", true), 4).unwrap();
        assert_eq!(whole, Some(Frame::from("abcd")));
        assert_eq!(gathered.held(), 0);
        gathered.push(part(text, "ab", false), 4).unwrap();
        let error = gathered.push(part(None, "cde", true), 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        assert_eq!(gathered.held(), 0, "nothing is held of it");
    }

    #[test]
    fn payloads_are_not_printed() {
        let mut gathered = Gathered::default();
        gathered.push(part(Some(MessageKind::Text), "secret", false), 10).unwrap();
        assert_eq!(format!("{gathered:?}"), "Gathered(Some(Text), 6 bytes)");
    }

    #[test]
    fn the_rest_of_a_message_whose_beginning_is_gone_is_no_message() {
        let mut gathered = Gathered::default();
        assert_eq!(gathered.push(part(None, "ab", false), 4).unwrap(), None);
        assert_eq!(gathered.push(part(None, "cd", true), 4).unwrap(), None);
        let whole = gathered.push(part(Some(MessageKind::Binary), "", false), 4).unwrap();
        assert!(whole.is_none() && gathered.take().is_some());
    }
}
