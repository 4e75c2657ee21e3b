//! Opens a WebSocket: the hop dials and upgrades, the framer takes over.

use drivetrain_engine::{Answer, Duties, Handshake, Result, Role};
use drivetrain_reqwest::Hop;
use drivetrain_tungstenite_common::{Framer, Options as Framing};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

pub(crate) async fn open(hop: &Hop, framing: &Framing, handshake: &Handshake) -> Result<Answer> {
    hop.connect(handshake, Duties::frames(), |stream, read_ahead, _| {
        Framer::with_leftover(stream.compat(), read_ahead, Role::Client, framing)
    })
    .await
}
