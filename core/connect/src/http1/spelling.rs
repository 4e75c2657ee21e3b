//! Header names as RFC 6455 spells them.
//!
//! Names are the same in any case, yet devices and gateways look for `Sec-WebSocket-Key:` byte by byte.
//! hyper writes lower case, or title case, which makes `Sec-Websocket-Key` of it. It forwards the spelling
//! of a response that it has read with `preserve_header_case`, "in a proxy-like fashion", and has no other
//! way to be told one: so it is given a response to read, once, and every request forwards that.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::OnceLock,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use drivetrain_engine::Body;
use http::{Extensions, Request};
use hyper::{
    client::conn::http1::Builder,
    rt::{Read, ReadBufCursor, Write},
};

/// The names that title case gets wrong.
const TEMPLATE: &[u8] = b"HTTP/1.1 204 No Content\r\n\
    Sec-WebSocket-Key:\r\n\
    Sec-WebSocket-Version:\r\n\
    Sec-WebSocket-Protocol:\r\n\
    Sec-WebSocket-Extensions:\r\n\
    DNT:\r\n\
    ETag:\r\n\
    TE:\r\n\
    WWW-Authenticate:\r\n\
    \r\n";

/// The request, whose header names go out in their usual spelling on a connection of
/// [`builder`](super::builder)'s: as RFC 6455 has them, and in title case.
///
/// # Cancel safety
/// Dropping the future loses the request.
pub async fn spelled<B>(mut request: Request<B>) -> Request<B> {
    static SPELLING: OnceLock<Extensions> = OnceLock::new();
    let spelling = match SPELLING.get() {
        Some(spelling) => spelling.clone(),
        None => {
            // A second caller uses the first one's.
            let read = read().await;
            SPELLING.get_or_init(|| read).clone()
        }
    };
    request.extensions_mut().extend(spelling);
    request
}

/// What hyper keeps of the template; nothing if it does not read it, which leaves title case.
async fn read() -> Extensions {
    let template = Template { rest: Bytes::from_static(TEMPLATE), asked: false, reader: None };
    let handshake = Builder::new().preserve_header_case(true).handshake::<_, Body>(template);
    let Ok((mut sender, connection)) = handshake.await else { return Extensions::new() };
    let (mut connection, mut answer) =
        (pin!(connection), pin!(sender.send_request(Request::new(Body::empty()))));
    let mut is_over = false;
    let answer = poll_fn(|cx| {
        is_over = is_over || connection.as_mut().poll(cx).is_ready();
        answer.as_mut().poll(cx)
    });
    answer.await.map(|response| response.into_parts().0.extensions).unwrap_or_default()
}

/// A server that says this, whatever it is asked.
struct Template {
    rest: Bytes,
    asked: bool,
    reader: Option<Waker>,
}

impl Read for Template {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let room = buf.remaining().min(self.rest.len());
        buf.put_slice(&self.rest.split_to(room));
        Poll::Ready(Ok(()))
    }
}

impl Write for Template {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        sync::{Arc, Mutex},
    };

    use http::header;

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Read for Written {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Write for Written {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.lock().expect("no panic").extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn names_are_written_as_usual() {
        let request = Request::builder()
            .uri("/")
            .header(header::SEC_WEBSOCKET_KEY, "k")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_PROTOCOL, "p")
            .header(header::SEC_WEBSOCKET_EXTENSIONS, "e")
            .header(header::HOST, "h")
            .header("x-api-key", "1")
            .header("x-api-key", "2")
            .header(header::TE, "t")
            .body(Body::empty())
            .expect("a request");
        let written = Written::default();
        let sent = async {
            let io = written.clone();
            let handshake = super::super::builder(Default::default()).handshake::<_, Body>(io);
            let (mut sender, connection) = handshake.await.expect("it is in memory");
            let _answer = sender.send_request(spelled(request).await);
            let mut connection = pin!(connection);
            assert!(connection.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        };
        let mut sent = pin!(sent);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!((0..9).any(|_| sent.as_mut().poll(cx).is_ready()), "it is in memory");
        let head = String::from_utf8(written.0.lock().expect("no panic").clone());
        assert_eq!(
            head.expect("text"),
            "GET / HTTP/1.1\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: p\r\nSec-WebSocket-Extensions: e\r\nHost: h\r\n\
             X-Api-Key: 1\r\nX-Api-Key: 2\r\nTE: t\r\n\r\n"
        );
    }
}
