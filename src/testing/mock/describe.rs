//! Descriptions of frames for failed tests. Payloads are the test's own data, so they are shown.

use drivetrain_engine::Frame;

const MOST: usize = 200;

pub(super) fn describe(frame: &Frame) -> String {
    let bytes = frame.read_bytes();
    match frame {
        Frame::Text(text) => format!("text {:?}", shortened(text)),
        Frame::Close(Some(reason)) => format!("a close {reason}"),
        Frame::Close(None) => "a close without a reason".into(),
        Frame::Binary(_) => format!("{} binary bytes b\"{}\"", bytes.len(), escaped(bytes)),
        Frame::Ping(_) => format!("a ping b\"{}\"", escaped(bytes)),
        Frame::Pong(_) => format!("a pong b\"{}\"", escaped(bytes)),
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= MOST {
        return text.to_owned();
    }
    let head: String = text.chars().take(MOST).collect();
    format!("{head}…")
}

fn escaped(bytes: &[u8]) -> String {
    let dots = if bytes.len() > MOST { "…" } else { "" };
    format!("{}{dots}", bytes[..bytes.len().min(MOST)].escape_ascii())
}
