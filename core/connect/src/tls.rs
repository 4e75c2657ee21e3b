//! What was set for TLS, and TLS over a connection.

use std::sync::{Mutex, PoisonError};

use drivetrain_engine::{Error, Result};
#[cfg(any(feature = "rustls", feature = "native-tls"))]
use drivetrain_engine::{ErrorKind, TlsVersion};

use crate::stream::ConnectedStream;

/// Whether there is TLS in this build.
pub(crate) const IS_BUILT: bool = cfg!(any(feature = "rustls", feature = "native-tls"));

/// Why there is none.
pub(crate) const NO_TLS: &str =
    "it was built without TLS: switch on cargo feature `rustls` or `native-tls`";

/// TLS as it was set, for rustls and for the system's library.
///
/// Setters neither fail nor do I/O; [`check`](Self::check) reports what cannot be used.
#[derive(Clone, Default)]
pub struct TlsOptions {
    #[cfg(feature = "rustls")]
    rustls: drivetrain_tls::Tls,
    #[cfg(feature = "native-tls")]
    native: native::NativeOptions,
    /// Whether the system's library was asked for.
    #[cfg(all(feature = "rustls", feature = "native-tls"))]
    is_native: bool,
    /// The latest option that was set and that rustls alone has.
    #[cfg(feature = "rustls")]
    of_rustls: Option<&'static str>,
}

/// TLS that is ready to be used, made by [`TlsOptions::connector`].
#[derive(Clone)]
#[non_exhaustive]
pub enum TlsConnector {
    /// rustls.
    #[cfg(feature = "rustls")]
    Rustls(std::sync::Arc<rustls::ClientConfig>),
    /// The system's library.
    #[cfg(feature = "native-tls")]
    Native(native_tls::TlsConnector),
}

impl std::fmt::Debug for TlsConnector {
    #[cfg_attr(
        not(any(feature = "rustls", feature = "native-tls")),
        allow(unreachable_code, unused_variables, reason = "there is no TLS")
    )]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match *self {
            #[cfg(feature = "rustls")]
            Self::Rustls(_) => "rustls",
            #[cfg(feature = "native-tls")]
            Self::Native(_) => "native-tls",
        })
    }
}

/// Prints what was set, never certificates or keys.
impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("TlsOptions");
        #[cfg(feature = "rustls")]
        debug.field("rustls", &self.rustls);
        #[cfg(feature = "native-tls")]
        debug.field("is_native", &self.is_native());
        debug.finish()
    }
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
impl TlsOptions {
    /// Trusts the certificates in `pem` as well; it may be a bundle. Default: none.
    pub fn root_certificate_pem(&mut self, pem: &[u8]) {
        #[cfg(feature = "rustls")]
        self.change_rustls(|tls| tls.root_certificate_pem(pem));
        #[cfg(feature = "native-tls")]
        self.native.roots.push(pem.to_vec());
    }

    /// Presents this certificate to a server that asks for one. Default: none.
    pub fn client_certificate_pem(&mut self, pem: &[u8]) {
        #[cfg(feature = "rustls")]
        self.change_rustls(|tls| tls.client_certificate_pem(pem));
        #[cfg(feature = "native-tls")]
        self.native.client.replace(pem.to_vec());
    }

    /// Trusts the root certificates that were given alone. Default: the system's too.
    pub fn only_these_roots(&mut self) {
        #[cfg(feature = "rustls")]
        self.change_rustls(drivetrain_tls::Tls::only_these_roots);
        #[cfg(feature = "native-tls")]
        {
            self.native.only_these_roots = true;
        }
    }

    /// Refuses servers that only speak an older version. Default: the library's.
    pub fn min_version(&mut self, version: TlsVersion) {
        #[cfg(feature = "rustls")]
        self.change_rustls(|tls| tls.min_version(version));
        #[cfg(feature = "native-tls")]
        self.native.min_version.replace(version);
    }

    /// **Accepts whatever certificate a server shows, for any name.** Default: certificates are verified.
    pub fn danger_accept_any_certificate(&mut self) {
        #[cfg(feature = "rustls")]
        self.change_rustls(drivetrain_tls::Tls::danger_accept_any_certificate);
        #[cfg(feature = "native-tls")]
        {
            self.native.accepts_any = true;
        }
    }

