//! The engines as a user configures them for a peer.

use std::{fs, io, path::Path, sync::Arc};

use drivetrain::engine::{self, Engine};

/// What an engine is told; by default nothing.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// The only certificate authority that it trusts.
    authority: Option<Vec<u8>>,
    /// The client's certificate and its key.
    identity: Option<Vec<u8>>,
    over_http2: bool,
}

impl Options {
    /// Trusts the authority that `run` made in this folder; with nothing there, as by default.
    pub(crate) fn trusting(dir: &Path) -> io::Result<Self> {
        let path = dir.join("ca/ca.pem");
        let authority = if path.exists() { Some(fs::read(path)?) } else { None };
        Ok(Self { authority, ..Self::default() })
    }

    /// The same, with this client certificate of that folder.
    pub(crate) fn with_certificate(mut self, dir: &Path, name: &str) -> io::Result<Self> {
        let pem = |end: &str| fs::read(dir.join(format!("ca/{name}.{end}")));
        self.identity = Some([pem("pem")?, pem("key")?].concat());
        Ok(self)
    }

    /// The same, opening WebSockets over HTTP/2 on the engines that can.
    pub(crate) fn over_http2(mut self) -> Self {
        self.over_http2 = true;
        self
    }
}

/// Takes the options that each engine with TLS has under the same names.
#[cfg(any(
    feature = "async-std",
    feature = "native-async-std",
    feature = "native-smol",
    feature = "reqwest",
    feature = "smol"
))]
macro_rules! configured {
    ($engine:expr, $options:expr) => {{
        let mut engine = $engine;
        if let Some(pem) = &$options.authority {
            engine = engine.root_certificate_pem(pem).only_these_roots();
        }
        if let Some(pem) = &$options.identity {
            engine = engine.client_certificate_pem(pem);
        }
        engine
    }};
}

/// The engine of this name; `None` if it is not in the build.
pub(crate) fn engine(name: &str, options: &Options) -> Option<Arc<dyn Engine>> {
    match name {
        #[cfg(feature = "async-std")]
        "async-std" => Some(Arc::new(configured!(engine::AsyncStd::new(), options))),
        #[cfg(feature = "fastwebsockets")]
        "fastwebsockets" => Some(Arc::new(engine::FastWebSockets::new().http(http(options)))),
        #[cfg(feature = "native")]
        "native" => Some(Arc::new(engine::Native::new().http(http(options)))),
        #[cfg(feature = "native-async-std")]
        "native-async-std" => Some(Arc::new(configured!(engine::NativeAsyncStd::new(), options))),
        #[cfg(feature = "native-smol")]
        "native-smol" => Some(Arc::new(configured!(engine::NativeSmol::new(), options))),
        #[cfg(feature = "smol")]
        "smol" => Some(Arc::new(configured!(engine::Smol::new(), options))),
        #[cfg(feature = "tungstenite")]
        "tungstenite" => Some(Arc::new(engine::Tungstenite::new().http(http(options)))),
        _ => None,
    }
}

#[cfg(any(feature = "fastwebsockets", feature = "native", feature = "tungstenite"))]
fn http(options: &Options) -> engine::Reqwest {
    let http = configured!(engine::Reqwest::new(), options);
    if options.over_http2 { http.web_socket_over_http2() } else { http }
}
