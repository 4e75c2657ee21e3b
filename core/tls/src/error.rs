/// Why a [`Tls`](crate::Tls) cannot become a rustls configuration.
///
/// All but [`NoSystemRoots`](TlsError::NoSystemRoots) are mistakes in what was set and are already found by
/// [`Tls::check`](crate::Tls::check). No message contains key material.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Bytes given to `root_certificate_pem` hold no readable certificate.
    #[error("root certificate {which} is not a PEM certificate: {reason}")]
    #[non_exhaustive]
    RootPem {
        /// The call that gave it, counted from 1 over `root_certificate_pem` and `root_certificate_der`.
        which: usize,
        /// What is wrong with the bytes.
        reason: &'static str,
    },
    /// A root certificate could be read but is not a certificate that can be trusted.
    #[error("root certificate {which} cannot be used: give an X.509 certificate")]
    #[non_exhaustive]
    Root {
        /// The call that gave it, counted from 1 over `root_certificate_pem` and `root_certificate_der`.
        which: usize,
        /// What rustls says about it.
        source: rustls::Error,
    },
    /// Bytes given to `client_certificate_pem` lack a readable certificate or key.
    #[error("the client certificate is not usable PEM: {reason}")]
    #[non_exhaustive]
    ClientPem {
        /// What is wrong with the bytes.
        reason: &'static str,
    },
    /// The client's key is of an unknown kind, or does not belong to its certificate.
    #[error(
        "the client certificate cannot be used: give the chain, leaf first, and the key that belongs to the leaf"
    )]
    #[non_exhaustive]
    Client {
        /// What rustls says about it.
        source: rustls::Error,
    },
    /// Something was set beside a preconfigured `ClientConfig`, which is used as it is.
    #[error(
        "{option} has no effect on a preconfigured rustls configuration: set it in that configuration instead"
    )]
    #[non_exhaustive]
    Preconfigured {
        /// The method that was called as well.
        option: &'static str,
    },
    /// Roots were set beside `danger_accept_any_certificate`, which looks at none.
    #[error(
        "root certificates have no effect beside danger_accept_any_certificate: leave one of them out"
    )]
    AnyCertificate,
    /// `only_these_roots` was called and no root certificate was given.
    #[error(
        "no CA certificates to trust, as only_these_roots was called: add one with root_certificate_pem"
    )]
    NoRoots,
    /// The system has no CA store, or none that can be read, and no root certificate was given.
    #[error(
        "no CA certificates found on this system ({reason}): add one with root_certificate_pem, or set SSL_CERT_FILE"
    )]
    #[non_exhaustive]
    NoSystemRoots {
        /// What was tried.
        reason: String,
    },
    /// rustls refused the configuration as a whole.
    #[error("rustls refused the configuration")]
    #[non_exhaustive]
    Refused {
        /// What rustls says about it.
        source: rustls::Error,
    },
}

/// What a TLS error says, and what to do about it where that is known: for the message of an engine.
///
/// ```
/// use rustls::{CertificateError, Error};
///
/// let error = Error::InvalidCertificate(CertificateError::UnknownIssuer);
/// assert!(drivetrain_tls::describe(&error).contains("root_certificate_pem"));
/// ```
pub fn describe(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match hint(certificate) {
            Some(hint) => format!("{error}: {hint}"),
            None => error.to_string(),
        },
        _ => error.to_string(),
    }
}

fn hint(error: &rustls::CertificateError) -> Option<&'static str> {
    use rustls::CertificateError::{Other, UnknownIssuer};
    match error {
        UnknownIssuer => Some(
            "its issuer is not trusted; if it should be, give the issuer's certificate to root_certificate_pem",
        ),
        // What webpki says has no variant of its own.
        Other(other) => match other.0.to_string().as_str() {
            "CaUsedAsEndEntity" => Some(
                "the server shows a certificate of an authority (CA:TRUE), which cannot be a server's, \
                 not even as its own root; make one with CA:FALSE, self-signed or signed by the authority, and give \
                 that or the authority's to root_certificate_pem",
            ),
            "UnsupportedCertVersion" => {
                Some("the certificate is not of version 3; make one with subjectAltName")
            }
            _ => None,
        },
        _ => None,
    }
}