    #[cfg(feature = "rustls")]
    fn change_rustls(&mut self, with: impl FnOnce(drivetrain_tls::Tls) -> drivetrain_tls::Tls) {
        self.rustls = with(std::mem::take(&mut self.rustls));
    }

    /// Sets the option of this name, which rustls alone has.
    #[cfg(feature = "rustls")]
    pub(crate) fn set_of_rustls(
        &mut self,
        option: &'static str,
        with: impl FnOnce(drivetrain_tls::Tls) -> drivetrain_tls::Tls,
    ) {
        self.of_rustls = Some(option);
        self.change_rustls(with);
    }

    /// Uses the system's library. Default: rustls, if this build has it.
    #[cfg(feature = "native-tls")]
    pub fn use_native(&mut self) {
        #[cfg(feature = "rustls")]
        {
            self.is_native = true;
        }
    }
}

impl TlsOptions {
    /// Whether the system's library is used.
    pub fn is_native(&self) -> bool {
        #[cfg(all(feature = "rustls", feature = "native-tls"))]
        return self.is_native;
        #[cfg(not(all(feature = "rustls", feature = "native-tls")))]
        cfg!(feature = "native-tls")
    }

    /// Refuses what can never work. No I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], saying which option and what would be right.
    pub fn check(&self) -> Result<()> {
        #[cfg(feature = "native-tls")]
        if self.is_native() {
            #[cfg(feature = "rustls")]
            if let Some(option) = self.of_rustls {
                let message =
                    format!("{option} has no effect on native-tls: leave one of them out");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            return self.native.check();
        }
        #[cfg(feature = "rustls")]
        self.rustls.check().map_err(refused)?;
        Ok(())
    }

    /// TLS that offers these protocols, the preferred one first. Reads the system's CA store, which takes
    /// milliseconds: keep the result, which also holds the TLS sessions.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] if there is nothing to trust, [`ErrorKind::Unsupported`] in a build without TLS, and those
    /// of [`check`](Self::check).
    #[cfg_attr(
        not(any(feature = "rustls", feature = "native-tls")),
        allow(unused_variables, reason = "there is no TLS to offer anything with")
    )]
    pub fn connector(&self, alpn: &[&str]) -> Result<TlsConnector> {
        #[cfg(feature = "native-tls")]
        if self.is_native() {
            return self.native.connector(alpn, true).map(TlsConnector::Native);
        }
        #[cfg(feature = "rustls")]
        return {
            let alpn: Vec<_> = alpn.iter().map(|name| name.as_bytes()).collect();
            self.rustls.client_config(&alpn).map(TlsConnector::Rustls).map_err(refused)
        };
        #[cfg(not(feature = "rustls"))]
        Err(Error::not_offered(drivetrain_engine::Capability::Tls, "it was built without TLS"))
    }

    /// TLS that trusts nobody, for a client that is not for `https`: no CA store is read.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] if the library refuses.
    pub fn trusting_nobody(&self) -> Result<TlsConnector> {
        #[cfg(feature = "native-tls")]
        if self.is_native() {
            return self.native.connector(&[], false).map(TlsConnector::Native);
        }
        #[cfg(feature = "rustls")]
        return {
            let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| {
                    Error::new(ErrorKind::Tls, "TLS cannot be set up").with_source(error)
                })?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            Ok(TlsConnector::Rustls(std::sync::Arc::new(config)))
        };
        #[cfg(not(feature = "rustls"))]
        Err(Error::not_offered(drivetrain_engine::Capability::Tls, "it was built without TLS"))
    }
}

/// TLS that was made when it was first needed; a failure is not kept.
#[derive(Default)]
pub(crate) struct Made(Mutex<Option<TlsConnector>>);

impl Made {
    #[cfg_attr(
        not(any(feature = "rustls", feature = "native-tls")),
        allow(unreachable_code, reason = "there is no TLS to make")
    )]
    /// The kept value, or a new one, made without the lock: a second caller uses the first one's.
    pub(crate) fn get(&self, make: impl FnOnce() -> Result<TlsConnector>) -> Result<TlsConnector> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*lock() {
            return Ok(kept.clone());
        }
        let made = make()?;
        Ok(lock().get_or_insert(made).clone())
    }
}

