//! The cookie jar.
#![cfg(feature = "cookies")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use drivetrain::{Cookie, CookieJar, ErrorKind};

const CASES: &str = include_str!("cookies/http_state.txt");

fn sent(jar: &CookieJar, url: &str) -> String {
    jar.cookies(url).unwrap().unwrap_or_default()
}

/// A jar with what these servers set; what they may not set is passed over, as in an answer.
fn jar(cookies: &[(&str, &str)]) -> CookieJar {
    let jar = CookieJar::new();
    for (url, cookie) in cookies {
        let _ = jar.set(url, cookie);
    }
    jar
}

/// `{n}` and tabs, and what differs.
fn http_state(case: &str) -> Result<(), String> {
    let text = case.replace("\\t", "\t").replace("{4094}", &"a".repeat(4094));
    let (name, text) = text.split_once(": ").unwrap();
    let (input, expected) = text.rsplit_once(" =>").unwrap();
    let (lines, to) = input.split_once(" @ ").unwrap_or((input, "/seen"));
    let to = if to.starts_with('/') { format!("app.site.example{to}") } else { to.to_owned() };
    let jar = CookieJar::new();
    for line in lines.split(" ++ ") {
        let _ = jar.set("http://app.site.example/set", line);
    }
    let seen = sent(&jar, &format!("http://{to}"));
    match seen == expected.trim() {
        true => Ok(()),
        false => Err(format!("{name}: {seen:?} instead of {expected:?}")),
    }
}

#[test]
fn all_parser_cases_of_http_state_hold() {
    let cases: Vec<_> = CASES.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(cases.len(), 218);
    let wrong: Vec<_> = cases.into_iter().filter_map(|case| http_state(case).err()).collect();
    assert!(wrong.is_empty(), "{} do not:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn expired_cookies_are_removed() {
    let jar = CookieJar::new();
    for number in 0..2000 {
        jar.set(format!("http://h{number}.example/"), format!("c{number}=1; Max-Age=60")).unwrap();
        jar.set(format!("http://h{number}.example/"), format!("c{number}=; Max-Age=0")).unwrap();
    }
    assert_eq!(format!("{jar:?}"), "CookieJar(0 cookies)");
    // One that nobody has is not an error: it is gone.
    jar.set("http://a.example/", "never=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT").unwrap();
    for seconds in [1, 20] {
        let start = Instant::now();
        jar.set("http://a.example/", format!("short=1; Max-Age={seconds}")).unwrap();
        let sent_at_once = sent(&jar, "http://a.example/");
        let is_in_time = start.elapsed() < Duration::from_secs(seconds);
        thread::sleep(Duration::from_secs(seconds) + Duration::from_millis(1100));
        assert_eq!(sent(&jar, "http://a.example/"), "");
        assert_eq!(format!("{jar:?}"), "CookieJar(0 cookies)");
        if is_in_time {
            assert_eq!(sent_at_once, "short=1");
            break;
        }
    }
}

#[test]
fn no_server_sets_cookies_for_strangers() {
    for (host, domain, is_accepted) in [
        ("a.com", "com", false),
        ("a.com", ".com", false),
        ("a.com", "COM", false),
        ("a.com", "com.", false),
        ("a.com.", "com.", false),
        ("a.internal", "internal", false),
        ("a.com", "", true),
        ("a.com", "a.com", true),
        ("b.a.com", "a.com", true),
        ("a.com", ".", false),
        ("a.com", ". a.com", false),
        ("a.com", ".\ta.com", false),
        ("a.com", "..a.com", false),
        ("a.com", "a .com", false),
        ("localhost", "localhost", true),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "0.0.1", false),
        ("127.0.0.1", "1", false),
        ("[::1]", "[::1]", true),
        ("xn--bcher-kva.example", "bücher.example", true),
        ("www.xn--bcher-kva.example", "Bücher.example", true),
        ("xn--bcher-kva.example", "bucher.example", false),
    ] {
        let url = format!("http://{host}/");
        let result = CookieJar::new().set(&url, format!("a=1; Domain={domain}"));
        assert_eq!(result.is_ok(), is_accepted, "{domain:?} by {host}: {result:?}");
    }
    // As its own host a suffix has cookies, but its children get none of them.
    let jar = jar(&[("http://localhost/", "a=1; Domain=localhost")]);
    assert_eq!(sent(&jar, "http://localhost/"), "a=1");
    assert_eq!(sent(&jar, "http://x.localhost/"), "");
}

