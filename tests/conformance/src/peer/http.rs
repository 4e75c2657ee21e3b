//! HTTP/1.1 on a connection: requests, responses and the WebSocket handshake.

use std::fmt::{self, Write as _};
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};

use super::conn::Conn;
use super::wire::invalid;

/// A head longer than this is refused.
const MAX_HEAD: usize = 1024 * 1024;

/// An HTTP request with its whole body.
#[derive(Clone)]
#[non_exhaustive]
pub struct Request {
    /// The method, as it was sent.
    pub method: String,
    /// The request target, as it was sent.
    pub target: String,
    /// The target up to its `?`.
    pub path: String,
    /// The target's parameters, percent-decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The headers in their order; names as they were sent.
    pub headers: Vec<(String, String)>,
    /// The body, empty if there is none.
    pub body: Vec<u8>,
}

impl Request {
    /// The first value of a header; the name's case does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// All values of a header, in their order.
    pub fn header_values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = move |(key, value): &'a (String, String)| {
            key.eq_ignore_ascii_case(name).then_some(value.as_str())
        };
        self.headers.iter().filter_map(named)
    }

    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A query parameter as a number or other parsed value; `default` if it is missing or malformed.
    pub fn parameter_or<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        self.parameter(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// Whether it asks for an upgrade to WebSocket; [`Conn::accept`] checks the rest.
    pub fn is_web_socket(&self) -> bool {
        self.has_token("upgrade", "websocket")
    }

    /// Whether a header that is a list of tokens, in one or several lines, has this one.
    pub fn has_token(&self, header: &str, token: &str) -> bool {
        let mut tokens = self.header_values(header).flat_map(|value| value.split(','));
        tokens.any(|candidate| candidate.trim().eq_ignore_ascii_case(token))
    }

    /// The handshake's key, or the status and the reason to refuse it with.
    fn handshake_key(&self) -> Result<&str, (u16, &'static str)> {
        if self.method != "GET" {
            return Err((405, "a handshake is a GET"));
        }
        if !self.is_web_socket() || !self.has_token("connection", "upgrade") {
            return Err((426, "Upgrade: websocket and Connection: upgrade are required"));
        }
        if self.header_values("host").count() != 1 {
            return Err((400, "one Host header is required"));
        }
        if self.header("sec-websocket-version") != Some("13") {
            return Err((426, "Sec-WebSocket-Version must be 13"));
        }
        let mut keys = self.header_values("sec-websocket-key");
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err((400, "one Sec-WebSocket-Key is required"));
        };
        match BASE64.decode(key) {
            Ok(bytes) if bytes.len() == 16 => Ok(key),
            _ => Err((400, "Sec-WebSocket-Key must be 16 bytes in base64")),
        }
    }
}

impl fmt::Debug for Request {
    /// Prints the names of the headers only, as a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &names)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finalize())
}

