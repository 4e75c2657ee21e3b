//! The serialized form of a cookie.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Cookie;

/// Names and values are bytes: byte n is written as the character U+00n.
#[derive(Serialize, Deserialize)]
struct Saved {
    name: String,
    value: String,
    domain: String,
    #[serde(default)]
    host_only: bool,
    path: String,
    /// In seconds since 1970.
    #[serde(default)]
    expires: Option<i64>,
    #[serde(default)]
    secure: bool,
    #[serde(default)]
    http_only: bool,
}

impl From<&Cookie> for Saved {
    fn from(cookie: &Cookie) -> Self {
        let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect();
        Self {
            name: text(&cookie.name),
            value: text(&cookie.value),
            domain: cookie.domain.to_string(),
            host_only: cookie.is_host_only,
            path: cookie.path.to_string(),
            expires: cookie.expires,
            secure: cookie.is_secure,
            http_only: cookie.is_http_only,
        }
    }
}

impl Serialize for Cookie {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Saved::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cookie {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Saved::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

impl TryFrom<Saved> for Cookie {
    type Error = &'static str;

    fn try_from(saved: Saved) -> Result<Self, &'static str> {
        let bytes = |text: String| {
            let bytes = text.chars().map(u8::try_from).collect::<Result<_, _>>();
            bytes.map_err(|_| "it has a character beyond U+00FF")
        };
        let cookie = Self {
            name: bytes(saved.name)?,
            value: bytes(saved.value)?,
            domain: saved.domain.into(),
            is_host_only: saved.host_only,
            path: saved.path.into(),
            expires: saved.expires,
            is_secure: saved.secure,
            is_http_only: saved.http_only,
        };
        cookie.checked()
    }
}
