//! Sessions that connect again, over each engine. When exactly they do is tested in virtual time, by
//! `tests/session/reconnect` of the client; what becomes of messages in flight, in `in_flight`.

use std::{
    collections::VecDeque,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use drivetrain::{
    Capability, CloseReason, Error, ErrorKind,
    reconnect::{Backoff, Disconnected, Event, ReconnectRequest, ReconnectingSession, State},
};
use futures_util::future::{Either, select};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::fails,
    failure::{Failure, Verdict},
    peer::{Conn, Message, Request, Server},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_session_outlives_its_connections),
        case(a_close_that_is_meant_to_last_is_the_end),
        case(a_refusal_that_is_meant_to_last_is_the_end),
        case(a_server_that_is_gone_is_given_up_after_the_last_try),
        case(a_first_connection_that_fails_is_an_error_at_once),
        case(a_token_is_renewed_after_a_401).needs(&[Capability::HandshakeHeaders]),
        case(each_connection_is_subscribed_first),
        case(a_hook_that_fails_drops_its_connection),
        case(giving_up_the_wait_loses_nothing),
        case(closing_while_it_connects_ends_it),
        case(dropping_it_at_any_point_frees_everything),
        case(a_backoff_that_cannot_work_is_refused_before_anything_is_sent),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Over an end without a Close, a reset, refusals, a restart, and an end in the middle of a handshake.
async fn a_session_outlives_its_connections(cx: Context) -> Verdict {
    let pause = &[("retry-after", "1")];
    let answers = [
        Answer::Ends,
        Answer::Refuses(503, pause),
        Answer::Resets,
        Answer::HangsUp,
        Answer::Closes(1012),
        Answer::Refuses(502, &[]),
        Answer::Closes(1001),
        Answer::Echoes,
    ];
    let (server, seen) = serving(&cx, answers);
    let mut session = quick(&cx, &server).connect().await?;
    let began = Instant::now();
    let mut told = Vec::new();
    loop {
        session.send("still there?").await?;
        match next(&cx, &mut session).await? {
            Event::Message(frame) => {
                assert_eq!(frame.read_text(), Some("still there?"));
                break;
            }
            Event::Disconnected(lost) => {
                assert!(lost.unacknowledged.len() <= 1, "{lost:?}");
                told.push(u16::from(lost.outcome.received.is_some()));
            }
            other => return Err(Failure::new(format_args!("{other:?}"))),
        }
        until_connected(&cx, &mut session).await?;
    }
    assert_eq!(told, [0, 0, 1, 1], "whether there was a Close");
    assert!(began.elapsed() >= Duration::from_secs(1), "the pause that was asked for");
    assert_eq!(seen.all().len(), 8);
    let outcome = session.close(CloseReason::normal()).await?;
    assert!(outcome.clean, "{outcome:?}");
    let lost = lost(&cx, &mut session).await?;
    // Pongs acknowledge.
    let is_confirmed = lost.unacknowledged.is_empty() || !cx.offers(Capability::SendPing);
    assert!(lost.outcome.clean && is_confirmed, "{lost:?}");
    ends(&cx, &mut session, None).await
}

/// And there is no other try.
async fn a_close_that_is_meant_to_last_is_the_end(cx: Context) -> Verdict {
    for code in [1000, 1008, 4001] {
        let (server, seen) = serving(&cx, [Answer::Closes(code)]);
        let mut session = quick(&cx, &server).connect().await?;
        session.send("anybody?").await?;
        let lost = lost(&cx, &mut session).await?;
        let received = lost.outcome.received.as_ref().map(|reason| u16::from(reason.code()));
        assert_eq!(received, Some(code));
        ends(&cx, &mut session, None).await?;
        assert_eq!(seen.all().len(), 1);
    }
    Ok(())
}

/// With the response in its error.
async fn a_refusal_that_is_meant_to_last_is_the_end(cx: Context) -> Verdict {
    let (server, seen) = serving(&cx, [Answer::Ends, Answer::Refuses(403, &[])]);
    let mut session = quick(&cx, &server).connect().await?;
    session.send("anybody?").await?;
    lost(&cx, &mut session).await?;
    let event = next(&cx, &mut session).await?;
    assert!(matches!(event, Event::Retrying(_)), "{event:?}");
    let error = fails(session.receive().await, ErrorKind::Rejected)?;
    assert_eq!(error.response().map(|response| response.status().as_u16()), Some(403));
    ends(&cx, &mut session, Some(ErrorKind::Rejected)).await?;
    assert_eq!(seen.all().len(), 2);
    Ok(())
}

