//! The ready-made server's HTTP resources, and the handshakes it refuses.

use std::io;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::conn::Conn;
use super::echo::ENDPOINTS;
use super::http::Request;

const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Whether a handshake is answered with a response.
pub(super) fn refuses(request: &Request) -> bool {
    !ENDPOINTS.contains(&request.path.as_str())
}

/// Answers a request that is no handshake, or one that is refused.
pub(super) fn respond(conn: &mut Conn, request: &Request) -> io::Result<()> {
    let path = request.path.as_str();
    match (request.method.as_str(), path) {
        (_, "/refuse") => refuse(conn, request),
        (_, "/redirect") => {
            let to = request.parameter("to").unwrap_or("/get");
            conn.respond(
                request.parameter_or("status", 302),
                &[("location", to), TEXT],
                "redirected",
            )
        }
        _ if request.is_web_socket() => conn.respond(404, &[TEXT], "no such endpoint"),
        ("GET" | "HEAD", "/get") => conn.respond(200, &[TEXT], "get"),
        ("POST" | "PUT" | "PATCH", "/echo") => {
            let kind = request.header("content-type").unwrap_or("application/octet-stream");
            conn.respond(200, &[("content-type", kind)], &request.body)
        }
        (_, "/headers") => {
            let headers = headers(request).to_string();
            conn.respond(200, &[JSON], headers)
        }
        (_, "/slow") => {
            conn.pause(Duration::from_millis(request.parameter_or("ms", 0)))?;
            conn.respond(200, &[TEXT], "slow")
        }
        (_, "/stream") => stream(conn, request),
        _ if path == "/anything" || path.starts_with("/anything/") => {
            let description = describe(conn, request).to_string();
            conn.respond(200, &[JSON], description)
        }
        _ => match path.strip_prefix("/status/").and_then(|status| status.parse().ok()) {
            Some(status @ 200..=599) => {
                conn.respond(status, &[("x-test", "status"), TEXT], format!("status {status}"))
            }
            Some(_) => conn.respond(400, &[TEXT], "the status must be 200 to 599"),
            None => conn.respond(404, &[TEXT], "no such resource"),
        },
    }
}

/// The request as JSON.
pub(super) fn describe(conn: &Conn, request: &Request) -> Value {
    let query: Map<_, _> =
        request.query.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let tls = conn.tls().map(|tls| {
        json!({
            "server_name": tls.server_name,
            "offered_alpn": tls.offered_alpn,
            "alpn": tls.alpn,
            "client_certificate": tls.client_certificate,
        })
    });
    json!({
        "method": request.method,
        "path": request.path,
        "target": request.target,
        "query": query,
        "headers": headers(request),
        "body": String::from_utf8_lossy(&request.body),
        "body_length": request.body.len(),
        "connection": conn.id(),
        "tls": tls,
    })
}

fn headers(request: &Request) -> Value {
    let mut headers = Map::new();
    for (name, _) in &request.headers {
        headers
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| json!(request.header_values(name).collect::<Vec<_>>()));
    }
    Value::Object(headers)
}

fn refuse(conn: &mut Conn, request: &Request) -> io::Result<()> {
    let status = request.parameter_or("status", 403u16);
    let body = match request.parameter("size").and_then(|size| size.parse().ok()) {
        Some(size) => "x".repeat(size),
        None => format!("refused with {status}"),
    };
    let mut headers = vec![("x-test", "refused"), TEXT];
    headers.extend(request.parameter("location").map(|to| ("location", to)));
    conn.respond(status, &headers, body)
}

fn stream(conn: &mut Conn, request: &Request) -> io::Result<()> {
    let count = request.parameter_or("chunks", 3usize);
    let chunk = vec![b'x'; request.parameter_or("size", 16)];
    let pause = Duration::from_millis(request.parameter_or("ms", 0));
    conn.begin_chunked(200, &[TEXT])?;
    for _ in 0..count {
        if !pause.is_zero() {
            conn.pause(pause)?;
        }
        conn.send_chunk(&chunk)?;
    }
    conn.end_chunked()
}
