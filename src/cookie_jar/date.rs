//! The dates of `Expires` (RFC 6265 section 5.1.1), in any order and with any separators.

const MONTHS: [&[u8]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

/// Seconds since 1970.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        // A token is the first of these fields that it fits and that is not set yet.
        let _ = set(&mut time, || clock(token))
            || set(&mut day, || Some(number(token, 1..=2)?.0))
            || set(&mut month, || month_of(token))
            || set(&mut year, || Some(number(token, 2..=4)?.0));
    }
    let ((hour, minute, second), day, month) = (time?, day?, month?);
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    if year < 1601 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(days(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second)
}

fn set<T>(field: &mut Option<T>, value: impl FnOnce() -> Option<T>) -> bool {
    if field.is_some() {
        return false;
    }
    *field = value();
    field.is_some()
}

fn is_delimiter(byte: &u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// A number of this many digits, and the rest.
fn number(text: &[u8], digits: std::ops::RangeInclusive<usize>) -> Option<(i64, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = text[..count].iter().take(4).fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'));
    digits.contains(&count).then_some((value, &text[count..]))
}

fn clock(text: &[u8]) -> Option<(i64, i64, i64)> {
    let (hour, rest) = number(text, 1..=2)?;
    let (minute, rest) = number(rest.strip_prefix(b":")?, 1..=2)?;
    let (second, _) = number(rest.strip_prefix(b":")?, 1..=2)?;
    Some((hour, minute, second))
}

fn month_of(text: &[u8]) -> Option<i64> {
    let name = text.get(..3)?;
    let at = MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month))?;
    i64::try_from(at + 1).ok()
}

/// Days from 1970 to a day of the Gregorian calendar, if it has this day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let of_year = (153 * month + 2) / 5 + day - 1;
    (1..=length).contains(&day).then_some(year * 365 + leap_days + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates_are_read_in_any_shape() {
        // 1 March 2024 12:34:56.
        let expected = Some(1_709_296_496);
        for text in [
            "Fri, 01 Mar 2024 12:34:56 GMT",
            "Friday, 01-Mar-24 12:34:56 GMT",
            "Fri Mar  1 12:34:56 2024",
            "Mar 1 24 12:34:56",
            "2024 march 1 12:34:56",
            "12:34:56 1 MARCHING 2024 GMT-0400 (EST)",
            "1/Mar\\2024 12:34:56",
            "\"1-Mar-24\"12:34:56\"",
            "Nonsday, 1 - Mar-2024 ::00 a:b 12:34:56 23:59:59",
            "1-Fri, Mar 12:34:56x 2024",
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_calendar_is_the_gregorian_one() {
        for (text, expected) in [
            ("1 Jan 1970 0:0:0", Some(0)),
            ("31 Dec 1969 23:59:59", Some(-1)),
            ("29 Feb 2000 00:00:00", Some(951_782_400)),
            ("29 Feb 2024 00:00:00", Some(1_709_164_800)),
            ("29 Feb 2023 00:00:00", None),
            ("29 Feb 1900 00:00:00", None),
            ("31 Apr 2024 00:00:00", None),
            ("1 Jan 69 00:00:00", Some(3_124_224_000)),
            ("1 Jan 70 00:00:00", Some(0)),
            ("31 Dec 9999 23:59:59", Some(253_402_300_799)),
            ("1 Jan 1601 00:00:00", Some(-11_644_473_600)),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "no date",
            "1 Mar 2024",
            "Mar 2024 12:34:56",
            "1 2024 12:34:56",
            "1 Mar 12:34:56",
            "1 Mar 2024 12: 34:56",
            "1 Mar 2024 24:00:00",
            "1 Mar 2024 12:60:00",
            "1 Mar 2024 12:00:60",
            "1 Mar 2024 91:00:00 12:34:56",
            "1 Mar 2024 12:34:999999999999",
            "0 Mar 2024 12:34:56",
            "32 Mar 2024 12:34:56",
            "001 Mar 2024 12:34:56",
            "1 Mar 20240 12:34:56",
            "1 Mar 99999999999999999999 12:34:56",
            "1 Mar 1600 12:34:56",
            "98 March 17 12:34:56",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
