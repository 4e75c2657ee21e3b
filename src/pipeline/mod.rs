//! What a request goes through between the client and its engine: a stack of `tower` services, the same
//! for plain requests and for handshakes.
//!
//! From the outside in: the user's layers, decompression, redirects, the answer to a 401, cookies, the hop.

#[cfg(feature = "cookies")]
mod cookies;
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
mod decompression;
mod hop;
mod redirect;
mod service;
mod unauthorized;

use std::sync::Arc;

#[cfg(feature = "cookies")]
pub use cookies::CookieJar;
use drivetrain_engine::{ConnectTimeout, Engine};
pub use redirect::Redirects;
pub use service::HttpService;
pub(crate) use service::erase;
use tower::Layer as _;
pub(crate) use unauthorized::Hook;
pub use unauthorized::Unauthorized;

use self::hop::Hop;
use crate::{
    plugin::Installed,
    session::{AppliedBy, SetBy, Setting},
};

/// The encodings that responses are decompressed from, by feature.
const ENCODINGS: &str =
    match (cfg!(feature = "gzip"), cfg!(feature = "brotli"), cfg!(feature = "zstd")) {
        (false, false, false) => "",
        (true, false, false) => "gzip",
        (false, true, false) => "br",
        (false, false, true) => "zstd",
        (true, true, false) => "gzip, br",
        (true, false, true) => "gzip, zstd",
        (false, true, true) => "br, zstd",
        (true, true, true) => "gzip, br, zstd",
    };

/// A layer of the user's, to be put around what is inside of it.
pub(crate) type Wrap = Box<dyn FnOnce(HttpService) -> HttpService + Send>;

/// What is in the stack.
#[derive(Default)]
pub(crate) struct Pipeline {
    pub(crate) redirects: Redirects,
    pub(crate) unauthorized: Option<Hook>,
    pub(crate) without_decompression: bool,
    #[cfg(feature = "cookies")]
    pub(crate) cookies: Option<cookies::CookieJar>,
    /// The outermost one first.
    pub(crate) layers: Vec<Wrap>,
}

impl Pipeline {
    /// The rows of the table that `settings()` prints.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let set_by = |is_default| if is_default { SetBy::Default } else { SetBy::Client };
        let row = |name, value: String, is_default| {
            Setting::new(name, value, set_by(is_default), AppliedBy::Client)
        };
        let is_default = self.redirects == Redirects::default();
        let mut rows = vec![row("redirects", self.redirects.to_string(), is_default)];
        #[cfg(feature = "cookies")]
        rows.push(match &self.cookies {
            Some(_) => row("cookie_jar", "kept".into(), false),
            None => row("cookie_jar", "none".into(), true),
        });
        rows.push(match &self.unauthorized {
            Some(_) => row("on_unauthorized", "a hook, once".into(), false),
            None => row("on_unauthorized", "none".into(), true),
        });
        let decompression = match (self.without_decompression, ENCODINGS) {
            (true, _) | (false, "") => "none",
            (false, encodings) => encodings,
        };
        rows.push(row("decompression", decompression.into(), !self.without_decompression));
        rows.push(row("layers", self.layers.len().to_string(), self.layers.is_empty()));
        rows
    }

    /// The stack over an engine.
    pub(crate) fn over(self, engine: Arc<dyn Engine>, installed: &Installed) -> HttpService {
        let mut stack = HttpService::new(Hop {
            engine,
            connect_timeout: installed.timeout.connect.map(ConnectTimeout),
            proxies: Arc::new(installed.proxies.clone()),
        });
        #[cfg(feature = "cookies")]
        if let Some(jar) = self.cookies {
            stack = erase(cookies::CookiesLayer(jar).layer(stack));
        }
        if let Some(hook) = self.unauthorized {
            stack = erase(unauthorized::UnauthorizedLayer(hook).layer(stack));
        }
        if let Some(layer) = self.redirects.layer() {
            stack = erase(layer.layer(stack));
        }
        #[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
        if !self.without_decompression {
            stack = erase(decompression::ForRequests.layer(stack));
        }
        self.layers.into_iter().rev().fold(stack, |stack, wrap| wrap(stack))
    }
}
