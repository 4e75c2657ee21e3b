//! The check of a 101 answer against the rules of RFC 6455 section 4.1 written down a second time.
//!
//! The input is text: the status, then lines `name: value`. Lines `offer-protocol` and `offer-extension`
//! are what the client offers; the rest are the server's headers, with `$ACCEPT` for the right answer to
//! the key.
#![no_main]

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drivetrain_engine::{ErrorKind, Handshake};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use sha1::{Digest as _, Sha1};

fuzz_target!(|data: &[u8]| run(data));

fn run(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let status = lines
        .next()
        .and_then(|line| std::str::from_utf8(line).ok()?.trim().parse().ok())
        .unwrap_or(101_u16);
    let mut handshake = Handshake::new("ws://localhost/".parse().unwrap()).unwrap();
    let (mut protocols, mut extensions, mut headers) = (vec![], vec![], vec![]);
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // The offers are taken as they are, the space after the colon apart; so is the server's value.
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match (name, std::str::from_utf8(value)) {
            (b"offer-protocol", Ok(value)) => {
                if let Ok(offered) = handshake.clone().subprotocol(value) {
                    handshake = offered;
                    protocols.push(value.to_owned());
                }
            }
            (b"offer-extension", Ok(value)) => {
                // `\n` ends a line here; `\r`, spaces beyond ASCII and so on are in reach.
                if let Ok(offered) = handshake.clone().extension(value) {
                    handshake = offered;
                    extensions.push(value.to_owned());
                }
            }
            _ => headers.push((name.to_vec(), value.to_vec())),
        }
    }
    let request = handshake.request();
    offers_are_sent(&request, &protocols, &extensions);

    let key = request.headers()["sec-websocket-key"].as_bytes();
    let digest = Sha1::digest([key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat());
    let accept = STANDARD.encode(digest);

    let mut response = Response::new(());
    let Ok(status) = http::StatusCode::from_u16(status) else { return };
    *response.status_mut() = status;
    for (name, value) in headers {
        let value = match find(&value, b"$ACCEPT") {
            Some(at) => [&value[..at], accept.as_bytes(), &value[at + 7..]].concat(),
            None => value,
        };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&name), HeaderValue::from_bytes(&value))
        {
            response.headers_mut().append(name, value);
        }
    }

    let verdict = handshake.verify(&response);
    let rule = rule(&response, &accept, &protocols, &extensions);
    match (&verdict, &rule) {
        (Ok(accepted), Rule::Valid { .. } | Rule::Lenient) => {
            if let Some(chosen) = &accepted.subprotocol {
                assert!(protocols.contains(chosen), "not offered: {chosen:?}");
            }
            for extension in &accepted.extensions {
                assert!(
                    names(&extensions).contains(&extension.name().to_owned()),
                    "not offered: {extension:?}"
                );
                assert!(is_token(extension.name()));
                for (name, value) in extension.parameters() {
                    assert!(is_token(name) && value.is_none_or(is_token));
                }
            }
            if let Rule::Valid { protocol, extensions } = rule {
                assert_eq!(accepted.subprotocol, protocol);
                let got: Vec<_> = accepted.extensions.iter().map(|e| e.name().to_owned()).collect();
                assert_eq!(got, extensions);
            }
        }
        (Err(error), Rule::Invalid(_) | Rule::Lenient) => {
            assert_eq!(error.kind(), ErrorKind::Protocol);
            let seen = error.response().expect("the error carries the response");
            assert_eq!((seen.status(), seen.headers()), (response.status(), response.headers()));
        }
        (Ok(accepted), Rule::Invalid(why)) => panic!("accepted {accepted:?} although {why}"),
        (Err(error), Rule::Valid { .. }) => panic!("a valid answer was refused: {error}"),
    }
    let _ = format!("{handshake:?} {verdict:?}");

    // Through middleware and back it is the same handshake.
    let again = Handshake::try_from(Request::from(handshake)).expect("made from a handshake");
    assert_eq!(again.verify(&response).ok(), verdict.ok());
}

/// Everything that was taken as an offer is in the request, once.
fn offers_are_sent(request: &Request<()>, protocols: &[String], extensions: &[String]) {
    for (name, offers) in
        [("sec-websocket-protocol", protocols), ("sec-websocket-extensions", extensions)]
    {
        let sent = request.headers().get(name).map(|value| value.to_str().expect("ASCII"));
        let elements: Vec<_> = sent
            .iter()
            .flat_map(|sent| sent.split(','))
            .map(|element| element.trim_matches([' ', '\t']))
            .filter(|element| !element.is_empty())
            .collect();
        assert_eq!(elements.len(), offers.len(), "{name}: offered {offers:?}, sent {sent:?}");
    }
}

