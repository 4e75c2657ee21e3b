//! The engines whose connector is this crate's.

/// Declares an engine that dials and speaks HTTP by this crate, on tokio: its type with the constructors, `http` and
/// `ping_interval`. The engine's crate adds the options of its framing.
///
/// ```ignore
/// drivetrain_reqwest::engine! {
///     /// HTTP and WebSockets on tokio, with my frames.
///     pub struct Mine(MyFraming) = "mine";
/// }
/// ```
#[macro_export]
macro_rules! engine {
    (
        $(#[$attribute:meta])*
        pub struct $Engine:ident($Framing:ty) = $name:literal;
    ) => {
        $crate::drivetrain_engine::combination! {
            $(#[$attribute])*
            ///
            /// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
            /// their HTTP connections.
            pub struct $Engine($crate::ReqwestConnector, $Framing) = $name;
        }

        impl $Engine {
            /// The engine with the defaults of each option.
            pub fn new() -> Self {
                Self::of($crate::ReqwestConnector::new(Self::NAME, $crate::Reqwest::new()))
            }

            /// The engine over a stream that is connected already, for one WebSocket, once: clones share it. Any
            /// duplex stream of tokio will do: a Unix socket, TLS from elsewhere, a pipe in memory.
            ///
            /// The URL is used for the handshake's request alone. For `wss` the stream already is the TLS stream: it
            /// is used as it is. HTTP requests and a connect timeout are refused. A second connect fails with
            /// [`ErrorKind::Connect`](drivetrain_engine::ErrorKind::Connect); a connect that was dropped has used
            /// the stream. Options of [`http`](Self::http) are refused when the client is built. A session polls the
            /// stream under its lock: a poll must not use that session.
            pub fn over(stream: impl $crate::CustomStream + 'static) -> Self {
                Self::of($crate::ReqwestConnector::over(Self::NAME, stream))
            }

            /// Sets the options of HTTP requests, and of the connection and the TLS of handshakes. Default:
            /// [`Reqwest::new`].
            #[must_use]
            pub fn http(self, http: $crate::Reqwest) -> Self {
                self.map_connector(|connector| connector.with_http(http))
            }
        }

        impl ::core::default::Default for $Engine {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}
