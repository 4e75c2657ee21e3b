//! The engines in this build. The one file that knows them by name.
//!
//! Each engine is a value with typed options of its own, handed to
//! [`HttpClient::new`](crate::HttpClient::new). An engine of your own implements [`Engine`] from
//! `drivetrain-engine`; `docs/how-to/writing-an-engine.md` shows how.

use std::sync::Arc;

pub use drivetrain_engine::{
    Answer, Connection, Duties, Engine, EngineSettings, Handshake, Instant, Limits, Progress, Role,
    Runtime, Timer, Transport, Unit, async_trait,
};

/// All of the engine's own crate: its native types, such as `WebSocketConfig`.
#[cfg(any(feature = "async-std", feature = "smol"))]
pub use drivetrain_async_std as async_std;
#[cfg(feature = "async-std")]
pub use drivetrain_async_std::AsyncStd;
#[cfg(feature = "smol")]
pub use drivetrain_async_std::Smol;
/// All of the engine's own crate: its native types, such as `fastwebsockets::WebSocket`.
#[cfg(feature = "fastwebsockets")]
pub use drivetrain_fastwebsockets as fastwebsockets;
#[cfg(feature = "fastwebsockets")]
pub use drivetrain_fastwebsockets::FastWebSockets;
/// All of the engine's own crate, its framer for instance.
#[cfg(any(
    feature = "native",
    feature = "native-async-std",
    feature = "native-smol",
    feature = "server"
))]
pub use drivetrain_native as native;
#[cfg(feature = "native")]
pub use drivetrain_native::Native;
#[cfg(feature = "native-async-std")]
pub use drivetrain_native::NativeAsyncStd;
#[cfg(feature = "native-smol")]
pub use drivetrain_native::NativeSmol;
/// All of the engine's own crate: its native types, such as `reqwest::Client`.
#[cfg(feature = "reqwest")]
pub use drivetrain_reqwest as reqwest;
#[cfg(feature = "reqwest")]
pub use drivetrain_reqwest::Reqwest;
/// All of the engine's own crate: its native types, such as `WebSocketConfig`.
#[cfg(feature = "tungstenite")]
pub use drivetrain_tungstenite as tungstenite;
#[cfg(feature = "tungstenite")]
pub use drivetrain_tungstenite::Tungstenite;

/// Every engine in this build with its default options, in alphabetical order of their names: for
/// programs that let their user choose, for comparisons and for tests.
///
/// ```
/// for engine in drivetrain::engine::all() {
///     println!("{}", engine.name());
/// }
/// ```
pub fn all() -> Vec<Arc<dyn Engine>> {
    vec![
        #[cfg(feature = "async-std")]
        Arc::new(AsyncStd::new()),
        #[cfg(feature = "fastwebsockets")]
        Arc::new(FastWebSockets::new()),
        #[cfg(feature = "native")]
        Arc::new(Native::new()),
        #[cfg(feature = "native-async-std")]
        Arc::new(NativeAsyncStd::new()),
        #[cfg(feature = "native-smol")]
        Arc::new(NativeSmol::new()),
        #[cfg(feature = "reqwest")]
        Arc::new(Reqwest::new()),
        #[cfg(feature = "smol")]
        Arc::new(Smol::new()),
        #[cfg(feature = "tungstenite")]
        Arc::new(Tungstenite::new()),
    ]
}

/// The client on the engine `Tungstenite`; it exists only with that feature and never means another
/// engine.
#[cfg(feature = "tungstenite")]
impl Default for crate::client::HttpClient {
    fn default() -> Self {
        Self::new(Tungstenite::new())
    }
}
