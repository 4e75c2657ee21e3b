//! Places of a mock that no request's URL is ever written like.

use drivetrain::{ErrorKind, HttpClient, http::Method, testing::MockEngine};

#[test]
fn a_pattern_that_can_match_nothing_is_refused() {
    for (pattern, says) in [
        ("", "begin with"),
        ("users", "begin with"),
        ("*/users", "begin with"),
        ("example.com/users", "begin with"),
        ("ftp://example.com/", "begin with"),
        ("ftp://example.com/*", "begin with"),
        ("http://", "begin with"),
        ("http:///users", "`http://users/`"),
        ("https://example.com", "`https://example.com/`"),
        ("https://example.com?a=1", "`https://example.com/?a=1`"),
        ("wss://example.com", "`https://example.com/`"),
        ("https://Example.com/", "`https://example.com/`"),
        ("HTTPS://example.com/", "`https://example.com/`"),
        ("https://Example.com*", "lower case"),
        ("https://b\u{fc}cher.example/", "`https://xn--bcher-kva.example/`"),
        ("https://b\u{fc}cher*", "lower case"),
        ("https://example.com:443/", "`https://example.com/`"),
        ("http://example.com:80/x*", "`http://example.com/x*`"),
        ("https://me@example.com/", "userinfo"),
        ("/users#top", "fragment"),
        ("/users#top*", "fragment"),
        ("/a b", "`/a%20b`"),
        ("/caf\u{e9}*", "`/caf%C3%A9*`"),
        ("/a/../b", "`/b`"),
        ("/a/./b*", "`/a/b*`"),
        ("/search?q=a b", "`/search?q=a%20b`"),
    ] {
        for is_handshake in [false, true] {
            let mock = MockEngine::new();
            match is_handshake {
                true => mock.web_socket(pattern).open(),
                false => mock.on(Method::GET, pattern).respond("never"),
            }
            let built = HttpClient::builder(mock).build();
            let error = built.err().unwrap_or_else(|| panic!("{pattern} was taken"));
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(says), "{pattern}: {error}");
        }
    }
}

#[test]
fn a_pattern_that_can_match_is_taken() {
    for (pattern, url) in [
        ("*", "http://example.com/"),
        ("/", "http://example.com/"),
        ("/*", "http://example.com/x?y=1"),
        ("/a%20b", "http://example.com/a b"),
        ("/files/.*", "http://example.com/files/.profile"),
        ("/files/..*", "http://example.com/files/..x"),
        ("/a*b", "http://example.com/a*b"),
        ("/a%2*", "http://example.com/a%2Fb"),
        ("/?", "http://example.com/?"),
        ("/x?page=2", "http://example.com/x?page=2"),
        ("/x?page=*", "http://example.com/x?page=2"),
        ("http://*", "http://example.com/"),
        ("http://exam*", "http://example.com/"),
        ("http://example.com:80*", "http://example.com:8080/"),
        ("http://example.com*", "http://example.com/x"),
        ("http://example.com/*", "http://example.com/x"),
        ("ws://example.com/x", "http://example.com/x"),
        ("http://[::1]:9/x", "http://[::1]:9/x"),
        ("https://xn--bcher-kva.example/", "https://b\u{fc}cher.example/"),
        ("//x", "http://example.com//x"),
    ] {
        let mock = MockEngine::new();
        mock.on(Method::GET, pattern).respond("answered");
        let client = HttpClient::builder(mock.clone()).build();
        let client = client.unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let response = mock.clock().block_on(client.get(url).send());
        assert!(response.is_ok(), "{pattern} and {url}: {response:?}");
    }
}
