//! What was set for TLS, and the configuration made of it when it is first needed.

#[cfg(feature = "rustls")]
pub(crate) use rustls_only::Secure;

/// Without TLS there is nothing to set.
#[cfg(not(feature = "rustls"))]
#[derive(Clone, Default)]
pub(crate) struct Secure;

#[cfg(not(feature = "rustls"))]
#[expect(clippy::unused_self, reason = "as with TLS")]
impl Secure {
    pub(crate) fn check(&self) -> drivetrain_engine::Result<()> {
        Ok(())
    }

    pub(crate) fn set(&self) -> &[(&'static str, String)] {
        &[]
    }
}

#[cfg(feature = "rustls")]
mod rustls_only {
    use std::sync::{Arc, Mutex, PoisonError};

    use drivetrain_engine::{Error, ErrorKind, Result};
    use drivetrain_tls::{Tls, TlsError};
    use rustls::ClientConfig;

    #[derive(Clone, Default)]
    pub(crate) struct Secure {
        tls: Tls,
        /// What was set, in order; never a key.
        set: Vec<(&'static str, String)>,
        made: Arc<Mutex<Option<Arc<ClientConfig>>>>,
    }

    impl Secure {
        pub(crate) fn change(
            &mut self,
            name: &'static str,
            value: String,
            with: impl FnOnce(Tls) -> Tls,
        ) {
            self.tls = with(std::mem::take(&mut self.tls));
            self.set.push((name, value));
            self.made = Arc::default();
        }

        pub(crate) fn set(&self) -> &[(&'static str, String)] {
            &self.set
        }

        pub(crate) fn check(&self) -> Result<()> {
            self.tls.check().map_err(refused)
        }

        /// The configuration, for HTTP/1.1 only. The first call reads the system's CA store, which takes
        /// milliseconds; a failure is not kept.
        pub(crate) fn config(&self) -> Result<Arc<ClientConfig>> {
            let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(config) = &*made() {
                return Ok(config.clone());
            }
            // Made without the lock. Whoever is second uses the first's, with its TLS sessions.
            let config = self.tls.client_config(&[b"http/1.1"]).map_err(refused)?;
            Ok(made().get_or_insert(config).clone())
        }
    }

    /// TLS that could not be set up: the caller's mistake where one was made.
    fn refused(error: TlsError) -> Error {
        let kind = match error {
            TlsError::NoSystemRoots { .. } | TlsError::Refused { .. } => ErrorKind::Tls,
            _ => ErrorKind::InvalidInput,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}
