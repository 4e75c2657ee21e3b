//! What becomes of messages in flight when a connection breaks under a session that reconnects: each one that
//! was accepted has arrived, once and on the connection that accepted it, or is reported, once.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use drivetrain::{
    Bytes, Capability, CloseReason,
    reconnect::{Event, ReconnectingSession, Unacknowledged},
};
use futures_util::future;

use super::{
    cancel::some_polls,
    reconnect::{lock, next, quick},
};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, yield_now},
    failure::{Failure, Verdict},
    peer::{Conn, Message, Server},
    random::{Random, seed},
};

/// How often the connection breaks.
const BREAKS: usize = 40;
/// Each of the tasks.
const COUNT: u64 = 300;
const TASKS: u64 = 4;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(nothing_is_lost_silently_or_sent_twice),
        case(nothing_is_lost_silently_or_sent_twice_by_many_tasks),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// One task sends, feeds, flushes, pings and receives, dropping each future at a random poll.
async fn nothing_is_lost_silently_or_sent_twice(cx: Context) -> Verdict {
    let seed = seed();
    let failed = |what: Failure| Failure::new(format_args!("DRIVETRAIN_SEED={seed}: {what}"));
    one_task(cx, seed).await.map_err(failed)
}

/// What one connection has accepted.
type Accepted = Vec<u64>;

async fn one_task(cx: Context, seed: u64) -> Verdict {
    let (server, arrived) = breaking(&cx, seed);
    let mut random = Random::new(seed ^ 1);
    let mut session = quick(&cx, &server).unacknowledged_capacity(20_000).connect().await?;
    let mut accepted = Accepted::new();
    let (mut number, mut lives) = (0, 0);
    let breaking = async {
        while lives < BREAKS {
            if session.connection().is_some() && !random.one_in(4) {
                act(&cx, &mut random, &session, &mut accepted, &mut number).await?;
                continue;
            }
            // As long as there is a connection, the peer may be waiting for more messages.
            let event = match session.connection() {
                Some(_) => future::poll_immediate(session.receive()).await,
                None => some_polls(&mut random, session.receive()).await,
            };
            match event {
                Some(event) => match event? {
                    Some(Event::Disconnected(lost)) => {
                        // The peer does not read on, once the client has seen the end.
                        let arrived = lock(&arrived).get(lives).cloned().unwrap_or_default();
                        check(&std::mem::take(&mut accepted), &arrived, lost.unacknowledged)?;
                        lives += 1;
                    }
                    Some(_) => {}
                    None => return Err(Failure::new("the session has ended")),
                },
                None => yield_now().await,
            }
        }
        Verdict::Ok(())
    };
    cx.within(2 * PATIENCE, "the connections break", breaking).await?
}

async fn act(
    cx: &Context,
    random: &mut Random,
    session: &ReconnectingSession,
    accepted: &mut Accepted,
    number: &mut u64,
) -> Verdict {
    match random.below(40) {
        0 => drop(some_polls(random, session.flush()).await),
        1 if cx.offers(Capability::SendPing) => {
            if let Some(connection) = session.connection() {
                drop(some_polls(random, connection.ping()).await);
            }
        }
        2 => yield_now().await,
        kind => {
            let message = message(random, *number);
            let sent = match kind % 3 {
                0 => some_polls(random, session.feed(message)).await,
                _ => some_polls(random, session.send(message)).await,
            };
            match sent {
                Some(Ok(())) => accepted.push(*number),
                // The connection has ended, and the receiver has not noticed yet.
                Some(Err(error)) if !error.is_transient() => return Err(error.into()),
                Some(Err(_)) | None => {}
            }
            *number += 1;
        }
    }
    Ok(())
}

/// Compares the messages that arrived on a connection with its report.
fn check(accepted: &[u64], arrived: &[u64], left: Unacknowledged) -> Verdict {
    let most_unknown = left.forgotten + left.unknown.len() as u64;
    let forgotten = left.forgotten;
    let known = (accepted.len() as u64).checked_sub(left.len());
    let known = known.ok_or_else(|| Failure::new("more is reported than was accepted"))?;
    let frames: Vec<_> = left.into_frames().collect();
    let kept: Vec<_> = frames.iter().map(|frame| number_in(frame.read_bytes())).collect();
    let facts = format!(
        "{} accepted, {} arrived, {known} known, {most_unknown} unknown",
        accepted.len(),
        arrived.len()
    );
    let holds = |holds, what: &str| match holds {
        true => Ok(()),
        false => Err(Failure::new(format_args!("{what}: {facts}"))),
    };
    holds(kept == accepted[(known + forgotten) as usize..], "each is reported once, in order")?;
    holds(accepted.starts_with(arrived), "the arrived messages are a prefix of the accepted ones")?;
    holds(arrived.len() as u64 >= known, "every unreported message has arrived")?;
    holds(arrived.len() as u64 <= known + most_unknown, "no unsent message has arrived")
}