/// The error is the failure of the last attempt.
async fn a_server_that_is_gone_is_given_up_after_the_last_try(cx: Context) -> Verdict {
    let server = Server::start(|conn| {
        conn.accept_web_socket()?;
        conn.drain()
    });
    let backoff = backoff().max_tries(3);
    let request = cx.client().web_socket(server.ws_url("/")).reconnect(backoff);
    let mut session = request.connect().await?;
    crate::context::blocking(move || drop(server)).await?;
    lost(&cx, &mut session).await?;
    for attempt in 1..=3 {
        match next(&cx, &mut session).await? {
            Event::Retrying(retry) => assert_eq!((retry.attempt, retry.of), (attempt, Some(3))),
            other => return Err(Failure::new(format_args!("{other:?}"))),
        }
    }
    let error = fails(session.receive().await, ErrorKind::Connect)?;
    assert!(error.to_string().contains("gave up after 3 tries"), "{error}");
    ends(&cx, &mut session, Some(ErrorKind::Connect)).await
}

/// A wrong address is seen at once, unless it is asked otherwise.
async fn a_first_connection_that_fails_is_an_error_at_once(cx: Context) -> Verdict {
    let (server, seen) = serving(&cx, [Answer::Refuses(503, &[])]);
    fails(quick(&cx, &server).connect().await, ErrorKind::Rejected)?;
    assert_eq!(seen.all().len(), 1);
    let answers = [Answer::Refuses(503, &[]), Answer::HangsUp, Answer::Echoes];
    let (server, seen) = serving(&cx, answers);
    let session = quick(&cx, &server).retry_first(true).connect();
    drop(cx.within(PATIENCE, "it connects", session).await??);
    assert_eq!(seen.all().len(), 3);
    Ok(())
}

/// The hook is told of the 401, and brings another token.
async fn a_token_is_renewed_after_a_401(cx: Context) -> Verdict {
    let is_401 = |error: &Error| error.response().is_some_and(|response| response.status() == 401);
    let answers = [Answer::Ends, Answer::Refuses(401, &[]), Answer::Echoes];
    let (server, seen) = serving(&cx, answers);
    let request = quick(&cx, &server)
        .reconnect_if(move |error| error.is_transient() || is_401(error))
        .on_connect(move |attempt, request| async move {
            let token = if attempt.error.as_ref().is_some_and(is_401) { "new" } else { "old" };
            Ok(request.bearer_auth(token))
        });
    let mut session = request.connect().await?;
    session.send("anybody?").await?;
    lost(&cx, &mut session).await?;
    until_connected(&cx, &mut session).await?;
    let seen = seen.all();
    let tokens: Vec<_> = seen.iter().map(|request| request.header("authorization")).collect();
    assert_eq!(tokens, [Some("Bearer old"), Some("Bearer old"), Some("Bearer new")]);
    Ok(())
}

/// Before messages of senders that waited for the connection.
async fn each_connection_is_subscribed_first(cx: Context) -> Verdict {
    let first = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&first);
    let server = cx.server(move |conn| {
        conn.accept_web_socket()?;
        for _ in 0..2 {
            match conn.receive_message()? {
                Some(Message::Text(text)) => lock(&log).push(text),
                _ => return Ok(()),
            }
        }
        Ok(())
    });
    let request = quick(&cx, &server)
        .wait_while_disconnected(true)
        .on_open(|session| Box::pin(async move { session.send("subscribe").await }));
    let mut session = request.connect().await?;
    let sender = session.sender();
    let (log, other) = (Arc::clone(&first), cx.clone());
    let sending = cx.spawn(async move {
        // Some are accepted by a connection that breaks before they arrive.
        while lock(&log).len() < 6 {
            sender.send("mine").await?;
            other.sleep(Duration::from_millis(1)).await;
        }
        Verdict::Ok(())
    });
    while lock(&first).len() < 6 {
        next(&cx, &mut session).await?;
    }
    drop(session);
    // It may have been waiting for one more connection.
    let _ = cx.within(PATIENCE, "the other task ends", sending).await?;
    let first = lock(&first).clone();
    assert_eq!(first[..6], ["subscribe", "mine", "subscribe", "mine", "subscribe", "mine"]);
    Ok(())
}

