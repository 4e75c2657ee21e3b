//! The engines and the raw libraries in this build.

#[cfg(any(feature = "async-std", feature = "smol"))]
mod async_tungstenite;
mod executor;
mod facade;
#[cfg(feature = "fastwebsockets")]
mod fastwebsockets;
#[cfg(feature = "peers")]
mod peers;
#[cfg(feature = "native")]
mod serving;
mod split;
mod streaming;
mod tcp;
#[cfg(feature = "tungstenite")]
mod tokio_tungstenite;

pub(crate) use executor::{Executor, Spawner};
pub(crate) use tcp::NAME as LIMIT;

use crate::{
    Result,
    subject::{Subject, alone, only, subject},
    work::{Shape, Work},
};

/// All of them: each engine, then the raw libraries beside it; other crates; the limit.
pub(crate) fn all() -> Result<Vec<Box<dyn Subject>>> {
    Ok(vec![
        #[cfg(feature = "native")]
        subject(facade::native()?),
        #[cfg(feature = "native")]
        only(facade::OverTcp::new()?, is_ping_pong),
        #[cfg(feature = "tungstenite")]
        subject(facade::tungstenite()?),
        #[cfg(feature = "tungstenite")]
        subject(tokio_tungstenite::TokioTungstenite::new()?),
        #[cfg(feature = "tungstenite")]
        subject(tokio_tungstenite::TokioTungstenite::with_small_buffer()?),
        #[cfg(feature = "tungstenite")]
        alone(tokio_tungstenite::TokioTungstenite::with_timer()?),
        #[cfg(feature = "tungstenite")]
        only(
            split::Split {
                name: "tokio-tungstenite, split",
                library: tokio_tungstenite::TokioTungstenite::with_small_buffer()?,
            },
            receives,
        ),
        #[cfg(feature = "tungstenite")]
        only(facade::tungstenite_on_threads()?, is_ping_pong),
        #[cfg(feature = "tungstenite")]
        only(tokio_tungstenite::TokioTungstenite::threads()?, is_ping_pong),
        #[cfg(feature = "fastwebsockets")]
        subject(facade::fastwebsockets()?),
        #[cfg(feature = "fastwebsockets")]
        subject(fastwebsockets::Raw::new()?),
        #[cfg(feature = "native-async-std")]
        subject(facade::native_async_std()?),
        #[cfg(feature = "native-smol")]
        subject(facade::native_smol()?),
        #[cfg(feature = "async-std")]
        subject(facade::async_std()?),
        #[cfg(feature = "async-std")]
        subject(async_tungstenite::AsyncStdClient),
        #[cfg(feature = "smol")]
        subject(facade::smol()?),
        #[cfg(feature = "smol")]
        subject(async_tungstenite::SmolClient),
        #[cfg(feature = "peers")]
        subject(peers::tokio_websockets()?),
        #[cfg(feature = "peers")]
        subject(peers::yawc()?),
        #[cfg(feature = "peers")]
        subject(peers::reqwest_websocket()?),
        subject(tcp::Tcp::new()?),
        alone(tcp::Tcp::with_timer()?),
    ])
}

/// The same, and what only takes part where instructions are counted.
pub(crate) fn counted() -> Result<Vec<Box<dyn Subject>>> {
    let mut all = all()?;
    #[cfg(feature = "native")]
    all.insert(1, subject(serving::Serving::new()?));
    Ok(all)
}

/// The one of this name.
pub(crate) fn named(name: &str) -> Result<Box<dyn Subject>> {
    let found = counted()?.into_iter().find(|subject| subject.name() == name);
    found.ok_or_else(|| format!("there is no subject {name} in this build").into())
}

fn is_ping_pong(work: Work) -> bool {
    work.shape == Shape::PingPong
}

fn receives(work: Work) -> bool {
    work.shape == Shape::Receive
}
