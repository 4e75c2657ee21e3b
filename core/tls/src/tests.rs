//! Handshakes run in memory: two rustls connections, the bytes of each handed to the other.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn leaf(&self, name: &str) -> Result<(rcgen::Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        Ok((CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.0)?, key))
    }

    fn leaf_pem(&self, name: &str) -> Result<String> {
        let (certificate, key) = self.leaf(name)?;
        Ok(certificate.pem() + &key.serialize_pem())
    }

    fn server(&self, asks_for_certificate: bool) -> Result<ServerConfig> {
        let (certificate, key) = self.leaf("localhost")?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let config = if asks_for_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone())?;
            config.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?,
            )
        } else {
            config.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let mut config = config.with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

struct Shaken {
    client: ClientConnection,
    server: ServerConnection,
}

fn handshake(config: Arc<ClientConfig>, server: ServerConfig) -> Result<Shaken, rustls::Error> {
    let name = ServerName::try_from("localhost").expect("a valid name");
    let mut client = ClientConnection::new(config, name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("writes into memory");
        }
        server.read_tls(&mut &bytes[..]).expect("reads from memory");
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("writes into memory");
        }
        client.read_tls(&mut &bytes[..]).expect("reads from memory");
        client.process_new_packets()?;
    }
    Ok(Shaken { client, server })
}

#[test]
fn a_server_of_the_private_ca_is_trusted_when_its_root_is_given() -> Result {
    let ca = Ca::new()?;
    for tls in
        [Tls::new().root_certificate_pem(ca.pem()), Tls::new().root_certificate_der(ca.0.der())]
    {
        let tls = tls.only_these_roots();
        tls.check()?;
        let shaken = handshake(tls.client_config(&[b"http/1.1"])?, ca.server(false)?)?;
        assert_eq!(
            shaken.client.alpn_protocol(),
            Some(&b"http/1.1"[..]),
            "the list given is the list offered"
        );
        assert!(shaken.server.peer_certificates().is_none(), "no client certificate was set");
    }
    Ok(())
}

#[test]
fn a_server_of_another_ca_is_refused_with_a_certificate_error() -> Result {
    let (ca, other) = (Ca::new()?, Ca::new()?);
    let tls = Tls::new().root_certificate_pem(other.pem()).only_these_roots();
    let error = handshake(tls.client_config(&[])?, ca.server(false)?).err();
    assert!(matches!(error, Some(rustls::Error::InvalidCertificate(_))), "{error:?}");
    Ok(())
}

#[test]
fn a_bundle_adds_every_certificate_in_it() -> Result {
    let (ca, other) = (Ca::new()?, Ca::new()?);
    let tls = Tls::new().root_certificate_pem(other.pem() + &ca.pem()).only_these_roots();
    handshake(tls.client_config(&[])?, ca.server(false)?)?;
    Ok(())
}

#[test]
fn the_client_certificate_is_presented_only_when_set() -> Result {
    let ca = Ca::new()?;
    let anonymous = Tls::new().root_certificate_pem(ca.pem()).only_these_roots();
    assert!(handshake(anonymous.client_config(&[])?, ca.server(true)?).is_err());

    let named = anonymous.client_certificate_pem(ca.leaf_pem("caller")?);
    named.check()?;
    let shaken = handshake(named.client_config(&[])?, ca.server(true)?)?;
    assert_eq!(shaken.server.peer_certificates().map(<[_]>::len), Some(1));
    Ok(())
}

