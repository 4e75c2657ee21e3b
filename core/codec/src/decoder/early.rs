//! A text whose frame is not complete.

use drivetrain_engine::{Error, OpCode, Utf8Check};

use crate::{head::Head, mask};

/// Checks a text as its bytes come in, where others wait for the end of the frame.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Of the message that is not finished, if it is a text; `None` for one with reserved bits, which are an
    /// extension's: only what that makes of it is UTF-8.
    check: Option<Utf8Check>,
    /// How much of the frame that is not complete was checked.
    seen: usize,
}

impl Early {
    /// Looks at what is here of a data frame's payload, as it came.
    ///
    /// # Errors
    /// [`Error::not_utf8`].
    pub(super) fn look(&mut self, head: &Head, payload: &[u8]) -> Result<(), Error> {
        if head.opcode.is_control() {
            return Ok(());
        }
        if self.seen == 0 && head.opcode != OpCode::Continuation {
            self.check = (head.opcode == OpCode::Text).then(Utf8Check::new);
        }
        if !head.rsv.is_none() {
            self.check = None;
        }
        let is_complete = payload.len() as u64 == head.length;
        if is_complete && head.fin {
            // Who makes a message of it checks it as a whole.
            *self = Self::default();
            return Ok(());
        }
        let seen = self.seen;
        self.seen = if is_complete { 0 } else { payload.len() };
        let Some(check) = &mut self.check else { return Ok(()) };
        let Some(mut mask) = head.mask else { return push(check, &payload[seen..]) };
        mask.rotate_left(seen % 4);
        let mut unmasked = [0; 256];
        for part in payload[seen..].chunks(unmasked.len()) {
            let unmasked = &mut unmasked[..part.len()];
            mask::copy(part, unmasked, mask);
            push(check, unmasked)?;
        }
        Ok(())
    }
}

fn push(check: &mut Utf8Check, piece: &[u8]) -> Result<(), Error> {
    check.push(piece).map_err(|_| Error::not_utf8())
}
