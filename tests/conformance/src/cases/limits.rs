//! Limits, in both directions. Peers that go beyond them by a byte or by far are among the hostile ones.

use drivetrain::{Capability, ErrorKind, WebSockets};
use drivetrain_engine::Capability::{MaxFrameSize, MaxMessageSize};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{echoes, ends_with, fails, message},
    failure::Verdict,
    peer::WireFrame,
    script::PeerBehaviour::Polite,
};

const MAX_FRAME: usize = 1000;
const MAX_MESSAGE: usize = 2500;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(the_largest_frame_and_message_are_received).needs(&[MaxFrameSize, MaxMessageSize]),
        case(a_message_above_the_limit_is_not_sent).needs(&[MaxMessageSize]),
        case(messages_go_out_in_frames_within_the_limit)
            .needs(&[MaxFrameSize, Capability::SendFragments]),
        case(a_requests_limit_can_only_be_lower).needs(&[MaxMessageSize]),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// `TooBig` and Close 1009, as soon as it is announced.
pub(super) async fn a_frame_above_the_limit_is_refused(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| conn.send(&WireFrame::binary(vec![0; MAX_FRAME + 1])));
    let client = cx.client_with(WebSockets::new().max_frame_size(MAX_FRAME))?;
    let mut session = client.web_socket(peer.url()).connect().await?;
    ends_with(&mut session, ErrorKind::TooBig).await?;
    assert_eq!(peer.close().await?.0, Some(1009));
    Ok(())
}

/// `TooBig` and Close 1009, whether it comes whole or in fragments.
pub(super) async fn a_message_above_the_limit_is_refused(cx: Context) -> Verdict {
    for fin in [true, false] {
        let mut peer = cx.peer(Polite, move |conn| {
            conn.feed(&WireFrame { fin, ..WireFrame::binary(vec![0; MAX_MESSAGE]) });
            conn.send(&match fin {
                true => WireFrame::binary(vec![0; MAX_MESSAGE + 1]),
                false => WireFrame::continuation([0], true),
            })
        });
        let client = cx.client_with(WebSockets::new().max_message_size(MAX_MESSAGE))?;
        let mut session = client.web_socket(peer.url()).connect().await?;
        if fin {
            assert_eq!(message(&mut session).await?.read_bytes().len(), MAX_MESSAGE);
        }
        ends_with(&mut session, ErrorKind::TooBig).await?;
        assert_eq!(peer.close().await?.0, Some(1009));
    }
    Ok(())
}

/// Exactly at the limits there is no error.
async fn the_largest_frame_and_message_are_received(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        conn.feed(&WireFrame::binary(vec![1; MAX_FRAME]));
        conn.feed(&WireFrame { fin: false, ..WireFrame::binary(vec![1; MAX_FRAME]) });
        conn.feed(&WireFrame::continuation(vec![1; MAX_FRAME], false));
        conn.send(&WireFrame::continuation(vec![1; MAX_MESSAGE - 2 * MAX_FRAME], true))
    });
    let mut session = limited(&cx)?.web_socket(peer.url()).connect().await?;
    for len in [MAX_FRAME, MAX_MESSAGE] {
        assert_eq!(message(&mut session).await?.read_bytes().len(), len);
    }
    Ok(())
}

/// The message is refused before any byte is sent, and the session stays open.
async fn a_message_above_the_limit_is_not_sent(cx: Context) -> Verdict {
    let server = cx.echo();
    let client = cx.client_with(WebSockets::new().max_message_size(MAX_MESSAGE))?;
    let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
    for _ in 0..2 {
        fails(session.send(vec![0; MAX_MESSAGE + 1]).await, ErrorKind::TooBig)?;
        fails(session.feed("x".repeat(MAX_MESSAGE + 1)).await, ErrorKind::TooBig)?;
        echoes(&mut session, vec![0; MAX_MESSAGE]).await?;
    }
    assert_eq!(server.messages(), 2);
    Ok(())
}

/// The limit for frames holds for those that go out, too.
async fn messages_go_out_in_frames_within_the_limit(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let client = cx.client_with(WebSockets::new().max_frame_size(MAX_FRAME))?;
    let session = client.web_socket(peer.url()).connect().await?;
    session.send(vec![0; 3 * MAX_FRAME + 1]).await?;
    for len in [MAX_FRAME, MAX_FRAME, MAX_FRAME, 1] {
        assert_eq!(peer.frame().await?.payload.len(), len);
    }
    Ok(())
}

/// Of the plugin's limit and the request's, the smaller one holds.
async fn a_requests_limit_can_only_be_lower(cx: Context) -> Verdict {
    let server = cx.echo();
    let client = cx.client_with(WebSockets::new().max_message_size(100))?;
    for (on_request, effective) in [(10, 10), (1000, 100)] {
        let request = client.web_socket(server.ws_url("/echo")).max_message_size(on_request);
        let mut session = request.connect().await?;
        echoes(&mut session, vec![0; effective]).await?;
        fails(session.send(vec![0; effective + 1]).await, ErrorKind::TooBig)?;
    }
    Ok(())
}

fn limited(cx: &Context) -> Verdict<drivetrain::HttpClient> {
    let plugin = WebSockets::new().max_frame_size(MAX_FRAME).max_message_size(MAX_MESSAGE);
    cx.client_with(plugin)
}