#[cfg(feature = "public-suffix")]
#[test]
fn public_suffixes_are_known() {
    for (host, domain, is_accepted) in [
        ("a.co.uk", "co.uk", false),
        ("a.co.uk", "a.co.uk", true),
        ("me.github.io", "github.io", false),
        ("x.me.github.io", "me.github.io", true),
        ("a.xn--55qx5d.cn", "xn--55qx5d.cn", false),
        ("a.xn--55qx5d.cn", "公司.cn", false),
        ("x.kobe.jp", "kobe.jp", false),
        ("www.city.kobe.jp", "city.kobe.jp", true),
        ("a.b.ck", "b.ck", false),
        ("x.www.ck", "www.ck", true),
        ("a.co.uk.", "co.uk.", false),
        ("github.io", "github.io", true),
        ("a.nowhere.invalid", "nowhere.invalid", true),
    ] {
        let url = format!("http://{host}/");
        let result = CookieJar::new().set(&url, format!("a=1; Domain={domain}"));
        assert_eq!(result.is_ok(), is_accepted, "{domain:?} by {host}: {result:?}");
    }
    let jar = jar(&[("http://github.io/", "a=1; Domain=github.io")]);
    assert_eq!(sent(&jar, "http://github.io/"), "a=1");
    assert_eq!(sent(&jar, "http://me.github.io/"), "");
}

#[test]
fn the_oldest_makes_room_within_a_domain() {
    let jar = CookieJar::new();
    jar.set("https://a.example/", "safe=1; Secure").unwrap();
    for number in 0..179 {
        jar.set("https://a.example/", format!("c{number}=1")).unwrap();
        jar.set("https://b.example/", format!("c{number}=1")).unwrap();
    }
    // A change is no further cookie.
    jar.set("https://a.example/", "c0=changed").unwrap();
    jar.set("https://a.example/", "new=1").unwrap();
    let (seen, other) = (sent(&jar, "https://a.example/"), sent(&jar, "https://b.example/"));
    let names: Vec<_> = seen.split("; ").collect();
    assert_eq!(names.len(), 180, "{seen}");
    assert!(names.contains(&"c0=changed") && !names.contains(&"c1=1"), "{seen}");
    assert!(names.contains(&"safe=1") && names.contains(&"new=1"), "{seen}");
    assert_eq!(other.split("; ").count(), 179);
    // A server without TLS pushes none of the secure ones out.
    for number in 0..500 {
        jar.set("http://a.example/", format!("flood{number}=1")).unwrap();
    }
    assert!(sent(&jar, "https://a.example/").starts_with("safe=1; "));
}

#[test]
fn other_sites_do_not_use_up_a_sites_cookies() {
    let jar = CookieJar::new();
    for number in 0..180 {
        let _ = jar.set("http://evil.com/", format!("c{number}=1; Domain=com"));
        let _ = jar.set("http://evil.site.example/", format!("c{number}=1; Domain=site.example"));
    }
    jar.set("http://good.com/", "session=1").unwrap();
    assert_eq!(sent(&jar, "http://good.com/"), "session=1");
    jar.set("http://good.site.example/", "session=1").unwrap();
    assert!(sent(&jar, "http://good.site.example/").contains("session=1"));
}

#[test]
fn the_whole_jar_is_bounded_and_what_is_used_stays() {
    let jar = jar(&[("http://used.example/", "a=1"), ("http://idle.example/", "a=1")]);
    for number in 0..3500 {
        jar.set(format!("http://h{number}.example/"), "a=1").unwrap();
        if number % 500 == 0 {
            assert_eq!(sent(&jar, "http://used.example/"), "a=1");
        }
    }
    assert_eq!(format!("{jar:?}"), "CookieJar(3000 cookies)");
    assert_eq!(sent(&jar, "http://used.example/"), "a=1");
    assert_eq!(sent(&jar, "http://idle.example/"), "");
    assert_eq!(sent(&jar, "http://h3499.example/"), "a=1");
}

#[test]
fn the_order_is_by_path_and_then_by_age() {
    for _ in 0..20 {
        let jar = CookieJar::new();
        for name in ["d", "a", "z", "m", "b"] {
            jar.set("http://x.a.example/p/q/", format!("{name}=1; Path=/")).unwrap();
            jar.set("http://x.a.example/p/q/", format!("{name}=2; Path=/p/q")).unwrap();
            jar.set("http://x.a.example/p/q/", format!("{name}=3; Path=/p; Domain=a.example"))
                .unwrap();
        }
        // A new value does not make it younger.
        jar.set("http://x.a.example/", "d=9; Path=/").unwrap();
        assert_eq!(
            sent(&jar, "http://x.a.example/p/q/"),
            "d=2; a=2; z=2; m=2; b=2; d=3; a=3; z=3; m=3; b=3; d=9; a=1; z=1; m=1; b=1"
        );
    }
}

#[test]
fn a_bad_cookie_is_refused_at_set_and_does_not_silence_the_jar() {
    let jar = jar(&[("http://a.example/", "good=1")]);
    let long = format!("long={}", "x".repeat(4096));
    for bad in ["a=\u{1}", "a=1\r\nx: y", "a\n=1", "a=\0", "a=\x7f", "=1", "a", "", ";a=1", &long] {
        let error = jar.set("http://a.example/", bad).expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(sent(&jar, "http://a.example/"), "good=1");
    }
    jar.set("http://a.example/", "tab=a\tb; Path=/").unwrap();
    jar.set("http://a.example/", "größe=Maß").unwrap();
    assert_eq!(sent(&jar, "http://a.example/"), "good=1; tab=a\tb; größe=Maß");
}

