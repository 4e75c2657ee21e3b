//! `Retry-After` (RFC 9110 section 10.2.3): pure.

use std::time::Duration;

use http::{HeaderMap, header};

/// The delay that the server asks for, in seconds or as a date.
///
/// A date is compared with the response's own `Date`: the clocks of both ends may differ, and not every platform has
/// a clock.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(header::RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits mean a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(text(header::DATE)?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_invalid_values_ignored() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        for (value, date, expected) in [
            ("120", None, seconds(120)),
            (" 0 ", None, seconds(0)),
            ("99999999999999999999999", None, seconds(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", date, seconds(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", date, seconds(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", date, seconds(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, None),
            ("", None, None),
            ("-1", None, None),
            ("1.5", date, None),
            ("soon", date, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            if let Some(date) = date {
                headers.insert(header::DATE, HeaderValue::from_static(date));
            }
            assert_eq!(retry_after(&headers), expected, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