/// And the next try has another one.
async fn a_hook_that_fails_drops_its_connection(cx: Context) -> Verdict {
    let (server, seen) = serving(&cx, [Answer::Ends, Answer::Echoes, Answer::Echoes]);
    let calls = AtomicUsize::new(0);
    let request = quick(&cx, &server).on_open(move |_| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        let failed = || Error::other("not yet");
        Box::pin(async move { if call == 1 { Err(failed()) } else { Ok(()) } })
    });
    let mut session = request.connect().await?;
    session.send("anybody?").await?;
    lost(&cx, &mut session).await?;
    let failures = until_connected(&cx, &mut session).await?;
    assert_eq!(
        failures.iter().map(Error::kind).collect::<Vec<_>>(),
        [ErrorKind::Io, ErrorKind::Other]
    );
    cx.until("one connection is left", || server.open() == 1).await?;
    assert_eq!(seen.all().len(), 3);
    Ok(())
}

/// Asked in vain again and again, while open, while waiting and while connecting.
async fn giving_up_the_wait_loses_nothing(cx: Context) -> Verdict {
    let answers = [
        Answer::Sends(&["1", "2"]),
        Answer::HangsUp,
        Answer::Sends(&["3"]),
        Answer::Refuses(503, &[]),
        Answer::Sends(&["4", "5"]),
        Answer::Closes(1000),
    ];
    let (server, _seen) = serving(&cx, answers);
    let mut session = quick(&cx, &server).connect().await?;
    let (mut texts, mut losses) = (Vec::new(), 0);
    let reading = async {
        while losses < 4 {
            // A turn of the runtime is what each wait gets.
            let turn = cx.sleep(Duration::from_micros(300));
            let event = match select(pin!(session.receive()), pin!(turn)).await {
                Either::Left((event, _)) => event?,
                Either::Right(_) => continue,
            };
            match event {
                Some(Event::Message(frame)) => texts.extend(frame.read_text().map(str::to_owned)),
                Some(Event::Disconnected(_)) => losses += 1,
                Some(Event::Connected(_)) if losses == 3 => session.send("close").await?,
                Some(_) => {}
                None => break,
            }
        }
        Verdict::Ok(())
    };
    cx.within(PATIENCE, "everything comes", reading).await??;
    assert_eq!((texts.join(" "), losses), ("1 2 3 4 5".to_owned(), 4));
    ends(&cx, &mut session, None).await
}

/// From another task; the receiver notices at once.
async fn closing_while_it_connects_ends_it(cx: Context) -> Verdict {
    let (server, seen) = serving(&cx, [Answer::Ends, Answer::Hangs]);
    let mut session = quick(&cx, &server).connect().await?;
    session.send("anybody?").await?;
    lost(&cx, &mut session).await?;
    next(&cx, &mut session).await?;
    let sender = session.sender();
    let log = seen.clone();
    let other = cx.clone();
    let closing = cx.spawn(async move {
        other.until("the try is made", || log.all().len() == 2).await?;
        Verdict::Ok(sender.close(CloseReason::normal()).await?)
    });
    assert!(cx.within(PATIENCE, "it ends", session.receive()).await??.is_none());
    assert!(!closing.await?.clean, "that of the connection before");
    cx.until("the try is gone", || server.open() == 0).await?;
    ends(&cx, &mut session, None).await
}

/// Open, lost, waiting, connecting, and never open.
async fn dropping_it_at_any_point_frees_everything(cx: Context) -> Verdict {
    for steps in 0..4 {
        let (server, seen) = serving(&cx, [Answer::Ends, Answer::Hangs]);
        let mut session = quick(&cx, &server).connect().await?;
        if steps >= 1 {
            session.send("anybody?").await?;
            lost(&cx, &mut session).await?;
        }
        if steps >= 2 {
            next(&cx, &mut session).await?;
        }
        if steps >= 3 {
            let connecting = pin!(cx.until("the try is made", || seen.all().len() == 2));
            match select(pin!(session.receive()), connecting).await {
                Either::Left((event, _)) => return Err(Failure::new(format_args!("{event:?}"))),
                Either::Right((made, _)) => made?,
            }
        }
        let sender = session.sender();
        drop(session);
        assert_eq!(sender.state(), State::Ended);
        fails(sender.send("anybody?").await, ErrorKind::Closed)?;
        cx.until("its connections are closed", || server.open() == 0).await?;
    }
    let (server, seen) = serving(&cx, [Answer::Hangs]);
    let connecting = pin!(cx.until("the try is made", || seen.all().len() == 1));
    match select(Box::pin(quick(&cx, &server).connect()), connecting).await {
        Either::Left((session, _)) => return Err(Failure::new(format_args!("{session:?}"))),
        Either::Right((made, connecting)) => {
            made?;
            drop(connecting);
        }
    }
    cx.until("its connection is closed", || server.open() == 0).await
}

