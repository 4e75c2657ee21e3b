//! TLS for the peer: a certificate authority made on the spot, and the server's side of a handshake.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::version::TLS12;
use rustls::{
    ALL_VERSIONS as ALL, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion,
};

use super::stream::{Socket, Stream};
use super::wire::invalid;

/// A certificate authority, a server certificate for `localhost`, `127.0.0.1`, `::1` and
/// [`PRIVATE_NAME`](Self::PRIVATE_NAME), and a client certificate. Two of them do not trust each other.
pub struct TestCa {
    ca_pem: String,
    client_certificate_pem: String,
    client_key_pem: String,
    config: Arc<ServerConfig>,
    mutual_config: Arc<ServerConfig>,
    old_config: Arc<ServerConfig>,
}

impl TestCa {
    /// A name that no resolver knows, as it cannot exist (RFC 6761 section 6.4): for what is resolved
    /// elsewhere, such as by a proxy.
    pub const PRIVATE_NAME: &'static str = "target.drivetrain.invalid";

    /// Makes new keys and certificates.
    #[allow(clippy::new_without_default)] // No two are equal, so there is no default one.
    pub fn new() -> Self {
        Self::generate().expect("fixed certificate parameters are valid")
    }

    /// No authority: the server's certificate, for `localhost` and `127.0.0.1`, is its own root. Says of itself
    /// that it is an authority's (CA:TRUE), or not.
    pub fn self_signed(is_ca: bool) -> Self {
        let made = || {
            let mut params = CertificateParams::new(["localhost".into(), "127.0.0.1".into()])?;
            params.is_ca = match is_ca {
                true => IsCa::Ca(BasicConstraints::Unconstrained),
                false => IsCa::ExplicitNoCa,
            };
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let chain = [certificate.der().clone()];
            let config = server_config(&provider, ALL, None, &chain, &key)?;
            Ok::<_, Box<dyn std::error::Error>>((certificate.pem(), config))
        };
        let (ca_pem, config) = made().expect("fixed certificate parameters are valid");
        Self { ca_pem, config, ..Self::new() }
    }

    fn generate() -> Result<Self, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "drivetrain test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let names = ["localhost", "127.0.0.1", "::1", Self::PRIVATE_NAME].map(String::from);
        let (server, server_key) =
            issue(&ca, "localhost", &names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let names = ["client.test".into()];
        let (client, client_key) =
            issue(&ca, "client", &names, ExtendedKeyUsagePurpose::ClientAuth)?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone())?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()?;
        let chain = [server.der().clone(), ca.der().clone()];
        Ok(Self {
            ca_pem: ca.pem(),
            client_certificate_pem: client.pem(),
            client_key_pem: client_key.serialize_pem(),
            config: server_config(&provider, ALL, None, &chain, &server_key)?,
            mutual_config: server_config(&provider, ALL, Some(verifier), &chain, &server_key)?,
            old_config: server_config(&provider, &[&TLS12], None, &chain, &server_key)?,
        })
    }

    /// The authority's certificate, for a client's roots.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The client's certificate and its PKCS#8 key in one text, as `reqwest::Identity::from_pem` takes it.
    pub fn client_pem(&self) -> String {
        format!("{}{}", self.client_certificate_pem, self.client_key_pem)
    }

    /// The client's certificate alone.
    pub fn client_certificate_pem(&self) -> &str {
        &self.client_certificate_pem
    }

    /// The client's PKCS#8 key alone.
    pub fn client_key_pem(&self) -> &str {
        &self.client_key_pem
    }

    /// A server's TLS configuration that asks for no client certificate; ALPN `http/1.1`.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// As [`server_config`](Self::server_config), and requires a client certificate of this authority.
    pub fn mutual_server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.mutual_config)
    }

    /// As [`server_config`](Self::server_config), for TLS 1.2 alone.
    pub fn tls_1_2_server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.old_config)
    }

    /// As [`server_config`](Self::server_config), preferring HTTP/2; ALPN `h2` and `http/1.1`.
    pub fn http2_server_config(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Arc::new(config)
    }
}

impl std::fmt::Debug for TestCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCa").finish_non_exhaustive()
    }
}

/// What a client showed in its TLS handshake.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsSession {
    /// The server name it asked for; none for an IP address.
    pub server_name: Option<String>,
    /// The protocols it offered (ALPN), in its order.
    pub offered_alpn: Vec<String>,
    /// The protocol agreed on.
    pub alpn: Option<String>,
    /// Whether it showed a certificate, which only a mutual server asks for.
    pub client_certificate: bool,
}

fn issue(
    ca: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    alternative_names: &[String],
    purpose: ExtendedKeyUsagePurpose,
) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::new(alternative_names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, ca)?, key))
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>,
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let mut config = builder.with_single_cert(chain.to_vec(), key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes the server's side of the TLS handshake, if there is to be one.
pub(super) fn accept(
    mut socket: Socket,
    config: Option<Arc<ServerConfig>>,
) -> io::Result<(Stream, Option<TlsSession>)> {
    let Some(config) = config else {
        return Ok((Stream::Plain(socket), None));
    };
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        if acceptor.read_tls(&mut socket)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => break accepted,
            Err((error, mut alert)) => {
                alert.write_all(&mut socket)?;
                return Err(invalid(error.to_string()));
            }
        }
    };
    let hello = accepted.client_hello();
    let server_name = hello.server_name().map(String::from);
    let offered_alpn = hello.alpn().into_iter().flatten().map(text).collect();
    let mut connection = match accepted.into_connection(config) {
        Ok(connection) => connection,
        Err((error, mut alert)) => {
            alert.write_all(&mut socket)?;
            return Err(invalid(error.to_string()));
        }
    };
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    let session = TlsSession {
        server_name,
        offered_alpn,
        alpn: connection.alpn_protocol().map(text),
        client_certificate: connection.peer_certificates().is_some(),
    };
    Ok((Stream::Tls(Box::new(StreamOwned::new(connection, socket))), Some(session)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
