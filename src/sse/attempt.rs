//! One request for the events, and the check of its answer.

use drivetrain_engine::{Error, ErrorKind, Result};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{request::RequestBuilder, response_body::ResponseBody};

pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The same request for the events after this one, or for all events.
pub(super) fn after(request: RequestBuilder, id: Option<&str>) -> Result<RequestBuilder> {
    let id = id.map(|id| HeaderValue::from_bytes(id.as_bytes())).transpose().map_err(|error| {
        Error::new(ErrorKind::InvalidInput, "an event's id with control bytes cannot be sent")
            .with_source(error)
    })?;
    Ok(request.header_instead(LAST_EVENT_ID, id))
}

/// One try; `None` if the server answers 204.
pub(super) async fn attempt(request: RequestBuilder) -> Result<Option<ResponseBody>> {
    let client = request.client().clone();
    let response = request.send().await?;
    let (kind, what) = match response.status() {
        StatusCode::OK if is_event_stream(response.headers()) => {
            return Ok(Some(response.into_body()));
        }
        StatusCode::OK => (
            ErrorKind::Protocol,
            format!("with the content type {:?}", content_type(response.headers())),
        ),
        StatusCode::NO_CONTENT => return Ok(None),
        status => (ErrorKind::Status, status.to_string()),
    };
    let message = format!("the server answered {what}, where an event stream was expected");
    Err(client.named(Error::new(kind, message).with_response(response.into_refusal().await)))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = content_type(headers).split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/event-stream")
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}