/// Several tasks send, each waiting for the next connection if there is none, and one receives.
async fn nothing_is_lost_silently_or_sent_twice_by_many_tasks(cx: Context) -> Verdict {
    let (server, arrived) = breaking(&cx, seed());
    let request = quick(&cx, &server).unacknowledged_capacity(usize::MAX);
    let mut session = request.wait_while_disconnected(true).connect().await?;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let sender = session.sender();
        tasks.push(cx.spawn(async move {
            for number in 0..COUNT {
                let message = message(&mut Random::new(number), task * COUNT + number);
                sender.send(message).await?;
            }
            Verdict::Ok(())
        }));
    }
    let sender = session.sender();
    let closing = cx.spawn(async move {
        for sent in future::join_all(tasks).await {
            sent?;
        }
        Verdict::Ok(sender.close(CloseReason::normal()).await?)
    });
    let (mut unknown, mut unsent) = (Vec::new(), Vec::new());
    let numbers = |frames: Vec<drivetrain::Frame>| -> Vec<u64> {
        frames.iter().map(|frame| number_in(frame.read_bytes())).collect()
    };
    // At its end the connection may have broken once more.
    while let Ok(event) = next(&cx, &mut session).await {
        if let Event::Disconnected(lost) = event {
            assert_eq!(lost.unacknowledged.forgotten, 0);
            unknown.extend(numbers(lost.unacknowledged.unknown));
            unsent.extend(numbers(lost.unacknowledged.unsent));
        }
    }
    cx.within(PATIENCE, "it is closed", closing).await??;
    let mut times = HashMap::new();
    for number in lock(&arrived).iter().flatten() {
        *times.entry(*number).or_insert(0) += 1;
    }
    let mut reports = HashMap::new();
    for number in unknown.iter().chain(&unsent) {
        *reports.entry(*number).or_insert(0) += 1;
    }
    for number in 0..TASKS * COUNT {
        let (times, reports) = (times.get(&number).copied(), reports.get(&number).copied());
        let is_told = matches!((times, reports), (Some(1), None | Some(1)) | (None, Some(1)));
        if !is_told || (times.is_some() && unsent.contains(&number)) {
            let what = format!("{number} arrived {times:?} times, reported {reports:?}");
            return Err(Failure::new(what));
        }
    }
    Ok(())
}

/// The messages that arrived, connection by connection.
type Arrived = Arc<Mutex<Vec<Vec<u64>>>>;

/// A server that breaks each connection in one of several ways after some messages.
fn breaking(cx: &Context, seed: u64) -> (Arc<Server>, Arrived) {
    let arrived = Arrived::default();
    let log = Arc::clone(&arrived);
    let server = cx.server(move |conn| {
        conn.accept_web_socket()?;
        let life = {
            let mut log = lock(&log);
            log.push(Vec::new());
            log.len() - 1
        };
        let mut random = Random::new(seed ^ life as u64);
        for _ in 0..1 + random.below(60) {
            match conn.receive_message()? {
                Some(Message::Binary(message)) => lock(&log)[life].push(number_in(&message)),
                Some(Message::Close { code, .. }) => return conn.send_close(code, ""),
                _ => return Ok(()),
            }
            if random.one_in(5) {
                conn.send_text("to be received")?;
            }
        }
        break_off(conn, &mut random)
    });
    (server, arrived)
}

fn break_off(conn: &mut Conn, random: &mut Random) -> io::Result<()> {
    match random.below(5) {
        0 => conn.reset(),
        1 => {
            // Something piles up that is not read.
            conn.pause(Duration::from_millis(20))?;
            conn.reset()
        }
        2 => conn.send_close(1012, "restart"),
        3 => {
            conn.close();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Mostly small; some go out in fragments.
fn message(random: &mut Random, number: u64) -> Bytes {
    let len = match random.below(50) {
        0 => 70_000 + random.below(100_000),
        1..=4 => random.below(10_000),
        _ => random.below(100),
    };
    let mut message = number.to_be_bytes().to_vec();
    message.resize(8 + len, 7);
    message.into()
}

fn number_in(message: &[u8]) -> u64 {
    message.first_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
}
