//! The TLS settings that drivetrain's engines share.
//!
//! [`Tls`] says what to trust and who to be; an engine turns it into a [`rustls::ClientConfig`] when it first needs
//! one. The crypto provider is always ring and always named: the process default of rustls is neither read nor set,
//! so that nothing here depends on (or panics because of) what another crate installed. There is no runtime and no
//! socket in this crate.

mod any;
mod error;

use std::fmt;
use std::sync::Arc;

use drivetrain_engine::TlsVersion;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

pub use error::{TlsError, describe};

/// What a client trusts and the certificate it presents.
///
/// The default trusts the system's CA store and presents nothing. Setters neither fail nor do I/O; what is wrong with
/// their arguments is told by [`check`](Tls::check) and [`client_config`](Tls::client_config).
///
/// ```
/// use drivetrain_tls::Tls;
///
/// let tls = Tls::new().root_certificate_pem("-----BEGIN RSA PUBLIC KEY-----").only_these_roots();
/// assert_eq!(
///     tls.check().unwrap_err().to_string(),
///     "root certificate 1 is not a PEM certificate: a BEGIN line has no END line that matches it",
/// );
/// ```
#[derive(Clone)]
pub struct Tls {
    roots: RootCertStore,
    roots_given: usize,
    only_these_roots: bool,
    min_version: Option<TlsVersion>,
    accepts_any: bool,
    client: Option<Arc<CertifiedKey>>,
    preconfigured: Option<Arc<ClientConfig>>,
    /// The first method called that a preconfigured configuration makes meaningless.
    first_option: Option<&'static str>,
    /// The first mistake; later ones are reported once it is mended.
    fault: Option<TlsError>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            roots: RootCertStore::empty(),
            roots_given: 0,
            only_these_roots: false,
            min_version: None,
            accepts_any: false,
            client: None,
            preconfigured: None,
            first_option: None,
            fault: None,
        }
    }
}

