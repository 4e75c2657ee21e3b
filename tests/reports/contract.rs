//! The suite itself, and engines that break the contract on purpose.

#[cfg(feature = "native")]
mod broken;
#[cfg(feature = "native")]
mod bytes;
#[cfg(all(feature = "native", feature = "rustls"))]
mod claims;
#[cfg(feature = "native")]
mod engines;
mod guide;
#[cfg(feature = "native")]
mod own_close;
