//! Hosts to connect to directly.

use std::{fmt, net::IpAddr};

use drivetrain_engine::{Error, ErrorKind, Result};
use ipnet::IpNet;

/// The hosts of `NO_PROXY`.
#[derive(Clone, Default)]
pub(super) struct Exceptions(Vec<Exception>);

#[derive(Clone)]
struct Exception {
    hosts: HostPattern,
    port: Option<u16>,
}

#[derive(Clone)]
enum HostPattern {
    All,
    Network(IpNet),
    /// A name in lower case, with its subdomains.
    Domain(String),
}

impl Exceptions {
    /// Adds the entries of a comma-separated list. Valid entries are added even if another one is not valid.
    pub(super) fn add(&mut self, list: &str) -> Result<()> {
        let mut result = Ok(());
        for entry in entries(list) {
            match parse(entry) {
                Some(exception) => self.0.push(exception),
                None => {
                    result = Err(Error::new(
                        ErrorKind::InvalidInput,
                        format!(
                            "`{entry}` is no host to leave out of proxying: give a name, an address, a \
                             network such as 10.0.0.0/8, or *"
                        ),
                    ));
                }
            }
        }
        result
    }

    /// Whether a URL with this host and port is an exception.
    pub(super) fn contains(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        self.0.iter().any(|exception| {
            exception.port.is_none_or(|only| only == port)
                && match (&exception.hosts, address) {
                    (HostPattern::All, _) => true,
                    (HostPattern::Network(network), Some(address)) => network.contains(&address),
                    (HostPattern::Domain(domain), None) => host
                        .strip_suffix(domain.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
                    _ => false,
                }
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty())
}

fn parse(entry: &str) -> Option<Exception> {
    if let Some(hosts) = network(entry) {
        return Some(Exception { hosts, port: None });
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (entry, None),
    };
    let hosts = match network(host) {
        Some(network) => network,
        None if host == "*" => HostPattern::All,
        None => domain(host)?,
    };
    Some(Exception { hosts, port })
}

fn network(text: &str) -> Option<HostPattern> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|address| address.to_canonical());
    let network = address.map(IpNet::from).ok().or_else(|| text.parse().ok())?;
    Some(HostPattern::Network(network))
}

fn domain(text: &str) -> Option<HostPattern> {
    let text = text.strip_prefix('*').unwrap_or(text);
    let text = text.strip_prefix('.').unwrap_or(text).trim_end_matches('.');
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || !text.chars().all(is_name) {
        return None;
    }
    // As in a URL: names in other scripts become ASCII (IDNA).
    let name = url::Host::parse(text).ok()?.to_string();
    Some(HostPattern::Domain(name.to_ascii_lowercase()))
}

impl fmt::Display for Exceptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Exception { hosts, port }) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match hosts {
                HostPattern::All => f.write_str("*")?,
                HostPattern::Network(network)
                    if network.prefix_len() == network.max_prefix_len() =>
                {
                    write!(f, "{}", network.addr())?;
                }
                HostPattern::Network(network) => write!(f, "{network}")?,
                HostPattern::Domain(domain) => f.write_str(domain)?,
            }
            if let Some(port) = port {
                write!(f, ":{port}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_matched() {
        for (entry, host, port, expected) in [
            ("example.com", "example.com", 80, true),
            ("example.com", "EXAMPLE.com", 80, true),
            ("example.com", "a.example.com", 80, true),
            ("example.com", "example.com.", 80, true),
            ("Example.com.", "example.com", 80, true),
            ("example.com", "notexample.com", 80, false),
            ("example.com", "example.org", 80, false),
            (".example.com", "example.com", 80, true),
            ("*.example.com", "a.example.com", 80, true),
            ("bücher.example", "xn--bcher-kva.example", 80, true),
            ("example.com:81", "example.com", 80, false),
            ("example.com:81", "example.com", 81, true),
            ("localhost", "localhost", 80, true),
            ("127.0.0.1", "127.0.0.1", 80, true),
            ("127.0.0.1:81", "127.0.0.1", 80, false),
            ("127.0.0.1", "127.0.0.2", 80, false),
            ("0.0.1", "127.0.0.1", 80, false),
            ("10.0.0.0/8", "10.200.3.4", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("10.0.0.0/8", "10.example", 80, false),
            ("::1", "[::1]", 80, true),
            ("[::1]", "[::1]", 80, true),
            ("[::1]:81", "[::1]", 81, true),
            ("[::1]:81", "[::1]", 80, false),
            ("fd00::/8", "[fd12::1]", 80, true),
            ("127.0.0.1", "[::ffff:127.0.0.1]", 80, true),
            ("*", "anything", 80, true),
            ("*:81", "anything", 80, false),
        ] {
            let mut exceptions = Exceptions::default();
            exceptions.add(entry).expect(entry);
            assert_eq!(exceptions.contains(host, port), expected, "{entry} for {host}:{port}");
        }
    }

    #[test]
    fn lists_are_read_and_shown() {
        let mut exceptions = Exceptions::default();
        exceptions.add(" a.example ,,10.0.0.0/8,[::1]:9 b, *:1").expect("valid");
        assert_eq!(exceptions.to_string(), "a.example, 10.0.0.0/8, ::1:9, b, *:1");
        for wrong in ["10.0.0.0/99", "a:b", "http://a", "a/b", "*a*", "a:99999"] {
            assert!(Exceptions::default().add(wrong).is_err(), "{wrong}");
        }
    }
}
