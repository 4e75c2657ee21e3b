//! Proxies as reqwest takes them.

use drivetrain_engine::Proxy;

/// The proxy as reqwest takes it.
pub(crate) fn for_reqwest(proxy: &Proxy) -> reqwest::Result<reqwest::Proxy> {
    let made = reqwest::Proxy::all(proxy.to_string())?;
    Ok(match proxy.credentials() {
        Some((user, password)) => made.basic_auth(user, password),
        None => made,
    })
}
