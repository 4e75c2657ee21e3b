//! The engines as a user configures them for a peer.

#[macro_use]
#[path = "../support/engines.rs"]
mod list;

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
    prior_knowledge: bool,
}

impl Options {
    /// Trusts the authority that `run` made in this folder; with nothing there, as by default.
    pub(crate) fn trusting(dir: &Path) -> io::Result<Self> {
        let path = dir.join("ca/ca.pem");
        let authority = if path.exists() { Some(fs::read(path)?) } else { None };
        Ok(Self { authority, ..Self::default() })
    }

    /// Trusts this authority alone.
    #[allow(dead_code, reason = "one of the two programs that share this file has no use for it")]
    pub(crate) fn trusting_pem(pem: Vec<u8>) -> Self {
        Self { authority: Some(pem), ..Self::default() }
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

    /// The same, speaking HTTP/2 in clear text on the engines that can, WebSockets included.
    #[allow(dead_code, reason = "one of the two programs that share this file has no use for it")]
    pub(crate) fn prior_knowledge(mut self) -> Self {
        (self.prior_knowledge, self.over_http2) = (true, true);
        self
    }
}

/// The engine of this name; `None` if it is not in the build.
pub(crate) fn engine(name: &str, options: &Options) -> Option<Arc<dyn Engine>> {
    // The options that each engine with TLS has under the same names.
    macro_rules! configured {
        ($engine:expr) => {{
            let mut engine = $engine;
            if let Some(pem) = &options.authority {
                engine = engine.root_certificate_pem(pem).only_these_roots();
            }
            if let Some(pem) = &options.identity {
                engine = engine.client_certificate_pem(pem);
            }
            engine
        }};
    }
    macro_rules! is_it {
        (futures $executor:ident, $Engine:ident, $name:literal) => {
            if name == $name {
                return Some(Arc::new(configured!(engine::$Engine::new())));
            }
        };
        (tokio, $Engine:ident, $name:literal) => {
            if name == $name {
                let http = spoken(configured!(engine::Reqwest::new()), options);
                let http = if options.over_http2 { http.web_socket_over_http2() } else { http };
                return Some(Arc::new(engine::$Engine::new().http(http)));
            }
        };
        (http, $Engine:ident, $name:literal) => {
            if name == $name {
                return Some(Arc::new(spoken(configured!(engine::$Engine::new()), options)));
            }
        };
    }
    for_each_engine!(is_it);
    None
}

#[cfg(feature = "reqwest")]
fn spoken(http: engine::Reqwest, options: &Options) -> engine::Reqwest {
    if options.prior_knowledge { http.http2_prior_knowledge() } else { http }
}
