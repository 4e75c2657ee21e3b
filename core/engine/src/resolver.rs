//! Name resolution by the user's own code.

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};

/// Resolves host names in place of the system, for the option `resolver` of engines with sockets.
///
/// The addresses are tried as those of the system are. A port of zero is the URL's, and a port in the URL is used in any
/// case. An error, and an empty list, fail the call with [`ErrorKind::Connect`](crate::ErrorKind::Connect), with the error
/// as its source.
///
/// ```
/// use drivetrain_engine::Resolver;
///
/// let resolver = Resolver::new(|host: String| async move {
///     match host.as_str() {
///         "api.internal" => Ok(vec![([10, 0, 0, 7], 0).into()]),
///         _ => Err(std::io::Error::other("only api.internal is known here")),
///     }
/// });
/// # let _ = resolver;
/// ```
#[derive(Clone)]
pub struct Resolver(Arc<Resolve>);

type Resolve = dyn Fn(String) -> Resolving + Send + Sync;
type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

impl Resolver {
    /// Calls this function with each host name, and never with an IP address.
    pub fn new<F, A>(resolve: F) -> Self
    where
        F: Fn(String) -> A + Send + Sync + 'static,
        A: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |host| Box::pin(resolve(host))))
    }

    /// The addresses of this host.
    ///
    /// # Errors
    /// Those of the function.
    pub async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        (self.0)(host.to_owned()).await
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}
