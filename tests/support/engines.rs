//! The one list of engines for tests and scripts.
//!
//! A test defines a macro with an arm for each kind and calls [`for_each_engine`] with its name. A script reads the names
//! with `.ci/engines`. The kinds say how an engine takes its options:
//!
//! - `tokio`: HTTP and TLS by `.http(Reqwest::new()…)`, a custom stream of tokio;
//! - `futures`, with the crate of the executor: HTTP and TLS by methods of its own, a custom stream of futures-io;
//! - `http`: no WebSockets.

/// Calls `$with!` for each engine in the build, with its kind, its type and its name, which is its feature too; in
/// alphabetical order of the names.
macro_rules! for_each_engine {
    ($with:ident) => {
        #[cfg(feature = "async-std")]
        $with!(futures async_std, AsyncStd, "async-std");
        #[cfg(feature = "fastwebsockets")]
        $with!(tokio, FastWebSockets, "fastwebsockets");
        #[cfg(feature = "native")]
        $with!(tokio, Native, "native");
        #[cfg(feature = "native-async-std")]
        $with!(futures async_std, NativeAsyncStd, "native-async-std");
        #[cfg(feature = "native-smol")]
        $with!(futures smol, NativeSmol, "native-smol");
        #[cfg(feature = "reqwest")]
        $with!(http, Reqwest, "reqwest");
        #[cfg(feature = "smol")]
        $with!(futures smol, Smol, "smol");
        #[cfg(feature = "tungstenite")]
        $with!(tokio, Tungstenite, "tungstenite");
    };
}
