//! The cookies of a jar (RFC 6265 sections 5.3 and 5.4). Time is an argument, in seconds since 1970.

use std::{cmp::Reverse, collections::BTreeMap};

use url::Url;

use super::{Cookie, SetCookie, domain};

/// As in browsers; RFC 6265 section 6.1 asks for at least 50 and 3000.
const MOST_OF_A_DOMAIN: usize = 180;
const MOST: usize = 3000;

/// The cookies by their domain.
#[derive(Default)]
pub(super) struct Store {
    domains: BTreeMap<Box<str>, Vec<StoredCookie>>,
    /// Counts uses, as clock times may be equal.
    turn: u64,
}

struct StoredCookie {
    cookie: Cookie,
    created: u64,
    used: u64,
}

impl Store {
    /// Stores a cookie that a server of this URL sets.
    ///
    /// # Errors
    /// The reason why the server may not set it.
    pub(super) fn set(
        &mut self,
        set: SetCookie<'_>,
        url: &Url,
        now: i64,
    ) -> Result<(), &'static str> {
        let cookie = Cookie::new(set, url, now)?;
        let is_plain = url.scheme() != "https";
        // RFC 6265bis section 5.7, step 16.
        let hides_secure = |old: &Cookie| {
            old.is_secure && old.name == cookie.name && old.is_for_path(&cookie.path)
        };
        let related = |domain: &str| is_in(domain, &cookie.domain) || is_in(&cookie.domain, domain);
        let mut near =
            self.domains.iter().filter(|(domain, _)| related(domain)).flat_map(|(_, kept)| kept);
        if is_plain && near.any(|old| !old.cookie.is_expired(now) && hides_secure(&old.cookie)) {
            return Err("there is a Secure one of this name");
        }
        self.insert(cookie, now);
        Ok(())
    }

    /// Stores a cookie. One that replaces another keeps its age.
    pub(super) fn insert(&mut self, cookie: Cookie, now: i64) {
        self.retain(|old| !old.is_expired(now));
        self.turn += 1;
        let (turn, is_expired) = (self.turn, cookie.is_expired(now));
        let domain = cookie.domain.clone();
        let kept = self.domains.entry(domain.clone()).or_default();
        let old = kept.iter().position(|old| old.cookie.is_same(&cookie));
        let created = old.map_or(turn, |at| kept.swap_remove(at).created);
        if !is_expired {
            kept.push(StoredCookie { cookie, created, used: turn });
        }
        self.evict(&domain);
    }

    /// Removes cookies above the bounds, but never the newest.
    fn evict(&mut self, domain: &str) {
        let Some(kept) = self.domains.get_mut(domain) else { return };
        while kept.len() > MOST_OF_A_DOMAIN {
            let oldest =
                (0..kept.len() - 1).min_by_key(|&at| (kept[at].cookie.is_secure, kept[at].used));
            oldest.map(|at| kept.remove(at));
        }
        if kept.is_empty() {
            self.domains.remove(domain);
        }
        while self.domains.values().map(Vec::len).sum::<usize>() > MOST {
            let all = self.domains.values().flatten();
            let oldest = all.map(|kept| (kept.used, kept.created)).min();
            self.retain_kept(|kept| Some((kept.used, kept.created)) != oldest);
        }
    }

    /// The value of the `Cookie` header for a URL (RFC 6265 section 5.4).
    pub(super) fn matching(&mut self, url: &Url, now: i64) -> Vec<u8> {
        let (is_secure, host) = (url.scheme() == "https", domain::host(url));
        self.turn += 1;
        let turn = self.turn;
        let mut found = Vec::new();
        for domain in domain::with_parents(url) {
            let Some(kept) = self.domains.get_mut(domain) else { continue };
            let matching = kept.iter_mut().filter(|StoredCookie { cookie, .. }| {
                !cookie.is_expired(now)
                    && (is_secure || !cookie.is_secure)
                    && (domain == host || !cookie.is_host_only)
                    && cookie.is_for_path(url.path())
            });
            for StoredCookie { cookie, created, used } in matching {
                *used = turn;
                let pair = [&*cookie.name, &*cookie.value].join(&b'=');
                found.push((Reverse(cookie.path.len()), *created, pair));
            }
        }
        found.sort_unstable();
        let pairs: Vec<_> = found.into_iter().map(|(.., pair)| pair).collect();
        pairs.join(&b"; "[..])
    }

    /// The cookies that are not expired, the oldest first.
    pub(super) fn all(&self, now: i64) -> Vec<Cookie> {
        let mut kept: Vec<_> = self.domains.values().flatten().collect();
        kept.retain(|kept| !kept.cookie.is_expired(now));
        kept.sort_unstable_by_key(|kept| kept.created);
        kept.into_iter().map(|kept| kept.cookie.clone()).collect()
    }

    pub(super) fn remove(&mut self, cookie: &Cookie) -> bool {
        let count = |store: &Self| store.domains.get(&cookie.domain).map_or(0, Vec::len);
        let before = count(self);
        self.retain(|old| !old.is_same(cookie));
        count(self) < before
    }

    fn retain(&mut self, keep: impl Fn(&Cookie) -> bool) {
        self.retain_kept(|kept| keep(&kept.cookie));
    }

    fn retain_kept(&mut self, keep: impl Fn(&StoredCookie) -> bool) {
        self.domains.retain(|_, kept| {
            kept.retain(&keep);
            !kept.is_empty()
        });
    }
}

/// Whether a host is this domain or below it.
fn is_in(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
