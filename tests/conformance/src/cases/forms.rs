//! Forms, with and without files.

use std::convert::Infallible;

use drivetrain::{
    Bytes, ErrorKind, Response,
    multipart::{Form, Part},
};
use drivetrain_engine::Capability;
use futures_util::stream;
use serde_json::Value;

use super::bodies::chunks;
use crate::{
    case::{Case, case},
    context::Context,
    expect::fails,
    failure::Verdict,
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_form_is_encoded),
        case(another_library_reads_a_multipart_form),
        case(a_multipart_form_has_a_length_if_its_parts_have),
        case(what_a_part_cannot_have_is_refused_before_anything_is_sent),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::Http1])).collect()
}

/// A form equals a browser's form; the user's content type stays.
async fn a_form_is_encoded(cx: Context) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/echo"));
    let pairs = [("a b", "c&d=e+f"), ("ü", "%\r\n"), ("a b", "")];
    let response = client.post(&url).form(&pairs).send().await?;
    assert_eq!(response.headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(response.text().await?, "a+b=c%26d%3De%2Bf&%C3%BC=%25%0D%0A&a+b=");
    let request = client.post(&url).header("content-type", "x/y").form(&pairs);
    assert_eq!(request.send().await?.headers()["content-type"], "x/y");
    let request = client.post(&url).form(&["not a pair"]);
    fails(request.send().await, ErrorKind::InvalidInput)?;
    Ok(())
}

/// Fields, files and streams arrive with names, types and headers.
async fn another_library_reads_a_multipart_form(cx: Context) -> Verdict {
    let photo: Bytes = (0..100_000).map(|i: u32| (i % 251) as u8).collect();
    let form = Form::new()
        .text("title", "Zoë\r\n--drivetrain-")
        .text("empty", "")
        .part(
            "photo",
            Part::new(photo.clone()).file_name("p \u{e9}.jpg").content_type("image/jpeg"),
        )
        .part("raw", Part::new(chunks(&["in ", "chunks"]).with_length(9)).file_name("a\\b\".bin"))
        .part("raw", Part::new(chunks(&["again"])).header("x-mark", "yes"))
        .text("od\"d\r\nname", "last");
    let request = cx.client().post(cx.echo().http_url("/echo")).multipart(form);
    let parts = read_form(request.send().await?).await?;
    let seen: Vec<_> = parts.iter().map(Read::as_tuple).collect();
    let binary = Some("application/octet-stream");
    assert_eq!(
        seen,
        [
            ("title", None, None, "Zoë\r\n--drivetrain-".as_bytes()),
            ("empty", None, None, b""),
            ("photo", Some("p \u{e9}.jpg"), Some("image/jpeg"), &photo[..]),
            ("raw", Some("a\\b%22.bin"), binary, b"in chunks"),
            ("raw", None, None, b"again"),
            ("od%22d%0D%0Aname", None, None, b"last"),
        ]
    );
    assert_eq!(parts[4].mark.as_deref(), Some("yes"));
    Ok(())
}

/// The length is sent if known. Each form has its own boundary.
async fn a_multipart_form_has_a_length_if_its_parts_have(cx: Context) -> Verdict {
    let (client, url) = (cx.client(), cx.echo().http_url("/anything"));
    let mut boundaries = Vec::new();
    for (part, known) in [
        (Part::new("bytes"), true),
        (Part::new(chunks(&["stream"]).with_length(6)), true),
        (Part::new(chunks(&["stream"])), false),
    ] {
        let form = Form::new().text("first", "1").part("second", part);
        let request = client.post(&url).header("content-type", "text/plain").multipart(form);
        let seen: Value = request.send().await?.json().await?;
        let headers = &seen["headers"];
        assert_eq!(headers["content-length"].is_array(), known, "{seen}");
        assert_eq!(headers["transfer-encoding"].is_array(), !known, "{seen}");
        boundaries.push(headers["content-type"].to_string());
    }
    assert!(boundaries.iter().all(|boundary| boundary.starts_with("[\"multipart/form-data; ")));
    boundaries.sort();
    boundaries.dedup();
    assert_eq!(boundaries.len(), 3, "{boundaries:?}");
    // No part at all is a form, too.
    let request = client.post(cx.echo().http_url("/echo")).multipart(Form::new());
    assert!(read_form(request.send().await?).await?.is_empty());
    Ok(())
}

/// Wrong headers of a part do not reach a server.
async fn what_a_part_cannot_have_is_refused_before_anything_is_sent(cx: Context) -> Verdict {
    let server = cx.echo();
    for part in [
        Part::new("x").content_type("text/plain\r\nx-injected: 1"),
        Part::new("x").header("content-disposition", "attachment"),
        Part::new("x").header("no name", "x"),
    ] {
        let form = Form::new().part("part", part);
        let request = cx.client().post(server.http_url("/echo")).multipart(form);
        fails(request.send().await, ErrorKind::InvalidInput)?;
    }
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// A part as the other library saw it.
struct Read {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
    mark: Option<String>,
    data: Bytes,
}

impl Read {
    fn as_tuple(&self) -> (&str, Option<&str>, Option<&str>, &[u8]) {
        (&self.name, self.file_name.as_deref(), self.content_type.as_deref(), &self.data)
    }
}

/// The parts of a form that was echoed.
async fn read_form(response: Response) -> Verdict<Vec<Read>> {
    let content_type = response.headers()["content-type"].to_str()?.to_owned();
    let boundary = multer::parse_boundary(content_type)?;
    // As a whole: what comes between two looks of this library at an empty form is an incomplete one to it.
    let body = response.bytes().await?;
    let body = stream::iter([Ok::<_, Infallible>(body)]);
    let mut form = multer::Multipart::new(body, boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await? {
        let mark = field.headers().get("x-mark").map(|value| value.to_str().map(str::to_owned));
        parts.push(Read {
            name: field.name().unwrap_or_default().to_owned(),
            file_name: field.file_name().map(str::to_owned),
            content_type: field.content_type().map(ToString::to_string),
            mark: mark.transpose()?,
            data: field.bytes().await?,
        });
    }
    Ok(parts)
}