impl Tls {
    /// The default: the system's CA certificates, no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in `pem` as well; it may be a bundle. Default: none.
    ///
    /// They are added to the system's, unless [`only_these_roots`](Tls::only_these_roots) is called.
    pub fn root_certificate_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        let which = self.next_root("root_certificate_pem");
        match certificates(pem.as_ref()) {
            Ok(certificates) => {
                certificates.into_iter().fold(self, |tls, der| tls.root(which, der))
            }
            Err(reason) => self.fault(TlsError::RootPem { which, reason }),
        }
    }

    /// Trusts the certificate in `der` as well. Default: none.
    ///
    /// It is added to the system's, unless [`only_these_roots`](Tls::only_these_roots) is called.
    pub fn root_certificate_der(mut self, der: impl AsRef<[u8]>) -> Self {
        let which = self.next_root("root_certificate_der");
        self.root(which, CertificateDer::from(der.as_ref().to_vec()))
    }

    /// Trusts the given root certificates only: the system's store is not read. Default: it is read.
    pub fn only_these_roots(mut self) -> Self {
        self.first_option.get_or_insert("only_these_roots");
        self.only_these_roots = true;
        self
    }

    /// Presents this certificate to a server that asks for one. Default: none.
    ///
    /// `chain_and_key` holds, in one PEM text and any order, the private key (PKCS#8, PKCS#1 or SEC1, not encrypted)
    /// and the certificate chain, leaf first. A second call replaces the first.
    pub fn client_certificate_pem(mut self, chain_and_key: impl AsRef<[u8]>) -> Self {
        self.first_option.get_or_insert("client_certificate_pem");
        match certified_key(chain_and_key.as_ref()) {
            Ok(client) => {
                self.client = Some(Arc::new(client));
                self
            }
            Err(error) => self.fault(error),
        }
    }

    /// Refuses servers that only speak an older version. Default: [`TlsVersion::V1_2`], which is the oldest that
    /// rustls has.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.first_option.get_or_insert("min_tls_version");
        self.min_version = Some(version);
        self
    }

    /// **Accepts whatever certificate a server shows: anybody in between can read and change everything.** For tests
    /// against servers that have no certificate worth the name. Default: certificates are verified.
    ///
    /// Roots cannot be set beside it.
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.first_option.get_or_insert("danger_accept_any_certificate");
        self.accepts_any = true;
        self
    }

    /// Uses `config` as it is, with its own crypto provider, roots and verifier; only its ALPN list is overwritten,
    /// as the engine must know which protocol it will speak. Default: none.
    ///
    /// Nothing else can be set beside it. This is also the way to the operating system's own verifier (revocation,
    /// enterprise policy): give a configuration made with `rustls-platform-verifier`.
    pub fn preconfigured(mut self, config: Arc<ClientConfig>) -> Self {
        self.preconfigured = Some(config);
        self
    }

    /// Says whether everything that was set can be used, without I/O: the system's CA store is not read.
    ///
    /// # Errors
    /// The first mistake in what was set. Never [`TlsError::NoSystemRoots`], which only
    /// [`client_config`](Tls::client_config) can find out.
    pub fn check(&self) -> Result<(), TlsError> {
        if let (Some(_), Some(option)) = (&self.preconfigured, self.first_option) {
            return Err(TlsError::Preconfigured { option });
        }
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.accepts_any && (self.roots_given > 0 || self.only_these_roots) {
            return Err(TlsError::AnyCertificate);
        }
        if self.only_these_roots && self.roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        Ok(())
    }

    /// Builds the configuration, offering the protocols in `alpn`, the preferred one first (empty: no ALPN).
    ///
    /// Reads the system's CA store on each call, a few milliseconds of blocking file access: call it at the first
    /// `https` or `wss` request, so that a machine without a store can still use `http` and `ws`, and keep the
    /// result, which also holds the cache of TLS sessions.
    ///
    /// # Errors
    /// What [`check`](Tls::check) reports, and [`TlsError::NoSystemRoots`] if there is nothing to trust at all.
    pub fn client_config(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
        self.check()?;
        let mut config = match &self.preconfigured {
            Some(config) => ClientConfig::clone(config),
            None => self.build()?,
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn build(&self) -> Result<ClientConfig, TlsError> {
        let versions = match self.min_version {
            Some(TlsVersion::V1_3) => &[&rustls::version::TLS13],
            _ => rustls::DEFAULT_VERSIONS,
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|source| TlsError::Refused { source })?;
        let config = if self.accepts_any {
            let verifier = Arc::new(any::AnyCertificate(provider()));
            config.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            let mut roots = self.roots.clone();
            if !self.only_these_roots {
                add_system_roots(&mut roots)?;
            }
            config.with_root_certificates(roots)
        };
        Ok(match &self.client {
            Some(client) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(client.clone())))
            }
            None => config.with_no_client_auth(),
        })
    }

    fn next_root(&mut self, option: &'static str) -> usize {
        self.first_option.get_or_insert(option);
        self.roots_given += 1;
        self.roots_given
    }

    fn root(mut self, which: usize, der: CertificateDer<'static>) -> Self {
        match self.roots.add(der) {
            Ok(()) => self,
            Err(source) => self.fault(TlsError::Root { which, source }),
        }
    }

    fn fault(mut self, error: TlsError) -> Self {
        self.fault.get_or_insert(error);
        self
    }
}

/// Prints what was set, never a key or a certificate.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots.len())
            .field("only_these_roots", &self.only_these_roots)
            .field("min_version", &self.min_version)
            .field("accepts_any", &self.accepts_any)
            .field("client_certificate", &self.client.is_some())
            .field("preconfigured", &self.preconfigured.is_some())
            .field("fault", &self.fault)
            .finish()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A certificate of the store that cannot be parsed is skipped, as OpenSSL does; it is only an error if none is left.
fn add_system_roots(roots: &mut RootCertStore) -> Result<(), TlsError> {
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if !roots.is_empty() {
        return Ok(());
    }
    let reason = match system.errors.first() {
        Some(error) => error.to_string(),
        None => String::from("the store is missing or empty"),
    };
    Err(TlsError::NoSystemRoots { reason })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(explain)?;
    match certificates.is_empty() {
        true => Err("there is no BEGIN CERTIFICATE in it (for DER use root_certificate_der)"),
        false => Ok(certificates),
    }
}

fn certified_key(pem: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::ClientPem { reason: explain(error) })?;
    if chain.is_empty() {
        return Err(TlsError::ClientPem { reason: "there is no BEGIN CERTIFICATE in it" });
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::ClientPem {
        reason: match error {
            PemError::NoItemsFound => {
                "there is no private key in it (an encrypted one must be decrypted first)"
            }
            error => explain(error),
        },
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| TlsError::Client { source })
}

/// In our own words, as the parser's quote bytes of the input, which may be a key.
fn explain(error: PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "a BEGIN line has no END line that matches it",
        PemError::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        PemError::Base64Decode(_) => "the base64 between BEGIN and END is damaged",
        PemError::SectionTooLarge => "a section is too large",
        _ => "it cannot be read",
    }
}

#[cfg(test)]
mod tests;