impl Conn {
    /// The next request with its body; `None` if the client ended the stream before it.
    /// Answers `Expect: 100-continue`.
    pub fn read_request(&mut self) -> io::Result<Option<Request>> {
        let size = loop {
            if let Some(at) = find(self.buffered(), b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffered().len() > MAX_HEAD {
                return Err(invalid("the request's head is too long"));
            }
            if !self.buffered().is_empty() {
                self.fill_some()?;
            } else if !self.fill()? {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&self.buffered()[..size - 4]).into_owned();
        self.consume(size);
        self.count_request();
        let mut request = parse_head(&head)?;
        self.head_only = request.method == "HEAD";
        self.last_request = request.has_token("connection", "close");
        if request.has_token("expect", "100-continue") {
            self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if request.has_token("transfer-encoding", "chunked") {
            self.read_chunks(&mut request.body)?;
        } else if let Some(length) = request.header("content-length") {
            let length =
                length.parse().map_err(|_| invalid("the content length is not a number"))?;
            self.read_body(length, &mut request.body)?;
        }
        Ok(Some(request))
    }

    /// Reads a handshake and accepts it without further headers, for handlers that only speak frames.
    /// An error if the client ended the stream, or as [`accept`](Self::accept).
    pub fn accept_web_socket(&mut self) -> io::Result<Request> {
        let request = self.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.accept(&request, &[])?;
        Ok(request)
    }

    /// Answers a handshake with 101, the key's answer and `headers`. What is wrong with the handshake
    /// is the body of a response with status 400, 405 or 426, and `InvalidData` here.
    pub fn accept(&mut self, request: &Request, headers: &[(&str, &str)]) -> io::Result<()> {
        self.accept_with_tail(request, headers, &[])
    }

    /// As [`accept`](Self::accept), with `tail` in the same write as the 101.
    pub fn accept_with_tail(
        &mut self,
        request: &Request,
        headers: &[(&str, &str)],
        tail: &[u8],
    ) -> io::Result<()> {
        let key = match request.handshake_key() {
            Ok(key) => accept_key(key),
            Err((status, what)) => {
                self.respond(status, &[("sec-websocket-version", "13")], what)?;
                return Err(invalid(what));
            }
        };
        let mut head = String::from(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n",
        );
        push_headers(&mut head, &[("sec-websocket-accept", &key)]);
        push_headers(&mut head, headers);
        head.push_str("\r\n");
        self.output.extend_from_slice(head.as_bytes());
        self.write_all(tail)
    }

    /// Writes a response. Adds `content-length`, unless `headers` have it or `transfer-encoding`, and
    /// `connection: close` if the client sent it. Leaves the body out where HTTP forbids one.
    pub fn respond(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        let body = body.as_ref();
        let given = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let bodiless = matches!(status, 100..=199 | 204 | 304);
        let length = body.len().to_string();
        let framing = [("content-length", length.as_str())];
        let framed = bodiless || given("content-length") || given("transfer-encoding");
        self.push_response_head(status, headers, if framed { &[] } else { &framing });
        if !bodiless && !self.head_only {
            self.output.extend_from_slice(body);
        }
        self.flush()
    }

    /// Writes the head of a response whose body is chunked; [`send_chunk`](Self::send_chunk) and
    /// [`end_chunked`](Self::end_chunked) follow.
    pub fn begin_chunked(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        self.push_response_head(status, headers, &[("transfer-encoding", "chunked")]);
        self.flush()
    }

    /// Writes one chunk in a separate write; nothing if it is empty or answers a HEAD.
    pub fn send_chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        if chunk.is_empty() || self.head_only {
            return Ok(());
        }
        self.output.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        self.output.extend_from_slice(chunk);
        self.write_all(b"\r\n")
    }

    /// Ends a chunked body.
    pub fn end_chunked(&mut self) -> io::Result<()> {
        if self.head_only {
            return Ok(());
        }
        self.write_all(b"0\r\n\r\n")
    }

    fn push_response_head(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        framing: &[(&str, &str)],
    ) {
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status));
        push_headers(&mut head, headers);
        push_headers(&mut head, framing);
        if self.last_request {
            push_headers(&mut head, &[("connection", "close")]);
        }
        head.push_str("\r\n");
        self.output.extend_from_slice(head.as_bytes());
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.read_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| invalid("the chunk size is malformed"))?;
            if size == 0 {
                break;
            }
            self.read_body(size, body)?;
            if !self.read_line()?.is_empty() {
                return Err(invalid("the chunk is longer than its size"));
            }
        }
        while !self.read_line()?.is_empty() {} // Trailers.
        Ok(())
    }

    fn read_body(&mut self, mut left: usize, body: &mut Vec<u8>) -> io::Result<()> {
        while left > 0 {
            if self.buffered().is_empty() {
                self.fill_some()?;
            }
            let len = left.min(self.buffered().len());
            body.extend_from_slice(&self.buffered()[..len]);
            self.consume(len);
            left -= len;
        }
        Ok(())
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(self.buffered(), b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffered()[..at]).into_owned();
                self.consume(at + 2);
                return Ok(line);
            }
            if self.buffered().len() > MAX_HEAD {
                return Err(invalid("the line is too long"));
            }
            self.fill_some()?;
        }
    }
}

fn parse_head(head: &str) -> io::Result<Request> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid("the request line is malformed"));
    };
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header has no colon"))?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(invalid("a header's name is malformed"));
        }
        Ok((name.to_owned(), value.trim().to_owned()))
    });
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    Ok(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        path: path.to_owned(),
        query: pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (percent_decode(name), percent_decode(value)))
            .collect(),
        headers: headers.collect::<io::Result<_>>()?,
        body: Vec::new(),
    })
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn push_headers(head: &mut String, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("writing to a String does not fail");
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_rfc_6455_section_1_3() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_head_is_parsed() {
        let head =
            "GET /a%20b?x=1&y=a%20b+c%zz&flag&x=2 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a:  2 ,3";
        let request = parse_head(head).expect("well-formed");
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/a%20b"));
        assert_eq!(request.header("HOST"), Some("h"));
        assert_eq!(request.header_values("X-a").collect::<Vec<_>>(), ["1", "2 ,3"]);
        assert!(request.has_token("x-a", "3"));
        assert_eq!(request.parameter("x"), Some("1"));
        assert_eq!(request.parameter("y"), Some("a b c%zz"));
        assert_eq!(request.parameter("flag"), Some(""));
        assert_eq!(request.parameter_or("x", 7), 1);
        assert_eq!(request.parameter_or("y", 7), 7);
    }

    #[test]
    fn malformed_heads_are_refused() {
        for head in ["GET /", "GET / HTTP/1.0", "GET / x HTTP/1.1", "GET / HTTP/1.1\r\nno colon"] {
            assert!(parse_head(head).is_err(), "{head}");
        }
    }
}
