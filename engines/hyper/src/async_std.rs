//! All that is async-std's; `smol.rs` is its twin.

use std::{future::Future, io, net::SocketAddr};

use async_std::net::ToSocketAddrs;

use crate::runtime::{Flavour, sealed};

/// async-std, as the parameter of [`Hop`](crate::Hop).
#[derive(Debug)]
#[non_exhaustive]
pub struct OnAsyncStd;

impl Flavour for OnAsyncStd {}

impl sealed::Flavour for OnAsyncStd {
    const NAME: &'static str = "async-std";

    async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs().await?.collect())
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        // A dropped handle detaches.
        drop(async_std::task::spawn(task));
    }
}
