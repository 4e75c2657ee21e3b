//! One request to the engine, repeated where that is safe.

use drivetrain_engine::{Body, Engine, Error, NewConnection, Replay, Result};
use http::{Method, Request, Response, request::Parts};
use http_body::Body as _;

use super::upload::{CHUNK, Upload};

/// How often a request is repeated that the server has not processed; the last time over a new connection.
const REPEATS: u32 = 3;

/// Sends a request. A request that its server has not processed is sent again. An idempotent request whose reused
/// connection ended before the answer is sent once more (RFC 9110 section 9.2.2, RFC 9113 section 8.7).
pub(super) async fn execute(engine: &dyn Engine, request: Request<Body>) -> Result<Response<Body>> {
    let (mut parts, mut body) = request.into_parts();
    let mut repeats = Repeats { left: REPEATS, was_unanswered: false };
    loop {
        let again = body.try_clone();
        let (upload, sent) = split(body);
        let failed = match engine.execute(Request::from_parts(parts.clone(), sent)).await {
            Ok(response) => return answered(engine, response, upload),
            Err(error) => error,
        };
        if !repeats.allow(&failed, &mut parts) {
            return Err(failed);
        }
        let unbegun = || upload.as_ref().and_then(Upload::take_back);
        let Some(whole) = again.or_else(unbegun) else { return Err(failed) };
        body = whole;
    }
}

struct Repeats {
    left: u32,
    was_unanswered: bool,
}

impl Repeats {
    /// Whether the request may be repeated; marks it for a new connection if that is needed.
    fn allow(&mut self, failed: &Error, parts: &mut Parts) -> bool {
        let is_new = match failed.replay() {
            Some(Replay::NotProcessed) if self.left > 0 => {
                self.left -= 1;
                self.left == 0
            }
            Some(Replay::Unanswered) if !self.was_unanswered => {
                self.was_unanswered = true;
                if !is_idempotent(&parts.method) {
                    return false;
                }
                true
            }
            _ => return false,
        };
        if is_new {
            parts.extensions.insert(NewConnection);
        }
        true
    }
}

/// The methods that RFC 9110 section 9.2.2 names; an unknown one may do anything.
fn is_idempotent(method: &Method) -> bool {
    const IDEMPOTENT: [Method; 6] =
        [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE];
    IDEMPOTENT.contains(method)
}

/// Splits a body off that may have to be taken back or ended. A body of one chunk in memory needs neither: the engine
/// has it at once.
fn split(body: Body) -> (Option<Upload>, Body) {
    let is_small = body.as_bytes().is_some_and(|bytes| bytes.len() <= CHUNK);
    if is_small || body.is_end_stream() {
        return (None, body);
    }
    let (upload, body) = Upload::new(body);
    (Some(upload), body)
}

fn answered(
    engine: &dyn Engine,
    response: Response<Body>,
    upload: Option<Upload>,
) -> Result<Response<Body>> {
    let Some(upload) = upload else { return Ok(response) };
    Ok(upload.until_answered(response, engine.runtime()?))
}
