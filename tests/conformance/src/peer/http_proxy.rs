//! An HTTP proxy: tunnels (RFC 9110 section 9.3.6) and requests in absolute form.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::conn::Conn;
use super::http::Request;
use super::proxy_script::{ProxyScript, Refusal, fail};
use super::wire::invalid;

/// The handler of a proxy that speaks HTTP, for a [`Server`](super::Server).
pub fn http_proxy(
    script: &ProxyScript,
) -> impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + use<> {
    let script = script.clone();
    move |conn| {
        let Some(request) = conn.read_request()? else { return Ok(()) };
        let given = request.header("proxy-authorization").and_then(decoded);
        script.note(&request.method, &request.target, given.clone());
        match script.refusal() {
            Some(Refusal::Status(status)) => return conn.respond(status, &[], "refused"),
            Some(refusal) => return fail(conn, refusal).map(drop),
            None => {}
        }
        if !script.accepts(given.as_deref()) {
            let challenge = [("proxy-authenticate", "Basic realm=\"peer\"")];
            return conn.respond(407, &challenge, "who are you?");
        }
        if request.method == "CONNECT" {
            return match script.dial(&request.target) {
                Ok(upstream) => {
                    conn.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                    conn.relay(&upstream)
                }
                Err(_) => conn.respond(502, &[], "unreachable"),
            };
        }
        forward(conn, &script, &request)
    }
}

/// Sends the request on and its answer back, once a connection.
fn forward(conn: &mut Conn, script: &ProxyScript, request: &Request) -> io::Result<()> {
    let rest = request.target.strip_prefix("http://");
    let rest = rest.ok_or_else(|| invalid("a proxy is asked in absolute form"))?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    let address =
        if authority.contains(':') { authority.into() } else { format!("{authority}:80") };
    let Ok(mut upstream) = script.dial(&address) else {
        return conn.respond(502, &[], "unreachable");
    };
    let mut head =
        format!("{} {} HTTP/1.1\r\n", request.method, if path.is_empty() { "/" } else { path });
    for (name, value) in &request.headers {
        let own = ["proxy-authorization", "connection", "transfer-encoding", "content-length"];
        if !own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            write!(head, "{name}: {value}\r\n").expect("writing to a String does not fail");
        }
    }
    let length = request.body.len();
    write!(head, "content-length: {length}\r\nconnection: close\r\n\r\n")
        .expect("writing to a String does not fail");
    upstream.write_all(head.as_bytes())?;
    upstream.write_all(&request.body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    conn.write_all(&answer)
}

fn decoded(header: &str) -> Option<String> {
    let bytes = BASE64.decode(header.strip_prefix("Basic ")?).ok()?;
    String::from_utf8(bytes).ok()
}