impl TlsConnector {
    /// TLS with this host over a connection. The error is the library's, or that of a name that TLS cannot verify.
    #[cfg_attr(
        not(any(feature = "rustls", feature = "native-tls")),
        allow(unused_variables, reason = "there is no TLS")
    )]
    pub(crate) async fn secure(
        &self,
        host: &str,
        stream: ConnectedStream,
    ) -> Result<ConnectedStream, Failed> {
        match *self {
            #[cfg(feature = "rustls")]
            Self::Rustls(ref config) => {
                let name = rustls::pki_types::ServerName::try_from(host.to_owned());
                let name = name.map_err(|error| {
                    let message = format!("`{host}` is not a name that TLS can verify");
                    Failed::Name(Error::new(ErrorKind::InvalidInput, message).with_source(error))
                })?;
                let connector = futures_rustls::TlsConnector::from(config.clone());
                let (bytes, parts) = stream.into_parts();
                let layer = connector.connect(name, bytes).await.map_err(Failed::Io)?;
                let is_http2 = layer.get_ref().1.alpn_protocol() == Some(b"h2");
                Ok(ConnectedStream::layered(&parts, layer, is_http2))
            }
            #[cfg(feature = "native-tls")]
            Self::Native(ref connector) => {
                use crate::tokio_io::{FromTokio, IntoTokio};
                let connector = tokio_native_tls::TlsConnector::from(connector.clone());
                let (bytes, parts) = stream.into_parts();
                let layer = connector.connect(host, IntoTokio(bytes)).await;
                let layer = layer.map_err(Failed::Native)?;
                let agreed = layer.get_ref().negotiated_alpn().ok().flatten();
                let is_http2 = agreed.as_deref() == Some(b"h2");
                Ok(ConnectedStream::layered(&parts, FromTokio(layer), is_http2))
            }
        }
    }
}

/// What ended a TLS handshake.
pub(crate) enum Failed {
    /// The name.
    #[cfg(feature = "rustls")]
    Name(Error),
    #[cfg(feature = "rustls")]
    Io(std::io::Error),
    #[cfg(feature = "native-tls")]
    Native(native_tls::Error),
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

#[cfg(feature = "native-tls")]
mod native {
    use std::borrow::Cow;

    use super::{Error, ErrorKind, Result, TlsVersion};

    /// PEM as it was given; the system's library reads it when it is needed.
    #[derive(Clone, Default)]
    pub(super) struct NativeOptions {
        pub(super) roots: Vec<Vec<u8>>,
        pub(super) client: Option<Vec<u8>>,
        pub(super) only_these_roots: bool,
        pub(super) min_version: Option<TlsVersion>,
        pub(super) accepts_any: bool,
    }

    impl NativeOptions {
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

        pub(super) fn connector(
            &self,
            alpn: &[&str],
            trusts: bool,
        ) -> Result<native_tls::TlsConnector> {
            let mut builder = native_tls::TlsConnector::builder();
            if trusts {
                self.check()?;
                for certificate in self.certificates()? {
                    builder.add_root_certificate(certificate);
                }
                if let Some(identity) = self.identity()? {
                    builder.identity(identity);
                }
            }
            builder
                .min_protocol_version(match self.min_version {
                    Some(TlsVersion::V1_2) => Some(native_tls::Protocol::Tlsv12),
                    Some(_) => Some(native_tls::Protocol::Tlsv13),
                    None => Some(native_tls::Protocol::Tlsv10),
                })
                .request_alpns(alpn)
                .disable_built_in_roots(self.only_these_roots || !trusts)
                .danger_accept_invalid_certs(self.accepts_any)
                .danger_accept_invalid_hostnames(self.accepts_any);
            builder.build().map_err(|error| {
                Error::new(ErrorKind::Tls, "TLS cannot be set up").with_source(error)
            })
        }

        fn certificates(&self) -> Result<Vec<native_tls::Certificate>> {
            let mut all = Vec::new();
            for (index, pem) in self.roots.iter().enumerate() {
                let which = index + 1;
                let read = native_tls::Certificate::stack_from_pem(pem).map_err(|error| {
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

        fn identity(&self) -> Result<Option<native_tls::Identity>> {
            let Some(pem) = &self.client else { return Ok(None) };
            let key = pkcs8(pem).ok_or_else(|| {
                invalid(
                    "the client certificate is not usable PEM: native-tls needs its key as PKCS#8 \
                     (BEGIN PRIVATE KEY), not encrypted",
                )
            })?;
            native_tls::Identity::from_pkcs8(pem, key.as_bytes()).map(Some).map_err(|error| {
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