#[test]
fn a_plain_server_cannot_hide_a_secure_cookie() {
    for (cookie, is_accepted) in [
        ("s=1; Path=/", true),
        ("s=1; Path=/app", false),
        ("s=1; Path=/app/x", false),
        ("s=1; Path=/app; Domain=a.example", false),
        ("t=1; Path=/app", true),
    ] {
        let jar = jar(&[("https://x.a.example/", "s=1; Path=/app; Secure")]);
        let result = jar.set("http://x.a.example/", cookie);
        assert_eq!(result.is_ok(), is_accepted, "{cookie}: {result:?}");
    }
}

#[test]
fn cookies_are_listed_and_removed() {
    let jar = jar(&[
        ("https://x.a.example/p/q", "a=secret; Domain=a.example; Max-Age=60; Secure"),
        ("http://b.example/", "b=2; HttpOnly; Path=/p"),
    ]);
    let cookies: Vec<Cookie> = jar.iter().collect();
    let [a, b] = &cookies[..] else { panic!("{cookies:?}") };
    assert_eq!((&*a.name(), &*a.value(), a.domain(), a.path()), ("a", "secret", "a.example", "/p"));
    assert_eq!((a.is_host_only(), a.is_secure(), a.is_http_only()), (false, true, false));
    let left = a.expires().unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30), "{left:?}");
    assert_eq!(
        (&*b.name(), b.value_bytes(), b.domain(), b.path()),
        ("b", &b"2"[..], "b.example", "/p")
    );
    assert_eq!((b.is_host_only(), b.is_secure(), b.is_http_only()), (true, false, true));
    assert_eq!(b.expires(), None);
    assert!(!format!("{cookies:?}").contains("secret"), "{cookies:?}");
    assert!(jar.remove(a));
    assert!(!jar.remove(a));
    assert!(jar.iter().eq([b.clone()]));
    jar.clear();
    assert_eq!(jar.iter().count(), 0);
}

#[cfg(feature = "json")]
mod saved {
    use super::*;

    #[test]
    fn a_jar_is_saved_and_read_again() {
        let jar = jar(&[
            ("https://x.a.example/p/q", "z=1; Domain=a.example; Max-Age=600; Secure; Path=/"),
            ("https://x.a.example/", "größe=\"Maß\"; HttpOnly"),
            ("https://x.a.example/", "__Host-a=1; Secure; Path=/"),
            ("http://127.0.0.1/", "ip=1; Domain=127.0.0.1"),
            ("http://[::1]:81/x/y", "ip=6"),
            ("http://localhost/", "l=1; Domain=localhost"),
        ]);
        assert_eq!(jar.iter().count(), 6);
        let text = serde_json::to_string(&jar).unwrap();
        let again: CookieJar = serde_json::from_str(&text).unwrap();
        assert!(again.iter().eq(jar.iter()), "{text}");
        for url in
            ["https://x.a.example/", "http://127.0.0.1/", "http://localhost/", "ws://[::1]/x"]
        {
            assert_eq!(sent(&again, url), sent(&jar, url), "{url}");
        }
        let lasting: CookieJar = jar.iter().filter(|cookie| cookie.expires().is_some()).collect();
        assert_eq!(sent(&lasting, "https://x.a.example/"), "z=1");
        // Into a jar that is in use.
        let mut used = lasting.clone();
        used.extend(jar.iter());
        assert_eq!(lasting.iter().count(), 6);
    }

    #[test]
    fn what_is_expired_or_wrong_is_not_read() {
        let read = |name: &str, value: &str, more: &str| {
            let text = format!(
                r#"[{{"name":"{name}","value":"{value}","domain":"a.example","host_only":true,"path":"/"{more}}}]"#
            );
            serde_json::from_str::<CookieJar>(&text).map(|jar| sent(&jar, "https://a.example/"))
        };
        assert_eq!(read("a", "1", "").unwrap(), "a=1");
        assert_eq!(read("a", "1", r#","expires":1"#).unwrap(), "");
        assert_eq!(read("a", "1", r#","expires":9223372036854775807"#).unwrap(), "a=1");
        for (name, value) in [
            ("", "1"),
            ("a=b", "1"),
            ("a;b", "1"),
            (" a", "1"),
            ("a", "1; b=2"),
            ("a", "1 "),
            ("a", "\\r\\nx: y"),
            ("a", "\\u0001"),
            ("a", "\\u20ac"),
            ("__Secure-a", "1"),
            ("__Host-a", "1"),
        ] {
            assert!(read(name, value, "").is_err(), "{name}={value}");
        }
        for (domain, path) in
            [("com", "/"), ("A.example", "/"), ("", "/"), ("a.example/", "/"), ("a.example", "x")]
        {
            let text =
                format!(r#"[{{"name":"a","value":"1","domain":"{domain}","path":"{path}"}}]"#);
            assert!(serde_json::from_str::<CookieJar>(&text).is_err(), "{text}");
        }
    }
}
