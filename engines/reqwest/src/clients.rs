//! The clients of reqwest behind one engine value, each made when it is first needed.

use std::sync::{Mutex, PoisonError};

use drivetrain_connect::TlsConnector;
use drivetrain_engine::Result;
use reqwest::{Client, redirect};

use crate::{
    host::Host, map, options::Options, proxied, purpose::Purpose, replay::Answered, tls, tunnelled,
};

/// How many clients are kept; the one used the longest ago goes first. More than one set is only needed
/// where connect timeouts, proxies or runtimes differ, as reqwest has them a client.
const KEPT: usize = 8;

/// How many clients are kept for a `Host` of the request's own, of which each origin has one.
const KEPT_ORIGINS: usize = 64;

/// The clients made so far.
#[derive(Default)]
pub(crate) struct Clients {
    direct: Kept<Client, KEPT>,
    tunnelled: Kept<tunnelled::Client, KEPT>,
    /// For a `Host` of the request's own: many origins take nothing from the others.
    named: Kept<tunnelled::Client, KEPT_ORIGINS>,
    /// What these have in common.
    named_tls: Mutex<Option<TlsConnector>>,
    pub(crate) answered: Answered,
}

impl Clients {
    /// The client for this purpose. Making it takes milliseconds if it is for `https`, as the system's
    /// CA store is read; a failure is not kept.
    pub(crate) fn get(
        &self,
        engine: &'static str,
        options: &Options,
        purpose: Purpose,
    ) -> Result<Client> {
        self.direct.get(purpose, |purpose| build(engine, options, purpose))
    }

    /// As [`get`](Self::get), for what goes over a connection of the engine's own.
    pub(crate) fn tunnelled(
        &self,
        options: &Options,
        purpose: Purpose,
    ) -> Result<tunnelled::Client> {
        if !matches!(purpose.host, Host::InUri(_)) {
            let tls = |purpose: &Purpose| tunnelled::tls(options, purpose);
            return self.tunnelled.get(purpose, |purpose| tunnelled::build(options, purpose, tls));
        }
        let tls = |purpose: &Purpose| self.named_tls(options, purpose);
        self.named.get(purpose, |purpose| tunnelled::build(options, purpose, tls))
    }

    /// The TLS of all that negotiate HTTP/2 for a `Host` of the request's own.
    fn named_tls(&self, options: &Options, purpose: &Purpose) -> Result<TlsConnector> {
        let lock = || self.named_tls.lock().unwrap_or_else(PoisonError::into_inner);
        let made = lock().clone();
        match made {
            Some(tls) => Ok(tls),
            None => {
                let tls = tunnelled::tls(options, purpose)?;
                Ok(lock().get_or_insert(tls).clone())
            }
        }
    }
}

/// Clients of one kind, the one used last at the end.
struct Kept<C, const MOST: usize>(Mutex<Vec<(Purpose, C)>>);

impl<C, const MOST: usize> Default for Kept<C, MOST> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Clone, const MOST: usize> Kept<C, MOST> {
    fn get(&self, purpose: Purpose, make: impl FnOnce(&Purpose) -> Result<C>) -> Result<C> {
        if let Some(client) = self.kept(&purpose) {
            return Ok(client);
        }
        // Made without the lock, as a hook of the caller runs. A second caller uses the first one's client.
        let made = make(&purpose)?;
        let mut clients = self.lock();
        if let Some((_, client)) = clients.iter().find(|(other, _)| *other == purpose) {
            return Ok(client.clone());
        }
        if clients.len() >= MOST {
            clients.remove(0);
        }
        clients.push((purpose, made.clone()));
        Ok(made)
    }

    fn kept(&self, purpose: &Purpose) -> Option<C> {
        let mut clients = self.lock();
        let index = clients.iter().position(|(other, _)| other == purpose)?;
        clients[index..].rotate_left(1);
        clients.last().map(|(_, client)| client.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Purpose, C)>> {
        // No code of anyone else's runs under it, so that it is whole even if it were poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn build(engine: &'static str, options: &Options, purpose: &Purpose) -> Result<Client> {
    // First, so that what the caller names in a hook stays: only the environment's proxies are left out, and what
    // reqwest repeats by itself, as the client does that above.
    let builder = Client::builder().no_proxy().retry(reqwest::retry::never());
    let mut builder = options.apply(builder);
    for hook in &options.hooks {
        builder = hook(builder);
    }
    // One exchange: drivetrain does all this above. Features of reqwest that another crate of the program
    // switches on (`gzip`, …) change nothing here.
    builder = builder
        .redirect(redirect::Policy::none())
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
    #[cfg(unix)]
    if let Some(socket) = &purpose.unix_socket {
        builder = builder.unix_socket(socket.path());
    }
    if let Some(limit) = purpose.connect_timeout {
        builder = builder.connect_timeout(limit);
    }
    if options.speaks_http2_alone(purpose) {
        builder = builder.http2_prior_knowledge();
    }
    if options.speaks_http1_alone(purpose) {
        builder = builder.http1_only();
    }
    if purpose.is_new {
        builder = builder.pool_max_idle_per_host(0);
    }
    tls::apply(builder, options, purpose)
        .map_err(|error| error.with_engine(engine))?
        .build()
        .map_err(|error| map::not_built(engine, error))
}
