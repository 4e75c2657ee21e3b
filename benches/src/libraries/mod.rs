//! The engines and the raw libraries in this build.

#[cfg(any(feature = "async-std", feature = "smol"))]
mod async_tungstenite;
mod executor;
mod facade;
#[cfg(feature = "fastwebsockets")]
mod fastwebsockets;
#[cfg(feature = "tungstenite")]
mod tokio_tungstenite;

pub(crate) use executor::Held;

use crate::{
    Result,
    contender::{Contender, contender},
};

/// All of them: each engine, then the raw libraries beside it.
pub(crate) fn all() -> Result<Vec<Box<dyn Contender>>> {
    Ok(vec![
        #[cfg(feature = "native")]
        contender(facade::native()?),
        #[cfg(feature = "tungstenite")]
        contender(facade::tungstenite()?),
        #[cfg(feature = "tungstenite")]
        contender(tokio_tungstenite::TokioTungstenite::new()?),
        #[cfg(feature = "tungstenite")]
        contender(tokio_tungstenite::TokioTungstenite::with_small_buffer()?),
        #[cfg(feature = "fastwebsockets")]
        contender(facade::fastwebsockets()?),
        #[cfg(feature = "fastwebsockets")]
        contender(fastwebsockets::Raw::new()?),
        #[cfg(feature = "native-async-std")]
        contender(facade::native_async_std()),
        #[cfg(feature = "native-smol")]
        contender(facade::native_smol()),
        #[cfg(feature = "async-std")]
        contender(facade::async_std()),
        #[cfg(feature = "async-std")]
        contender(async_tungstenite::OnAsyncStd),
        #[cfg(feature = "smol")]
        contender(facade::smol()),
        #[cfg(feature = "smol")]
        contender(async_tungstenite::OnSmol),
    ])
}

/// The one of this name.
pub(crate) fn named(name: &str) -> Result<Box<dyn Contender>> {
    let found = all()?.into_iter().find(|contender| contender.name() == name);
    found.ok_or_else(|| format!("there is no contender {name} in this build").into())
}
