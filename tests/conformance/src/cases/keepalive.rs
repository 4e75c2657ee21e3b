//! The ping interval: its sources, and detection of a dead peer during any activity of the application.

use std::{fmt, io, pin::pin, time::Duration};

use drivetrain::{Capability, CloseReason, HttpClient, Outcome, Session, SetBy, WebSockets};
use drivetrain_engine::{Capability::EnginePing, ErrorKind};
use futures_util::future::{self, Either};

use super::control::compute;
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, Pace, at_pace, builder_for, yield_now},
    expect::{ends_with, fails, reason},
    failure::{Failure, Verdict},
    peer::{Conn, opcode},
    script::{
        PeerBehaviour::{Polite, Silent},
        Saw, Script, read_close,
    },
};

const INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(150);
/// For a peer that is alive, and far below [`CHATTER`].
const PATIENT: Duration = Duration::from_millis(500);
const NEVER: Duration = Duration::from_secs(3600);

/// What the application does with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Idle,
    Sends,
    Receives,
    BlockedInSend,
    Computes,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(the_plugins_interval_is_kept),
        case(an_engine_level_interval_wins_and_is_really_sent).needs(&[EnginePing]),
        case(a_requests_interval_wins_over_both).needs(&[EnginePing]),
        case(a_request_switches_pings_off),
        case(a_request_switches_an_engines_pings_off).needs(&[EnginePing]),
        case(an_open_session_changes_its_interval),
        case(pongs_give_the_latency),
        case(data_is_a_sign_of_life_too),
        case(data_is_a_sign_of_life_while_nobody_receives),
        case(a_peer_that_sends_and_does_not_read_is_alive),
    ];
    for mode in [Mode::Idle, Mode::Sends, Mode::Receives, Mode::BlockedInSend, Mode::Computes] {
        let dead = case(move |cx| a_dead_peer_is_found(cx, mode));
        let name = format_args!("a_dead_peer_is_found_while_the_application_{mode}").to_string();
        cases.push(dead.named("keepalive", name));
    }
    for mode in [Mode::Idle, Mode::Sends, Mode::Receives, Mode::Computes] {
        let alive = case(move |cx| an_answering_peer_is_kept(cx, mode));
        let name =
            format_args!("an_answering_peer_is_kept_while_the_application_{mode}").to_string();
        cases.push(alive.named("keepalive", name));
    }
    let needs = [Capability::WebSockets, Capability::PluginPing];
    cases.into_iter().map(|case| case.needs(&needs)).collect()
}

/// Pings go out by themselves, again and again.
pub(super) async fn the_plugins_interval_is_kept(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let client = cx.client_with(WebSockets::new().ping_interval(INTERVAL).ping_timeout(NEVER))?;
    let _session = client.web_socket(peer.url()).connect().await?;
    pings(&mut peer, 5).await
}

/// The engine's interval wins over the plugin's, and its pings are on the wire.
pub(super) async fn an_engine_level_interval_wins_and_is_really_sent(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let client = client_with_both(&cx, INTERVAL, NEVER)?;
    let session = client.web_socket(peer.url()).connect().await?;
    let set = session.settings().get("ping_interval").map(|setting| setting.set_by);
    assert_eq!(set, Some(SetBy::Engine));
    pings(&mut peer, 3).await
}

/// The request's interval wins over the engine's and the plugin's.
async fn a_requests_interval_wins_over_both(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let client = client_with_both(&cx, NEVER, NEVER)?;
    let request = client.web_socket(peer.url()).ping_interval(INTERVAL).ping_timeout(NEVER);
    let _session = request.connect().await?;
    pings(&mut peer, 3).await
}

/// `ping_interval(None)` on a request switches the plugin's pings off.
async fn a_request_switches_pings_off(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().ping_interval(INTERVAL).ping_timeout(NEVER))?;
    one_pings_and_one_does_not(&cx, &client).await
}

/// `ping_interval(None)` on a request switches the engine's pings off, too.
async fn a_request_switches_an_engines_pings_off(cx: Context) -> Verdict {
    let client = client_with_both(&cx, INTERVAL, INTERVAL)?;
    one_pings_and_one_does_not(&cx, &client).await
}

/// `set_ping_interval` switches pings on and off again.
async fn an_open_session_changes_its_interval(cx: Context) -> Verdict {
    let (mut peer, mut other) = (cx.peer(Polite, |_| Ok(())), cx.peer(Polite, |_| Ok(())));
    let client = cx.client_with(WebSockets::new().ping_timeout(NEVER))?;
    let session = client.web_socket(peer.url()).connect().await?;
    fails(session.set_ping_interval(Duration::ZERO), ErrorKind::InvalidInput)?;
    session.set_ping_interval(INTERVAL)?;
    pings(&mut peer, 3).await?;
    session.set_ping_interval(None)?;
    // Those that were on their way are in order before this one.
    session.send("off").await?;
    peer.frame_of(opcode::TEXT).await?;
    let beside = client.web_socket(other.url()).ping_interval(INTERVAL).connect().await?;
    pings(&mut other, 4).await?;
    drop(beside);
    assert!(peer.try_next().is_none(), "a ping came after they were switched off");
    Ok(())
}