enum Rule {
    /// Must be accepted.
    Valid { protocol: Option<String>, extensions: Vec<String> },
    /// Must be refused.
    Invalid(&'static str),
    /// Not as RFC 6455 has it, but harmless either way.
    Lenient,
}

fn rule(response: &Response<()>, accept: &str, protocols: &[String], offered: &[String]) -> Rule {
    let headers = response.headers();
    if response.status().as_u16() != 101 {
        return Rule::Invalid("the status is not 101");
    }
    let all = |name: &str| -> Vec<Vec<u8>> {
        headers.get_all(name).iter().map(|value| trim(value.as_bytes()).to_vec()).collect()
    };
    let untidy = padded(headers);
    let upgrade = all("upgrade");
    if upgrade.is_empty() || !upgrade.iter().all(|v| v.eq_ignore_ascii_case(b"websocket")) {
        return Rule::Invalid("Upgrade is not websocket");
    }
    let connection = all("connection");
    let token = |line: &[u8]| {
        line.split(|&b| b == b',').any(|part| trim(part).eq_ignore_ascii_case(b"upgrade"))
    };
    if !connection.iter().any(|line| token(line)) {
        return Rule::Invalid("Connection has no token upgrade");
    }
    let accepts = all("sec-websocket-accept");
    if accepts != [accept.as_bytes()] {
        return Rule::Invalid("Sec-WebSocket-Accept is wrong");
    }
    let chosen = all("sec-websocket-protocol");
    if chosen.len() > 1 {
        return Rule::Invalid("there are two subprotocols");
    }
    let protocol = chosen.first().map(|name| String::from_utf8_lossy(name).into_owned());
    if protocol.as_ref().is_some_and(|name| !protocols.contains(name)) {
        return Rule::Invalid("the subprotocol was not offered");
    }
    let mut extensions = vec![];
    let mut lenient = untidy || upgrade.len() > 1 || !connection.iter().all(|v| v.is_ascii());
    for line in all("sec-websocket-extensions") {
        match extension_names(&line) {
            Some(names) if names.is_empty() => lenient = true,
            Some(names) => extensions.extend(names),
            None => return Rule::Invalid("the extensions are not well-formed"),
        }
    }
    let offered = names(offered);
    if !extensions.iter().all(|name| offered.contains(name)) {
        return Rule::Invalid("an extension was not offered");
    }
    let chosen = extensions.iter().collect::<HashSet<_>>();
    if chosen.len() < extensions.len() {
        return Rule::Invalid("an extension was chosen twice");
    }
    if lenient { Rule::Lenient } else { Rule::Valid { protocol, extensions } }
}

/// HTTP libraries take the whitespace around a value off; whether a check bears with it is its own.
fn padded(headers: &HeaderMap) -> bool {
    headers.values().any(|value| trim(value.as_bytes()).len() != value.len())
}

/// RFC 6455 section 9.1, a byte at a time; the values of parameters are checked to be tokens.
fn extension_names(line: &[u8]) -> Option<Vec<String>> {
    let mut names = vec![];
    let mut rest = line;
    loop {
        rest = skip(rest);
        if rest.is_empty() {
            return Some(names);
        }
        if rest[0] == b',' {
            rest = &rest[1..];
            continue;
        }
        let (name, after) = token(rest)?;
        names.push(name);
        rest = skip(after);
        while rest.first() == Some(&b';') {
            let (_, after) = token(skip(&rest[1..]))?;
            rest = skip(after);
            if rest.first() == Some(&b'=') {
                rest = skip(&rest[1..]);
                if rest.first() == Some(&b'"') {
                    // Whitespace within the quotes is no token; the check bears with it.
                    let (_, after) = token(skip(&rest[1..]))?;
                    rest = skip(after).strip_prefix(b"\"")?;
                } else {
                    rest = token(rest)?.1;
                }
                rest = skip(rest);
            }
        }
        if !rest.is_empty() && rest[0] != b',' {
            return None;
        }
    }
}

fn names(offers: &[String]) -> Vec<String> {
    offers.iter().filter_map(|offer| extension_names(offer.as_bytes())?.pop()).collect()
}

fn token(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.iter().position(|&b| !is_token_byte(b)).unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    (end > 0).then(|| (name.to_owned(), &bytes[end..]))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && !b"()<>@,;:\\\"/[]?={}".contains(&byte)
}

fn skip(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = skip(bytes);
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
