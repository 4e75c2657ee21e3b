//! Opens a WebSocket: the hop dials and upgrades, the framer takes over.

use drivetrain_engine::{Answer, Duties, Handshake, Result, Role};
use drivetrain_reqwest::Hop;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::{Framer, Framing};

pub(crate) async fn open(hop: &Hop, framing: &Framing, handshake: &Handshake) -> Result<Answer> {
    hop.connect(handshake, Duties::frames(), |stream, read_ahead, _| {
        Framer::new(stream.compat(), &read_ahead, Role::Client, framing)
    })
    .await
}
