//! Which host may set cookies for which domain (RFC 6265 section 5.1.3).

use std::borrow::Cow;

use url::{Host, Url};

/// The host of a URL; every URL here has one.
pub(super) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// The host and its parent domains.
pub(super) fn with_parents(url: &Url) -> impl Iterator<Item = &str> {
    let is_name = matches!(url.host(), Some(Host::Domain(_)));
    std::iter::successors(Some(host(url)), move |domain| {
        is_name.then(|| domain.split_once('.').map(|(_, parent)| parent)).flatten()
    })
}

/// A `Domain` attribute without its leading dot, in the spelling of URLs.
pub(super) fn canonical(attribute: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(attribute).ok()?;
    let text = text.strip_prefix('.').unwrap_or(text);
    if text.is_ascii() {
        return Some(text.to_ascii_lowercase().into());
    }
    Some(Host::parse(text).ok()?.to_string().into())
}

/// Whether the domain is a public suffix, for which nobody may set cookies.
pub(super) fn is_public(domain: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    !domain.contains('.') || is_listed(domain)
}

#[cfg(feature = "public-suffix")]
fn is_listed(domain: &str) -> bool {
    let is_suffix = |name: &str| psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix == name);
    // The parent of a wildcard (`*.kobe.jp`) counts as public, too.
    is_suffix(domain) || is_suffix(&format!("-.{domain}"))
}

#[cfg(not(feature = "public-suffix"))]
fn is_listed(_: &str) -> bool {
    false
}
