//! Headers that may be printed.

use std::fmt;

use http::{HeaderMap, header};

/// A `Debug` of headers that never prints credentials: the values of `Authorization`, `Cookie`,
/// `Set-Cookie` and their proxy siblings, and values marked sensitive.
pub fn redacted(headers: &HeaderMap) -> impl fmt::Debug + '_ {
    Redacted(headers)
}

struct Redacted<'a>(&'a HeaderMap);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECRET: [header::HeaderName; 5] = [
            header::AUTHORIZATION,
            header::PROXY_AUTHORIZATION,
            header::COOKIE,
            header::SET_COOKIE,
            header::WWW_AUTHENTICATE,
        ];
        let mut map = f.debug_map();
        for (name, value) in self.0 {
            if value.is_sensitive() || SECRET.contains(name) {
                map.entry(&name.as_str(), &"redacted");
            } else {
                map.entry(&name.as_str(), value);
            }
        }
        map.finish()
    }
}
