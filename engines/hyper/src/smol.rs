//! All that is smol's; `async_std.rs` is its twin.

use std::{future::Future, io, net::SocketAddr};

use crate::runtime::{Flavour, sealed};

/// smol, as the parameter of [`Hop`](crate::Hop).
#[derive(Debug)]
#[non_exhaustive]
pub struct OnSmol;

impl Flavour for OnSmol {}

impl sealed::Flavour for OnSmol {
    const NAME: &'static str = "smol";

    async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve((host, port)).await
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        // A dropped task is cancelled, where async-std's handle detaches.
        smol::spawn(task).detach();
    }
}
