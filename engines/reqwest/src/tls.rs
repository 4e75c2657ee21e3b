//! The TLS options, for rustls and for the system's TLS.

use drivetrain_engine::Result;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
use drivetrain_engine::{Error, ErrorKind, TlsVersion};
use reqwest::ClientBuilder;

/// What to trust and who to be, for whichever TLS is used in the end.
#[derive(Clone, Default)]
pub(crate) struct Secure {
    #[cfg(feature = "rustls")]
    rustls: drivetrain_tls::Tls,
    #[cfg(feature = "native-tls")]
    native: native::Native,
    /// Whether `.native_tls()` was called.
    #[cfg(all(feature = "rustls", feature = "native-tls"))]
    is_native: bool,
}

impl Secure {
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub(crate) fn root(&mut self, pem: &[u8]) {
        #[cfg(feature = "rustls")]
        self.change(|tls| tls.root_certificate_pem(pem));
        #[cfg(feature = "native-tls")]
        self.native.roots.push(pem.to_vec());
    }

    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub(crate) fn client_certificate(&mut self, pem: &[u8]) {
        #[cfg(feature = "rustls")]
        self.change(|tls| tls.client_certificate_pem(pem));
        #[cfg(feature = "native-tls")]
        self.native.client.replace(pem.to_vec());
    }

    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub(crate) fn only_these_roots(&mut self) {
        #[cfg(feature = "rustls")]
        self.change(drivetrain_tls::Tls::only_these_roots);
        #[cfg(feature = "native-tls")]
        {
            self.native.only_these_roots = true;
        }
    }

    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub(crate) fn min_version(&mut self, version: TlsVersion) {
        #[cfg(feature = "rustls")]
        self.change(|tls| tls.min_version(version));
        #[cfg(feature = "native-tls")]
        self.native.min_version.replace(version);
    }

    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub(crate) fn accept_any_certificate(&mut self) {
        #[cfg(feature = "rustls")]
        self.change(drivetrain_tls::Tls::danger_accept_any_certificate);
        #[cfg(feature = "native-tls")]
        {
            self.native.accepts_any = true;
        }
    }

    #[cfg(feature = "rustls")]
    pub(crate) fn change(&mut self, with: impl FnOnce(drivetrain_tls::Tls) -> drivetrain_tls::Tls) {
        self.rustls = with(std::mem::take(&mut self.rustls));
    }

    #[cfg(feature = "native-tls")]
    pub(crate) fn use_native(&mut self) {
        #[cfg(feature = "rustls")]
        {
            self.is_native = true;
        }
    }

    /// Whether the system's TLS is used.
    #[cfg(feature = "native-tls")]
    pub(crate) fn is_native(&self) -> bool {
        #[cfg(feature = "rustls")]
        return self.is_native;
        #[cfg(not(feature = "rustls"))]
        true
    }

    /// Refuses what can never work; no I/O.
    pub(crate) fn check(&self) -> Result<()> {
        #[cfg(feature = "native-tls")]
        if self.is_native() {
            return self.native.check();
        }
        #[cfg(feature = "rustls")]
        self.rustls.check().map_err(refused)?;
        Ok(())
    }

    /// What rustls is to do on a connection of the engine's own.
    #[cfg(feature = "rustls")]
    pub(crate) fn rustls_config(
        &self,
        alpn: &[&[u8]],
    ) -> Result<std::sync::Arc<rustls::ClientConfig>> {
        self.rustls.client_config(alpn).map_err(refused)
    }

    /// Sets the TLS of a client. One that is not for `https` gets TLS that trusts nobody, so that it
    /// works on a machine without a CA store.
    #[cfg_attr(not(feature = "rustls"), expect(unused_variables, reason = "rustls takes them"))]
    pub(crate) fn apply(
        &self,
        builder: ClientBuilder,
        is_secure: bool,
        alpn: &[&[u8]],
    ) -> Result<ClientBuilder> {
        #[cfg(feature = "native-tls")]
        if self.is_native() {
            return self.native.apply(builder, is_secure);
        }
        #[cfg(feature = "rustls")]
        return {
            let config = if is_secure {
                let config = self.rustls.client_config(alpn).map_err(refused)?;
                std::sync::Arc::unwrap_or_clone(config)
            } else {
                trusting_nobody()?
            };
            Ok(builder.tls_backend_preconfigured(config))
        };
        #[cfg(not(feature = "rustls"))]
        Ok(builder)
    }
}

