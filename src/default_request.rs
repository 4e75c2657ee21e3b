//! Defaults for every request.

use drivetrain_engine::{Result, redacted};
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::target;

/// A base URL and headers for every request and every handshake of a client.
///
/// A URL without a scheme is joined to the base URL, for WebSockets too: with the base
/// `https://example.com/api/`, `client.web_socket("events")` opens `wss://example.com/api/events`. A
/// header that the request sets itself replaces the default.
///
/// # Example
/// ```
/// use drivetrain::DefaultRequest;
///
/// let defaults = DefaultRequest::new()
///     .base_url("https://example.com/api/")
///     .header("accept-language", "en");
/// ```
#[derive(Clone, Default)]
pub struct DefaultRequest {
    pub(crate) base_url: Option<Result<Url>>,
    pub(crate) headers: Option<Result<HeaderMap>>,
}

impl DefaultRequest {
    /// No defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The URL that relative ones are joined to. An invalid one is an error of
    /// [`build`](crate::HttpClientBuilder::build). Default: none.
    #[must_use]
    pub fn base_url(mut self, url: impl AsRef<str>) -> Self {
        self.base_url = Some(target::parse(url.as_ref(), None));
        self
    }

    /// A header of every request, whatever its host. After a [redirect](crate::Redirects) to another origin
    /// it is sent again unless it is [known to be secret](drivetrain_engine::is_secret): mark the value as
    /// sensitive if the name does not tell. An invalid one is an error of [`build`](crate::HttpClientBuilder::build), and so is
    /// `Proxy-Authorization`: give it to the [proxy](crate::Proxy::basic_auth). Default: none.
    ///
    /// ```
    /// use drivetrain::{DefaultRequest, http::HeaderValue};
    ///
    /// let mut key = HeaderValue::from_static("the key");
    /// key.set_sensitive(true);
    /// let defaults = DefaultRequest::new().header("x-our-customer", key).header("x-api-key", "known by its name");
    /// ```
    #[must_use]
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        let headers =
            self.headers.unwrap_or_else(|| Ok(HeaderMap::new())).and_then(|mut headers| {
                let (name, value) = target::header(name, value)?;
                headers.append(name, value);
                Ok(headers)
            });
        self.headers = Some(headers);
        self
    }

    pub(crate) fn override_by(&mut self, later: Self) {
        if later.base_url.is_some() {
            self.base_url = later.base_url;
        }
        if later.headers.is_some() {
            self.headers = later.headers;
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.url()?;
        self.header_map()?;
        Ok(())
    }

    pub(crate) fn url(&self) -> Result<Option<&Url>> {
        self.base_url.as_ref().map(|url| url.as_ref().map_err(Clone::clone)).transpose()
    }

    /// Adds the default headers whose names are not set.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) -> Result<()> {
        let Some(defaults) = self.header_map()? else { return Ok(()) };
        for name in defaults.keys() {
            if !headers.contains_key(name) {
                for value in defaults.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        Ok(())
    }

    fn header_map(&self) -> Result<Option<&HeaderMap>> {
        self.headers.as_ref().map(|headers| headers.as_ref().map_err(Clone::clone)).transpose()
    }
}

impl std::fmt::Debug for DefaultRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("DefaultRequest");
        match &self.base_url {
            Some(Ok(url)) => debug.field("base_url", &target::display(url)),
            Some(Err(error)) => debug.field("base_url", error),
            None => debug.field("base_url", &None::<()>),
        };
        match &self.headers {
            Some(Ok(headers)) => debug.field("headers", &redacted(headers)),
            other => debug.field("headers", &other.as_ref().map(|_| "invalid")),
        };
        debug.finish()
    }
}