/// The latency is known from the pongs of the interval.
async fn pongs_give_the_latency(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().ping_interval(INTERVAL).ping_timeout(NEVER))?;
    let session = client.web_socket(cx.echo().ws_url("/echo")).connect().await?;
    cx.until("the latency is known", || session.latency().is_some()).await
}

/// A peer that sends data is alive, though it never answers a ping.
async fn data_is_a_sign_of_life_too(cx: Context) -> Verdict {
    at_pace(PATIENT / 2, |pace| chatter_is_life(&cx, pace, Duration::ZERO)).await
}

/// Data is a sign of life also if it waits for an application that does not receive.
async fn data_is_a_sign_of_life_while_nobody_receives(cx: Context) -> Verdict {
    at_pace(PATIENT / 2, |pace| chatter_is_life(&cx, pace, PAUSE * (CHATTER / 2))).await
}

async fn chatter_is_life(cx: &Context, pace: Pace, away: Duration) -> Verdict {
    let peer = cx.peer(Silent, move |conn| chatter(conn, &pace));
    let mut session = client(cx, PATIENT)?.web_socket(peer.url()).connect().await?;
    cx.sleep(away).await;
    for i in 0..CHATTER {
        let frame = session.receive().await?.and_then(drivetrain::Frame::into_text);
        assert_eq!(frame.as_deref(), Some(i.to_string().as_str()));
    }
    Ok(())
}

/// A peer that does not read cannot see a ping. If it sends, it is alive, and the blocked `send` continues
/// when it reads again.
async fn a_peer_that_sends_and_does_not_read_is_alive(cx: Context) -> Verdict {
    at_pace(PATIENT / 2, |pace| chatter_of_one_that_does_not_read_is_life(&cx, pace)).await
}

async fn chatter_of_one_that_does_not_read_is_life(cx: &Context, pace: Pace) -> Verdict {
    let steps = pace.clone();
    let mut peer = cx.peer(Polite, move |conn| chatter(conn, &steps));
    let session = client(cx, PATIENT)?.web_socket(peer.url()).connect().await?;
    let sending = async {
        while peer.try_next().is_none() {
            session.send(vec![0; 32 << 10]).await?;
        }
        Verdict::Ok(())
    };
    cx.within(PATIENCE, "the peer reads again", sending).await??;
    let closing = async { Verdict::Ok(session.close(CloseReason::normal()).await?) };
    let (outcome, _) = future::try_join(closing, peer.close()).await?;
    is_clean(&outcome)
}

/// A peer that answers nothing is dead: both directions fail with `Timeout`, and a Close 1011 is tried.
async fn a_dead_peer_is_found(cx: Context, mode: Mode) -> Verdict {
    let mut peer = match mode {
        Mode::BlockedInSend => cx.peer(Silent, crate::peer::Conn::hold),
        _ => cx.peer(Silent, |_| Ok(())),
    };
    let mut session = client(&cx, TIMEOUT)?.web_socket(peer.url()).connect().await?;
    if mode == Mode::BlockedInSend {
        cx.within(PATIENCE, "the dead peer is found", mode.act(&cx, &mut session)).await??;
        fails_with_timeout(&mut session).await?;
        peer.server().release();
        return sees_the_end(&mut peer, 0).await;
    }
    let seen = sees_the_end(&mut peer, 1);
    let acting = mode.act(&cx, &mut session);
    match cx
        .within(PATIENCE, "the dead peer is found", future::select(pin!(seen), pin!(acting)))
        .await?
    {
        Either::Left((seen, _)) => seen?,
        Either::Right((acted, seen)) => {
            acted?;
            seen.await?;
        }
    }
    let outcome = fails_with_timeout(&mut session).await?;
    assert_eq!(reason(&outcome.sent), Some((1011, "Ping timeout")));
    Ok(())
}