/// TLS that could not be set up: the caller's mistake where one was made.
#[cfg(feature = "rustls")]
fn refused(error: drivetrain_tls::TlsError) -> Error {
    let kind = match error {
        drivetrain_tls::TlsError::NoSystemRoots { .. }
        | drivetrain_tls::TlsError::Refused { .. } => ErrorKind::Tls,
        _ => ErrorKind::InvalidInput,
    };
    Error::new(kind, error.to_string()).with_source(error)
}

#[cfg(feature = "rustls")]
fn trusting_nobody() -> Result<rustls::ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Tls, "TLS cannot be set up").with_source(error))?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

#[cfg(feature = "native-tls")]
mod native {
    use std::borrow::Cow;

    use super::{ClientBuilder, Error, ErrorKind, Result, TlsVersion};

    /// PEM as it was given; the system's library reads it when a client is made.
    #[derive(Clone, Default)]
    pub(super) struct Native {
        pub(super) roots: Vec<Vec<u8>>,
        pub(super) client: Option<Vec<u8>>,
        pub(super) only_these_roots: bool,
        pub(super) min_version: Option<TlsVersion>,
        pub(super) accepts_any: bool,
    }

    impl Native {
        pub(super) fn check(&self) -> Result<()> {
            if self.accepts_any && (!self.roots.is_empty() || self.only_these_roots) {
                return Err(invalid(
                    "root certificates have no effect beside danger_accept_any_certificate: leave one \
                     of them out",
                ));
            }
            if self.only_these_roots && self.roots.is_empty() {
                return Err(invalid(
                    "no CA certificates to trust, as only_these_roots was called: add one with \
                     root_certificate_pem",
                ));
            }
            self.certificates()?;
            self.identity()?;
            Ok(())
        }

        pub(super) fn apply(
            &self,
            builder: ClientBuilder,
            is_secure: bool,
        ) -> Result<ClientBuilder> {
            let builder = builder.tls_backend_native();
            if !is_secure {
                return Ok(builder.tls_certs_only([]));
            }
            self.check()?;
            let roots = self.certificates()?;
            let builder = match self.min_version {
                Some(TlsVersion::V1_2) => builder.tls_version_min(reqwest::tls::Version::TLS_1_2),
                Some(_) => builder.tls_version_min(reqwest::tls::Version::TLS_1_3),
                None => builder,
            };
            let builder = if self.accepts_any {
                builder
                    .tls_danger_accept_invalid_certs(true)
                    .tls_danger_accept_invalid_hostnames(true)
            } else {
                builder
            };
            let builder = if self.only_these_roots {
                builder.tls_certs_only(roots)
            } else {
                builder.tls_certs_merge(roots)
            };
            Ok(match self.identity()? {
                Some(identity) => builder.identity(identity),
                None => builder,
            })
        }

        fn certificates(&self) -> Result<Vec<reqwest::Certificate>> {
            let mut all = Vec::new();
            for (index, pem) in self.roots.iter().enumerate() {
                let which = index + 1;
                let read = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| {
                    invalid(format!("root certificate {which} is not a PEM certificate"))
                        .with_source(error)
                })?;
                if read.is_empty() {
                    return Err(invalid(format!(
                        "root certificate {which} is not a PEM certificate: there is no BEGIN \
                         CERTIFICATE in it"
                    )));
                }
                all.extend(read);
            }
            Ok(all)
        }

        fn identity(&self) -> Result<Option<reqwest::Identity>> {
            let Some(pem) = &self.client else { return Ok(None) };
            let key = pkcs8(pem).ok_or_else(|| {
                invalid(
                    "the client certificate is not usable PEM: native-tls needs its key as PKCS#8 \
                     (BEGIN PRIVATE KEY), not encrypted",
                )
            })?;
            reqwest::Identity::from_pkcs8_pem(pem, key.as_bytes()).map(Some).map_err(|error| {
                invalid("the client certificate and its key cannot be used").with_source(error)
            })
        }
    }

    /// The private key alone, which the library wants apart from the certificates.
    fn pkcs8(pem: &[u8]) -> Option<String> {
        const END: &str = "-----END PRIVATE KEY-----";
        let text = std::str::from_utf8(pem).ok()?;
        let key = &text[text.find("-----BEGIN PRIVATE KEY-----")?..];
        Some(format!("{}\n", &key[..key.find(END)? + END.len()]))
    }

    fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(ErrorKind::InvalidInput, message)
    }
}
