//! Forms with files: `multipart/form-data` (RFC 7578).

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Body, Error, ErrorKind, Result};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Frame, SizeHint};

use crate::target;

/// A form of fields and files, for [`RequestBuilder::multipart`](crate::RequestBuilder::multipart).
///
/// If the length of each part is known, the form is sent with `Content-Length`. If all parts are in memory, the form is
/// assembled in memory, so that the request can be repeated.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient, file: drivetrain::Body) -> drivetrain::Result<()> {
/// use drivetrain::multipart::{Form, Part};
///
/// let form = Form::new()
///     .text("title", "A photo")
///     .part("photo", Part::new(file).file_name("photo.jpg").content_type("image/jpeg"));
/// client.post("https://example.com/photos").multipart(form).send().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use = "a form does nothing until it is sent"]
pub struct Form {
    parts: Vec<(String, Part)>,
}

impl Form {
    /// A form without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field of text. Names may occur more than once.
    pub fn text(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.part(name, Part::new(value.into()))
    }

    /// Adds a part. An invalid header of the part is an error of `send`.
    pub fn part(mut self, name: impl Into<String>, part: Part) -> Self {
        self.parts.push((name.into(), part));
        self
    }

    /// The value of `Content-Type`, and the body.
    pub(crate) fn encode(self) -> Result<(HeaderValue, Body)> {
        let boundary = boundary()?;
        let mut chunks = VecDeque::new();
        let mut between = BytesMut::new();
        for (name, part) in self.parts {
            let Part { body, file_name, headers } = part;
            between.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
            head(&mut between, &name, file_name.as_deref(), headers?);
            chunks.push_back(Body::from(between.split().freeze()));
            chunks.push_back(body);
            between.extend_from_slice(b"\r\n");
        }
        between.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        chunks.push_back(Body::from(between.freeze()));
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let content_type = HeaderValue::try_from(content_type).map_err(Error::other)?;
        Ok((content_type, joined(chunks)))
    }
}

/// One part of a [`Form`]: a value or a file.
#[must_use = "a part does nothing until it is added to a form"]
pub struct Part {
    body: Body,
    file_name: Option<String>,
    headers: Result<HeaderMap>,
}

impl Part {
    /// A part of text, bytes, or a stream such as [`Body::from_stream`] makes, best
    /// [with its length](Body::with_length).
    pub fn new(body: impl Into<Body>) -> Self {
        Self { body: body.into(), file_name: None, headers: Ok(HeaderMap::new()) }
    }

    /// Makes the part a file of this name, without directories. Default: a value.
    pub fn file_name(mut self, name: impl Into<String>) -> Self {
        self.file_name = Some(name.into());
        self
    }

    /// Sets the media type. Default: none for a value, which means `text/plain`, and
    /// `application/octet-stream` for a file.
    pub fn content_type(self, value: impl TryInto<HeaderValue, Error: Into<http::Error>>) -> Self {
        self.header(header::CONTENT_TYPE, value)
    }

    /// Sets a header of this part. `Content-Disposition` is made from the names and is
    /// [`ErrorKind::InvalidInput`]; servers ignore most others (RFC 7578 section 4.8).
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        self.headers = self.headers.and_then(|mut headers| {
            let (name, value) = target::header(name, value)?;
            if name == header::CONTENT_DISPOSITION {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "a part's content-disposition is made from its name and file_name",
                ));
            }
            headers.insert(name, value);
            Ok(headers)
        });
        self
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("body", &self.body)
            .field("file_name", &self.file_name)
            .finish_non_exhaustive()
    }
}

/// A boundary that no part contains: 128 random bits.
fn boundary() -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        Error::new(ErrorKind::Other, "the system has no random numbers").with_source(error)
    })?;
    Ok(format!("drivetrain-{:032x}", u128::from_ne_bytes(random)))
}

fn head(out: &mut BytesMut, name: &str, file_name: Option<&str>, mut headers: HeaderMap) {
    let mut disposition = format!("content-disposition: form-data; name=\"{}\"", quoted(name));
    if let Some(file_name) = file_name {
        disposition.push_str(&format!("; filename=\"{}\"", quoted(file_name)));
        let unknown = HeaderValue::from_static("application/octet-stream");
        headers.entry(header::CONTENT_TYPE).or_insert(unknown);
    }
    out.extend_from_slice(disposition.as_bytes());
    for (name, value) in &headers {
        out.extend_from_slice(format!("\r\n{name}: ").as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// A name as browsers write it between quotes: UTF-8 with these three escaped (WHATWG HTML, "multipart
/// form data"), which RFC 7578 section 2 leaves open.
fn quoted(name: &str) -> String {
    name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22")
}

/// One body after the other.
fn joined(chunks: VecDeque<Body>) -> Body {
    let in_memory = chunks.iter().map(|body| body.as_bytes().map(AsRef::as_ref));
    match in_memory.collect::<Option<Vec<&[u8]>>>() {
        Some(whole) => whole.concat().into(),
        None => Body::streaming(Joined(chunks)),
    }
}

struct Joined(VecDeque<Body>);

impl http_body::Body for Joined {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        while let Some(body) = self.0.front_mut() {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                // A part has no trailers.
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.0.clear();
                    return Poll::Ready(Some(Err(error)));
                }
                None => drop(self.0.pop_front()),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let lengths = self.0.iter().map(|body| body.size_hint().exact());
        let whole = lengths.sum::<Option<u64>>();
        whole.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
