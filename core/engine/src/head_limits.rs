//! Limits for the head of a response.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, ErrorKind, Result};

/// Limits for the head of a response, over HTTP/1.1 and HTTP/2, including handshakes.
///
/// An engine's options have the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeadLimits {
    /// Maximum number of header fields. Default: 256.
    pub max_headers: usize,
    /// Maximum bytes of names and values together. Default: 64 KiB.
    pub max_header_size: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_headers: 256, max_header_size: 64 << 10 }
    }
}

impl HeadLimits {
    /// Refuses limits of zero.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a limit of zero.
    pub fn check(&self) -> Result<()> {
        for (name, limit) in
            [("max_headers", self.max_headers), ("max_header_size", self.max_header_size)]
        {
            if limit == 0 {
                let message = format!("{name} of zero is not possible: it lets no answer through");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        Ok(())
    }

    /// Checks the headers of a response.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`], naming the option that limits it.
    pub fn allow(&self, headers: &HeaderMap) -> Result<()> {
        if headers.len() > self.max_headers {
            return Err(self.too_many());
        }
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        match headers.iter().map(size).sum::<usize>() > self.max_header_size {
            true => Err(self.too_large()),
            false => Ok(()),
        }
    }

    /// The error for a response with more fields.
    pub fn too_many(&self) -> Error {
        let Self { max_headers, .. } = self;
        let message =
            format!("the response has more header fields than max_headers, which is {max_headers}");
        Error::new(ErrorKind::TooBig, message)
    }

    /// The error for a response with longer headers.
    pub fn too_large(&self) -> Error {
        let Self { max_header_size, .. } = self;
        let message = format!(
            "the response's headers are larger than max_header_size, which is {max_header_size} bytes"
        );
        Error::new(ErrorKind::TooBig, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_the_limit_is_allowed() {
        let limits = HeadLimits { max_headers: 2, max_header_size: 8 };
        let headers = |count: usize, value: &'static str| {
            let mut headers = HeaderMap::new();
            for _ in 0..count {
                headers.append("x-y", HeaderValue::from_static(value));
            }
            headers
        };
        assert!(limits.allow(&headers(2, "a")).is_ok());
        for (headers, option) in
            [(headers(3, ""), "max_headers"), (headers(2, "ab"), "max_header_size")]
        {
            let error = limits.allow(&headers).expect_err(option);
            assert_eq!(error.kind(), ErrorKind::TooBig);
            assert!(error.to_string().contains(option), "{error}");
        }
        assert!(limits.check().is_ok());
        assert!(HeadLimits { max_headers: 0, ..limits }.check().is_err());
        assert!(HeadLimits { max_header_size: 0, ..limits }.check().is_err());
    }
}
