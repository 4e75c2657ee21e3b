//! Parsing `Set-Cookie` (RFC 6265 section 5.2).

use super::date;

/// The most bytes of name and value together (RFC 6265bis section 5.6).
pub(super) const LONGEST: usize = 4096;
/// The most bytes of an attribute; a longer one is ignored.
const LONGEST_ATTRIBUTE: usize = 1024;

/// A parsed `Set-Cookie`. [`Cookie`](super::Cookie) interprets it for the server's URL.
#[derive(Debug, PartialEq)]
pub(super) struct SetCookie<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) domain: Option<&'a [u8]>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) expires: Option<i64>,
    /// In seconds.
    pub(super) max_age: Option<i64>,
    pub(super) is_secure: bool,
    pub(super) is_http_only: bool,
}

impl<'a> SetCookie<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, &'static str> {
        let mut parts = line.split(|byte| *byte == b';');
        let Some((name, value)) = parts.next().and_then(pair) else {
            return Err("it is not name=value");
        };
        check(name, value)?;
        let mut cookie = Self {
            name,
            value,
            domain: None,
            path: None,
            expires: None,
            max_age: None,
            is_secure: false,
            is_http_only: false,
        };
        for attribute in parts {
            let (name, value) = pair(attribute).unwrap_or((trim(attribute), b""));
            if value.len() <= LONGEST_ATTRIBUTE {
                cookie.attribute(name, value);
            }
        }
        Ok(cookie)
    }

    /// Of several attributes of one name, the last valid one counts.
    fn attribute(&mut self, name: &[u8], value: &'a [u8]) {
        match name.to_ascii_lowercase().as_slice() {
            b"expires" => self.expires = date::parse(value).or(self.expires),
            b"max-age" => self.max_age = seconds(value).or(self.max_age),
            b"domain" if !value.is_empty() => self.domain = Some(value),
            b"path" => self.path = Some(value),
            b"secure" => self.is_secure = true,
            b"httponly" => self.is_http_only = true,
            _ => {}
        }
    }
}

/// Refuses a name and a value that cannot be sent back, or are too long.
pub(super) fn check(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    if name.is_empty() {
        return Err("it has no name");
    }
    if name.len() + value.len() > LONGEST {
        return Err("it is longer than 4096 bytes");
    }
    if name.iter().chain(value).any(is_control) {
        return Err("it has a control character");
    }
    Ok(())
}

fn pair(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b'=')?;
    Some((trim(&text[..at]), trim(&text[at + 1..])))
}

pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// `Max-Age` (section 5.2.2); a number that does not fit means for ever.
fn seconds(value: &[u8]) -> Option<i64> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if value.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let is_negative = digits.len() < value.len();
    let text = std::str::from_utf8(digits).ok()?;
    Some(if is_negative { 0 } else { text.parse().unwrap_or(i64::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_digits() {
        for (text, expected) in [
            ("60", Some(60)),
            ("-1", Some(0)),
            ("-", Some(0)),
            ("", None),
            ("+60", None),
            ("60s", None),
            ("1.5", None),
            ("99999999999999999999", Some(i64::MAX)),
            ("-99999999999999999999", Some(0)),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_last_attribute_counts_and_a_long_one_does_not() {
        let long = format!("a=1; path=/{}; path=/short; PATH=/{}", "x".repeat(2), "x".repeat(1024));
        let cookie = SetCookie::parse(long.as_bytes()).expect("a cookie");
        assert_eq!(cookie.path, Some(&b"/short"[..]));
        let cookie =
            SetCookie::parse(b"a=1; expires=1 Mar 2024 12:34:56; expires=soon").expect("a cookie");
        assert_eq!(cookie.expires, Some(1_709_296_496));
    }

    #[test]
    fn what_cannot_be_sent_back_is_refused() {
        let long = format!("a={}", "x".repeat(LONGEST));
        for text in ["", "a", "=a", " = a", "a\0=1", "a=1\r\nb: 2", "a=\x7f", &long] {
            assert!(SetCookie::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(SetCookie::parse(&long.as_bytes()[..=LONGEST]).is_ok());
    }
}
