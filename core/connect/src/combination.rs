//! The engines whose connector is this crate's.

/// Declares an engine that dials and speaks HTTP by this crate: its type with the constructors, the options of the
/// connector and `ping_interval`. The engine's crate adds the options of its framing. The TLS options need the
/// feature `rustls` of the engine's crate, which switches on this crate's.
///
/// ```ignore
/// drivetrain_connect::engine! {
///     /// HTTP and WebSockets on smol, with my frames.
///     pub struct MineSmol(SmolExecutor, MyFraming) = "mine-smol";
/// }
/// ```
#[macro_export]
macro_rules! engine {
    (
        $(#[$attribute:meta])*
        pub struct $Engine:ident($Executor:ty, $Framing:ty) = $name:literal;
    ) => {
        $crate::drivetrain_engine::combination! {
            $(#[$attribute])*
            ///
            /// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
            /// their idle HTTP connections and TLS sessions; setting a TLS option on a clone gives that clone its
            /// own. Of two calls that set the same option the later wins.
            pub struct $Engine($crate::HttpConnector<$Executor>, $Framing) = $name;
        }

        impl $Engine {
            /// The engine with the system's CA certificates, no client certificate, and the defaults of each option.
            /// Does no I/O and does not fail.
            pub fn new() -> Self {
                Self::of($crate::HttpConnector::new(Self::NAME))
            }

            /// The engine over a stream that is connected already, for one WebSocket, once: clones share it. Any
            /// duplex stream of futures-io will do: a Unix socket, TLS from elsewhere, a pipe in memory; a stream of
            /// tokio through the `compat` module of `tokio-util`.
            ///
            /// The URL is used for the handshake's request alone. For `wss` the stream already is the TLS stream: it
            /// is used as it is. HTTP requests, TLS options and a connect timeout are refused. A second connect fails
            /// with [`ErrorKind::Connect`](drivetrain_engine::ErrorKind::Connect); a connect that was dropped has
            /// used the stream. A session polls it under its lock: a poll must not use that session.
            pub fn over(stream: impl $crate::drivetrain_engine::ByteStream + 'static) -> Self {
                Self::of($crate::HttpConnector::over(Self::NAME, stream))
            }

            fn map_options(
                self,
                with: impl FnOnce($crate::ConnectOptions) -> $crate::ConnectOptions,
            ) -> Self {
                self.map_connector(|connector| connector.map_options(with))
            }
        }

        $crate::connect_options!(forward head $Engine);
        $crate::connect_options!(forward dial $Engine);
        $crate::connect_options!(forward pool $Engine);
        #[cfg(feature = "rustls")]
        $crate::connect_options!(forward tls $Engine);
        #[cfg(feature = "rustls")]
        $crate::connect_options!(forward rustls $Engine);

        impl ::core::default::Default for $Engine {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}
