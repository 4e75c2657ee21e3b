//! Which codings a response has.

use std::fmt;

use compression_codecs::DecodeV2;
use drivetrain_engine::{Error, ErrorKind, Result};
use http::{HeaderMap, header};

/// The most codings of one response. No server needs two; each costs memory, and they multiply the size of a bomb.
const MOST: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    #[cfg(feature = "gzip")]
    Gzip,
    #[cfg(feature = "brotli")]
    Brotli,
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Coding {
    /// Names are compared without case, and `x-gzip` is `gzip` (RFC 9110 section 8.4.1).
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            #[cfg(feature = "gzip")]
            "gzip" | "x-gzip" => Some(Self::Gzip),
            #[cfg(feature = "brotli")]
            "br" => Some(Self::Brotli),
            #[cfg(feature = "zstd")]
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn decoder(self) -> Box<dyn DecodeV2 + Send> {
        match self {
            #[cfg(feature = "gzip")]
            Self::Gzip => Box::new(compression_codecs::GzipDecoder::new()),
            #[cfg(feature = "brotli")]
            Self::Brotli => Box::new(compression_codecs::BrotliDecoder::new()),
            #[cfg(feature = "zstd")]
            Self::Zstd => {
                use compression_codecs::{ZstdDecoder, zstd::params::DParameter};
                // The most that this coding may ask for (RFC 9659 section 3): 8 MiB.
                Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(23)]))
            }
        }
    }

    /// Whether another member or frame may follow the first one (RFC 1952 section 2.2, RFC 8878 section 3.1).
    pub(super) fn has_members(self) -> bool {
        #[cfg(feature = "brotli")]
        if self == Self::Brotli {
            return false;
        }
        true
    }

    pub(super) fn is_gzip(self) -> bool {
        #[cfg(feature = "gzip")]
        if self == Self::Gzip {
            return true;
        }
        false
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "gzip")]
            Self::Gzip => "gzip",
            #[cfg(feature = "brotli")]
            Self::Brotli => "br",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
        })
    }
}

/// The codings of a response in the order in which they were applied; `None` if there is none, or one that is
/// not known.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Vec<Coding>>> {
    let mut codings = Vec::new();
    for line in headers.get_all(header::CONTENT_ENCODING) {
        let Ok(line) = line.to_str() else { return Ok(None) };
        for name in line.split(',').map(|name| name.trim_matches([' ', '\t'])) {
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            let Some(coding) = Coding::named(name) else { return Ok(None) };
            codings.push(coding);
        }
    }
    if codings.len() > MOST {
        let message = format!("the response is encoded {} times", codings.len());
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    Ok((!codings.is_empty()).then_some(codings))
}

#[cfg(all(test, feature = "gzip", feature = "brotli", feature = "zstd"))]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn codings(lines: &[&[u8]]) -> Result<Option<Vec<Coding>>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_bytes(line).expect("a header's value");
            headers.append(header::CONTENT_ENCODING, value);
        }
        of(&headers)
    }

    #[test]
    fn lists_are_read_in_their_order() {
        use Coding::{Brotli, Gzip, Zstd};
        for (lines, expected) in [
            (&[][..], None),
            (&[&b""[..]], None),
            (&[b"identity"], None),
            (&[b"gzip"], Some(vec![Gzip])),
            (&[b"GZip"], Some(vec![Gzip])),
            (&[b"X-GZIP"], Some(vec![Gzip])),
            (&[b" , identity,\tbr ,"], Some(vec![Brotli])),
            (&[b"gzip, br", b"zstd"], Some(vec![Gzip, Brotli, Zstd])),
            (&[b"gzip, deflate"], None),
            (&[b"gzip", b"aes128gcm"], None),
            (&[b"gzip", b"\xff"], None),
        ] {
            assert_eq!(codings(lines).expect("few enough"), expected, "{lines:?}");
        }
        let many = codings(&[b"gzip, gzip, gzip, gzip, gzip"]).expect_err("too many");
        assert_eq!(many.kind(), ErrorKind::Protocol);
    }
}