/// As everything that can never work is.
async fn a_backoff_that_cannot_work_is_refused_before_anything_is_sent(cx: Context) -> Verdict {
    let server = cx.echo();
    for wrong in [Backoff::new().first_delay(Duration::ZERO), Backoff::new().max_tries(0)] {
        let request = cx.client().web_socket(server.ws_url("/echo")).reconnect(wrong);
        fails(request.connect().await, ErrorKind::InvalidInput)?;
    }
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// As often as it must be, and nearly at once.
pub(super) fn backoff() -> Backoff {
    let delay = Duration::from_millis(2);
    Backoff::new().first_delay(delay).max_delay(delay).max_tries(None)
}

pub(super) fn quick(cx: &Context, server: &Server) -> ReconnectRequest {
    cx.client().web_socket(server.ws_url("/")).reconnect(backoff())
}

/// What it tells next, which is not the end.
pub(super) async fn next(cx: &Context, session: &mut ReconnectingSession) -> Verdict<Event> {
    let event = cx.within(PATIENCE, "something happens", session.receive()).await??;
    event.ok_or_else(|| Failure::new("the session has ended"))
}

async fn lost(cx: &Context, session: &mut ReconnectingSession) -> Verdict<Disconnected> {
    match next(cx, session).await? {
        Event::Disconnected(lost) => Ok(*lost),
        other => Err(Failure::new(format_args!("a loss was expected: {other:?}"))),
    }
}

/// Returns why there were tries.
async fn until_connected(cx: &Context, session: &mut ReconnectingSession) -> Verdict<Vec<Error>> {
    let mut failures = Vec::new();
    loop {
        match next(cx, session).await? {
            Event::Retrying(retry) => failures.push(retry.error),
            Event::Connected(_) => return Ok(failures),
            other => return Err(Failure::new(format_args!("a try was expected: {other:?}"))),
        }
    }
}

/// It has ended, cleanly or with this kind of error, and says so again and again.
async fn ends(cx: &Context, session: &mut ReconnectingSession, kind: Option<ErrorKind>) -> Verdict {
    for _ in 0..3 {
        match cx.within(PATIENCE, "it ends", session.receive()).await? {
            Ok(None) if kind.is_none() => {}
            Err(error) if Some(error.kind()) == kind => {}
            other => return Err(Failure::new(format_args!("{kind:?} was expected: {other:?}"))),
        }
    }
    assert_eq!(session.state(), State::Ended);
    fails(session.send("late").await, ErrorKind::Closed)?;
    Ok(())
}

/// What the server does with a connection.
#[derive(Clone, Copy)]
enum Answer {
    /// Ends the stream after a message, without a Close.
    Ends,
    /// Resets it.
    Resets,
    /// Closes with this code after a message.
    Closes(u16),
    /// Sends these, and ends the stream.
    Sends(&'static [&'static str]),
    Echoes,
    /// Does not answer the handshake, and ends the stream.
    HangsUp,
    /// Does not answer the handshake.
    Hangs,
    Refuses(u16, &'static [(&'static str, &'static str)]),
}

/// The handshakes that were read.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Request>>>);

impl Seen {
    fn all(&self) -> Vec<Request> {
        lock(&self.0).clone()
    }
}

/// A server that gives these answers, one a handshake, whatever the connection.
fn serving<const N: usize>(cx: &Context, answers: [Answer; N]) -> (Arc<Server>, Seen) {
    let answers = Mutex::new(VecDeque::from(answers));
    let seen = Seen::default();
    let log = seen.clone();
    let server = cx.server(move |conn| {
        while let Some(request) = conn.read_request()? {
            lock(&log.0).push(request.clone());
            let answer = lock(&answers).pop_front();
            match answer.ok_or_else(|| io::Error::other("one handshake too many"))? {
                Answer::Refuses(status, headers) => conn.respond(status, headers, "")?,
                Answer::HangsUp => return Ok(()),
                Answer::Hangs => return conn.drain(),
                open => {
                    conn.accept(&request, &[])?;
                    return attend(conn, open);
                }
            }
        }
        Ok(())
    });
    (server, seen)
}

fn attend(conn: &mut Conn, answer: Answer) -> io::Result<()> {
    if let Answer::Sends(texts) = answer {
        return texts.iter().try_for_each(|text| conn.send_text(text));
    }
    while let Some(message) = conn.receive_message()? {
        match (answer, message) {
            (_, Message::Close { code, .. }) => return conn.send_close(code, ""),
            (Answer::Resets, _) => return conn.reset(),
            (Answer::Closes(code), _) => return conn.send_close(code, ""),
            (Answer::Echoes, Message::Text(text)) => conn.send_text(&text)?,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// A case that has failed may still look at it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