#[test]
fn a_preconfigured_configuration_keeps_its_roots_and_loses_its_alpn() -> Result {
    let ca = Ca::new()?;
    let theirs =
        Tls::new().root_certificate_pem(ca.pem()).only_these_roots().client_config(&[b"h2"])?;
    let tls = Tls::new().preconfigured(theirs.clone());
    let shaken = handshake(tls.client_config(&[b"http/1.1"])?, ca.server(false)?)?;
    assert_eq!(shaken.client.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(theirs.alpn_protocols, [b"h2".to_vec()], "the caller's own value is untouched");

    let error = tls.only_these_roots().check().err();
    assert!(
        matches!(error, Some(TlsError::Preconfigured { option: "only_these_roots", .. })),
        "{error:?}"
    );
    Ok(())
}

#[test]
fn mistakes_are_named_and_found_by_check() -> Result {
    let (ca, other) = (Ca::new()?, Ca::new()?);
    let pem = ca.pem();
    let mismatched = ca.leaf("caller")?.0.pem() + &other.leaf("caller")?.1.serialize_pem();
    let cases = [
        (
            Tls::new().only_these_roots(),
            "only_these_roots was called: add one with root_certificate_pem",
        ),
        (
            Tls::new().root_certificate_pem(""),
            "root certificate 1 is not a PEM certificate: there is no BEGIN",
        ),
        (Tls::new().root_certificate_pem(ca.0.der()), "for DER use root_certificate_der"),
        (
            Tls::new()
                .root_certificate_pem(&pem)
                .root_certificate_pem("-----BEGIN CERTIFICATE-----\nAA"),
            "root certificate 2",
        ),
        (Tls::new().root_certificate_pem(pem.replace("MII", "M!!")), "base64"),
        (Tls::new().root_certificate_der(b"\x30\x00"), "root certificate 1 cannot be used"),
        (Tls::new().client_certificate_pem(&pem), "no private key"),
        (
            Tls::new().client_certificate_pem(KeyPair::generate()?.serialize_pem()),
            "no BEGIN CERTIFICATE",
        ),
        (Tls::new().client_certificate_pem(mismatched), "the key that belongs to the leaf"),
    ];
    for (tls, expected) in cases {
        for error in [tls.check().err(), tls.client_config(&[]).err()] {
            let message = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
    }
    Ok(())
}

#[test]
fn roots_beside_any_certificate_are_a_mistake() -> Result {
    let any = || Tls::new().danger_accept_any_certificate();
    any().client_config(&[])?;
    for both in [any().only_these_roots(), any().root_certificate_pem(Ca::new()?.pem())] {
        assert!(matches!(both.check(), Err(TlsError::AnyCertificate)));
    }
    Ok(())
}

#[test]
fn debug_prints_no_key_material() -> Result {
    let ca = Ca::new()?;
    let tls =
        Tls::new().root_certificate_pem(ca.pem()).client_certificate_pem(ca.leaf_pem("caller")?);
    assert_eq!(
        format!("{tls:?}"),
        "Tls { roots: 1, only_these_roots: false, min_version: None, accepts_any: false, client_certificate: true, preconfigured: false, fault: None }"
    );
    Ok(())
}

/// The store is found through the environment, which a test must not change for its neighbours.
fn run_with_store(child: &str, store: &std::path::Path) -> Result<bool> {
    let status = Command::new(std::env::current_exe()?)
        .args(["--exact", "--ignored", child])
        .env("SSL_CERT_FILE", store)
        .env_remove("SSL_CERT_DIR")
        .output()?;
    let ran = String::from_utf8_lossy(&status.stdout).contains("1 passed");
    Ok(status.status.success() && ran)
}

#[test]
fn without_a_system_store_the_error_says_what_to_do() -> Result {
    assert!(run_with_store("tests::child_without_store", "/nonexistent/ca.pem".as_ref())?);
    Ok(())
}

#[test]
#[ignore = "run by without_a_system_store_the_error_says_what_to_do"]
fn child_without_store() -> Result {
    let tls = Tls::new();
    tls.check()?;
    let error = tls.client_config(&[]).err();
    assert!(matches!(error, Some(TlsError::NoSystemRoots { .. })), "{error:?}");
    let message = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(
        message.contains("/nonexistent/ca.pem") && message.contains("root_certificate_pem"),
        "{message}"
    );

    let ca = Ca::new()?;
    let extra = Tls::new().root_certificate_pem(ca.pem()).client_config(&[])?;
    handshake(extra, ca.server(false)?)?;
    Ok(())
}

#[test]
fn the_system_store_is_trusted_by_default_and_merged_with_the_roots_given() -> Result {
    let ca = Ca::new()?;
    let directory = std::env::temp_dir().join(format!("drivetrain-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let store = directory.join("ca.pem");
    // The child needs the key as well, to run a server of this CA.
    std::fs::write(&store, ca.pem() + &ca.leaf_pem("localhost")?)?;
    let passed = run_with_store("tests::child_with_store", &store);
    std::fs::remove_dir_all(&directory)?;
    assert!(passed?);
    Ok(())
}

#[test]
#[ignore = "run by the_system_store_is_trusted_by_default_and_merged_with_the_roots_given"]
fn child_with_store() -> Result {
    let pem = std::fs::read(std::env::var_os("SSL_CERT_FILE").ok_or("not set")?)?;
    let server = || -> Result<ServerConfig> {
        let leaf = certificates(&pem)?.pop().ok_or("no leaf")?;
        Ok(ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf], PrivateKeyDer::from_pem_slice(&pem)?)?)
    };
    let other = Ca::new()?;
    handshake(Tls::new().client_config(&[])?, server()?)?;
    let merged = Tls::new().root_certificate_pem(other.pem()).client_config(&[])?;
    handshake(merged.clone(), server()?)?;
    handshake(merged, other.server(false)?)?;
    let only = Tls::new().root_certificate_pem(other.pem()).only_these_roots().client_config(&[])?;
    assert!(handshake(only, server()?).is_err(), "the store is not read");
    Ok(())
}
