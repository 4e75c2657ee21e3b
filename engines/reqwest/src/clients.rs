//! The clients of reqwest behind one engine value, each made when it is first needed.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use drivetrain_engine::{Proxy, Result};
use reqwest::{Client, redirect};

use crate::{map, options::Options, proxied};

/// How many clients are kept; the one used the longest ago goes first. More than one set is only needed
/// where connect timeouts or proxies differ, as reqwest has them a client.
const KEPT: usize = 8;

/// What a client is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// Opening WebSockets: HTTP/1.1 only and nothing reused.
    pub(crate) handshake: bool,
    /// For `https`. The other kind never touches a CA store.
    pub(crate) secure: bool,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) proxy: Option<Proxy>,
}

/// The clients made so far, the one used last at the end.
#[derive(Default)]
pub(crate) struct Clients(Mutex<Vec<(Purpose, Client)>>);

impl Clients {
    /// The client for this purpose. Making it takes milliseconds if it is for `https`, as the system's
    /// CA store is read; a failure is not kept.
    pub(crate) fn get(
        &self,
        engine: &'static str,
        options: &Options,
        purpose: Purpose,
    ) -> Result<Client> {
        if let Some(client) = self.kept(&purpose) {
            return Ok(client);
        }
        // Made without the lock, as a hook of the caller's runs. Whoever is second uses the first's.
        let made = build(engine, options, &purpose)?;
        let mut clients = self.lock();
        if let Some((_, client)) = clients.iter().find(|(other, _)| *other == purpose) {
            return Ok(client.clone());
        }
        if clients.len() >= KEPT {
            clients.remove(0);
        }
        clients.push((purpose, made.clone()));
        Ok(made)
    }

    fn kept(&self, purpose: &Purpose) -> Option<Client> {
        let mut clients = self.lock();
        let index = clients.iter().position(|(other, _)| other == purpose)?;
        clients[index..].rotate_left(1);
        clients.last().map(|(_, client)| client.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Purpose, Client)>> {
        // No code of anyone else's runs under it, so that it is whole even if it were poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn build(engine: &'static str, options: &Options, purpose: &Purpose) -> Result<Client> {
    // First, so that a proxy the caller names in a hook stays: only the environment's are left out.
    let mut builder = options.apply(Client::builder().no_proxy());
    for hook in &options.hooks {
        builder = hook(builder);
    }
    // One hop: drivetrain does all this above. Features of reqwest that another crate of the program
    // switches on (`gzip`, …) change nothing here.
    builder = builder
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate();
    if let Some(proxy) = &purpose.proxy {
        let proxy = proxied::for_reqwest(proxy)
            .map_err(|error| map::not_built(engine, error.without_url()))?;
        // The one that was asked for is used alone, a hook's not beside it.
        builder = builder.no_proxy().proxy(proxy);
    }
    if let Some(limit) = purpose.connect_timeout {
        builder = builder.connect_timeout(limit);
    }
    let alpn: &[&[u8]] = if purpose.handshake || options.http1_only {
        builder = builder.http1_only();
        &[b"http/1.1"]
    } else {
        &[b"h2", b"http/1.1"]
    };
    if purpose.handshake {
        builder = builder.tcp_nodelay(true).pool_max_idle_per_host(0);
    }
    options
        .secure
        .apply(builder, purpose.secure, alpn)
        .map_err(|error| error.with_engine(engine))?
        .build()
        .map_err(|error| map::not_built(engine, error))
}
