//! Opens a WebSocket: the hop dials and upgrades, the framer takes over.

use drivetrain_engine::{Answer, Duties, Handshake, Result};
use drivetrain_reqwest::Hop;

use crate::framer::{Framer, Options};

pub(crate) async fn open(hop: &Hop, options: &Options, handshake: &Handshake) -> Result<Answer> {
    let options = options.clone();
    hop.connect(handshake, Duties::frames(), |stream, read_ahead, _| {
        Framer::new(stream, read_ahead, options)
    })
    .await
}
