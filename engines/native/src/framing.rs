//! The frames of this crate, on any runtime and for both roles.

use drivetrain_codec::{Buffers, Framer};
use drivetrain_engine::{
    Accepted, BoxStream, Bytes, EngineSettings, Framing, Result, Role, Transport,
};

/// Frames by [`drivetrain_codec`], on any runtime and for both roles.
///
/// ```
/// use drivetrain_native::NativeFraming;
///
/// let framing = NativeFraming::new().read_buffer_size(16 << 10);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeFraming {
    buffers: Buffers,
}

impl NativeFraming {
    /// The framing with the defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    fn map_buffers(mut self, with: impl FnOnce(Buffers) -> Buffers) -> Self {
        self.buffers = with(self.buffers);
        self
    }
}

drivetrain_codec::buffer_options!(NativeFraming, map_buffers);

impl Framing for NativeFraming {
    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.native = self.buffers.settings();
        settings
    }

    fn check(&self) -> Result<()> {
        self.buffers.check()
    }

    fn transport(
        &self,
        stream: BoxStream,
        read_ahead: Bytes,
        role: Role,
        _: &Accepted,
    ) -> Result<Box<dyn Transport>> {
        Ok(Box::new(Framer::new(stream, &read_ahead, role, &self.buffers)))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use drivetrain_engine::{ErrorKind, OpCode, RawFrame};
    use futures_util::io::Cursor;

    use super::*;

    /// The transport of a peer that has sent `read_ahead` and `bytes`, and ends.
    fn transport(read_ahead: &'static [u8], bytes: &[u8], role: Role) -> Box<dyn Transport> {
        let stream = Box::new(Cursor::new(bytes.to_vec()));
        let read_ahead = Bytes::from_static(read_ahead);
        NativeFraming::new()
            .transport(stream, read_ahead, role, &Accepted::default())
            .expect("a transport")
    }

    fn receive(transport: &mut dyn Transport) -> Result<Option<RawFrame>> {
        match transport.poll_receive(&mut Context::from_waker(Waker::noop()), 100) {
            Poll::Ready(received) => received,
            Poll::Pending => panic!("the stream has all of its bytes"),
        }
    }

    #[test]
    fn a_client_reads_unmasked_frames_and_a_server_masked_ones() {
        let unmasked: &[u8] = b"\x81\x02hi";
        let masked: &[u8] = b"\x81\x82\x01\x02\x03\x04\x69\x6b";
        for (bytes, role, other) in
            [(unmasked, Role::Client, Role::Server), (masked, Role::Server, Role::Client)]
        {
            let frame = receive(&mut *transport(b"", bytes, role)).expect("receives");
            assert_eq!(frame, Some(RawFrame::new(OpCode::Text, "hi")));
            let error = receive(&mut *transport(b"", bytes, other)).expect_err("the wrong end's");
            assert_eq!(error.kind(), ErrorKind::Protocol);
        }
    }

    #[test]
    fn bytes_that_were_read_ahead_come_first() {
        let mut transport = transport(b"\x81\x02a", b"b\x82\x01c", Role::Client);
        let first = receive(&mut *transport).expect("receives");
        assert_eq!(first, Some(RawFrame::new(OpCode::Text, "ab")));
        let second = receive(&mut *transport).expect("receives");
        assert_eq!(second, Some(RawFrame::new(OpCode::Binary, "c")));
        assert_eq!(receive(&mut *transport).expect("the end"), None);
    }

    #[test]
    fn a_size_of_zero_is_refused_by_name() {
        for (framing, option) in [
            (NativeFraming::new().read_buffer_size(0), "read_buffer_size"),
            (NativeFraming::new().write_buffer_size(0), "write_buffer_size"),
        ] {
            let error = framing.check().expect_err(option);
            assert!(error.to_string().contains(option), "{error}");
            assert_eq!(framing.settings().native.len(), 2);
        }
    }
}