/// A peer that answers pings is alive, whatever the application does.
async fn an_answering_peer_is_kept(cx: Context, mode: Mode) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    // Generous: a machine that is busy with other things may answer late.
    let plugin = WebSockets::new().ping_interval(INTERVAL / 2).ping_timeout(PATIENCE / 4);
    let mut session = cx.client_with(plugin)?.web_socket(peer.url()).connect().await?;
    {
        let (pinged, acting) = (pin!(pings(&mut peer, 10)), pin!(mode.act(&cx, &mut session)));
        match future::select(pinged, acting).await {
            Either::Left((pinged, _)) => pinged?,
            Either::Right(_) => return Err(Failure::new("the session has ended")),
        }
    }
    let outcome = session.close(CloseReason::normal()).await?;
    assert!(outcome.clean, "{outcome:?}");
    Ok(())
}

impl Mode {
    /// What the application does until the session is over, if it sees that.
    async fn act(self, cx: &Context, session: &mut Session) -> Verdict {
        let (size, pause) = match self {
            Self::BlockedInSend => (64 << 10, Duration::ZERO),
            _ => (1, Duration::from_millis(5)),
        };
        match self {
            Self::Idle => future::pending().await,
            Self::Sends | Self::BlockedInSend => {
                while session.send(vec![0; size]).await.is_ok() {
                    cx.sleep(pause).await;
                }
                Ok(())
            }
            Self::Receives => fails(session.receive().await, ErrorKind::Timeout).map(drop),
            Self::Computes => loop {
                compute();
                yield_now().await;
            },
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "is_idle",
            Self::Sends => "sends",
            Self::Receives => "receives",
            Self::BlockedInSend => "is_blocked_in_send",
            Self::Computes => "computes",
        })
    }
}

const CHATTER: u32 = 30;
const PAUSE: Duration = Duration::from_millis(50);

/// Sends a text now and then, and reads nothing.
fn chatter(conn: &mut Conn, pace: &Pace) -> io::Result<()> {
    for i in 0..CHATTER {
        pace.step();
        conn.send_text(&i.to_string())?;
        pace.step();
        conn.pause(PAUSE)?;
    }
    pace.step();
    Ok(())
}

fn is_clean(outcome: &Outcome) -> Verdict {
    match outcome.clean {
        true => Ok(()),
        false => Err(Failure::new(format_args!("a clean end was expected: {outcome:?}"))),
    }
}

fn client(cx: &Context, timeout: Duration) -> Verdict<HttpClient> {
    cx.client_with(WebSockets::new().ping_interval(INTERVAL).ping_timeout(timeout))
}

fn client_with_both(cx: &Context, on_engine: Duration, on_plugin: Duration) -> Verdict<HttpClient> {
    let engine = cx.engine_with_ping_interval(on_engine);
    let engine = engine.ok_or_else(|| Failure::new("it offers what with_ping_interval lacks"))?;
    let plugin = WebSockets::new().ping_interval(on_plugin).ping_timeout(NEVER);
    Ok(builder_for(engine).install(plugin).build()?)
}

/// The peer sees this many pings.
async fn pings(peer: &mut Script, count: u32) -> Verdict {
    for _ in 0..count {
        peer.frame_of(opcode::PING).await?;
    }
    Ok(())
}

/// Of two sessions of a client that pings, the one whose request says `None` does not.
async fn one_pings_and_one_does_not(cx: &Context, client: &HttpClient) -> Verdict {
    let (mut peer, mut other) = (cx.peer(Polite, |_| Ok(())), cx.peer(Polite, |_| Ok(())));
    let off = client.web_socket(other.url()).ping_interval(None).connect().await?;
    let _on = client.web_socket(peer.url()).connect().await?;
    pings(&mut peer, 5).await?;
    assert!(other.try_next().is_none(), "pings were switched off, and one came");
    off.send("alive").await?;
    assert_eq!(other.text().await?, "alive");
    Ok(())
}

/// The peer sees at least this many pings, then Close 1011 if it fitted, and the end.
async fn sees_the_end(peer: &mut Script, fewest_pings: u32) -> Verdict {
    let (mut pings, mut closes) = (0, Vec::new());
    loop {
        match peer.next().await? {
            Saw::Frame(frame) if frame.opcode == opcode::PING => pings += 1,
            Saw::Frame(frame) if frame.opcode == opcode::CLOSE => closes.push(read_close(&frame)?),
            Saw::Frame(_) => {}
            Saw::End
            | Saw::Broken(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => break,
            Saw::Broken(kind) => return Err(Failure::new(kind)),
        }
    }
    assert!(pings >= fewest_pings, "only {pings} pings came");
    if fewest_pings > 0 || !closes.is_empty() {
        assert_eq!(closes, [(Some(1011), "Ping timeout".to_owned())]);
    }
    Ok(())
}

async fn fails_with_timeout(session: &mut Session) -> Verdict<Outcome> {
    let outcome = ends_with(session, ErrorKind::Timeout).await?;
    assert!(session.closed().await?.error.is_some());
    Ok(outcome)
}
