//! Futures dropped at any poll lose and duplicate nothing.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use drivetrain::{Capability, CloseReason, Incoming, Outgoing, WebSockets};
use futures_util::future;

use crate::{
    CountedStream,
    case::{Case, case},
    context::{Context, builder_for, yield_now},
    failure::{Failure, Verdict},
    peer::{Conn, Message, WireFrame},
    random::{Random, seed},
};

/// Each way.
const COUNT: u64 = 10_000;
/// Above this a message goes out in fragments.
const FRAGMENT: usize = 64 << 10;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(dropped_futures_lose_and_duplicate_nothing),
        case(dropped_futures_lose_and_duplicate_nothing_with_little_room),
        case(dropped_futures_lose_and_duplicate_nothing_on_a_hesitating_stream)
            .needs(&[Capability::CallerStream]),
        case(a_dropped_close_goes_on),
        case(a_dropped_ping_does_no_harm).needs(&[Capability::SendPing]),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Ten thousand messages each way, small and large, whole and in fragments, with pings between, while
/// futures of `send`, `feed`, `flush`, `receive` and `ping` are dropped at random polls.
async fn dropped_futures_lose_and_duplicate_nothing(cx: Context) -> Verdict {
    drop_at_random(cx, WebSockets::new(), false).await
}

/// The same while nearly every `send` has to wait.
async fn dropped_futures_lose_and_duplicate_nothing_with_little_room(cx: Context) -> Verdict {
    drop_at_random(cx, little_room(), false).await
}

/// The same while every read and write may wait, and take a part only.
async fn dropped_futures_lose_and_duplicate_nothing_on_a_hesitating_stream(cx: Context) -> Verdict {
    drop_at_random(cx, little_room(), true).await
}

/// Once `close` was polled, the session closes without it.
async fn a_dropped_close_goes_on(cx: Context) -> Verdict {
    let (_server, session) = cx.session("/echo").await?;
    // Whether the answer is there already is not the point.
    let _ = future::poll_immediate(session.close(CloseReason::new(4000, "dropped")?)).await;
    let outcome = session.closed().await?;
    assert!(outcome.clean, "{outcome:?}");
    assert_eq!(crate::expect::reason(&outcome.sent), Some((4000, "dropped")));
    Ok(())
}

/// Its pong is not taken for another's.
async fn a_dropped_ping_does_no_harm(cx: Context) -> Verdict {
    let (_server, session) = cx.session("/echo").await?;
    for _ in 0..10 {
        // Whether the pong is there already is not the point.
        let _ = future::poll_immediate(session.ping()).await;
        session.ping().await?;
    }
    Ok(())
}

fn little_room() -> WebSockets {
    WebSockets::new().outgoing_capacity(200).incoming_capacity(200)
}

async fn drop_at_random(cx: Context, plugin: WebSockets, hesitating: bool) -> Verdict {
    let seed = seed();
    let failed = |what: Failure| Failure::new(format_args!("DRIVETRAIN_SEED={seed}: {what}"));
    check(cx, plugin, hesitating, seed).await.map_err(failed)
}

async fn check(cx: Context, plugin: WebSockets, hesitating: bool, seed: u64) -> Verdict {
    let all_seen = Arc::new(AtomicBool::new(false));
    let server = cx.server({
        let all_seen = Arc::clone(&all_seen);
        move |conn| {
            conn.accept_web_socket()?;
            let seen = answer(conn, seed)?;
            all_seen.store(seen == COUNT, Ordering::SeqCst);
            // Otherwise the client has closed, as it has received all.
            let code = if seen == COUNT { 1000 } else { 4000 };
            conn.send_close(code, &format!("message {seen} is another one"))
        }
    });
    let client = if hesitating {
        let stream = CountedStream::connect(server.addr())?.hesitating(seed);
        let engine = cx.engine_over(stream);
        let engine = engine.ok_or_else(|| Failure::new("it offers what over lacks"))?;
        builder_for(engine).install(plugin).build()?
    } else {
        cx.client_with(plugin)?
    };
    let session = client.web_socket(server.ws_url("/")).connect().await?;
    let (outgoing, incoming) = session.split();
    let sending = cx.spawn(send_all(outgoing, seed));
    let receiving = cx.spawn(receive_all(incoming, seed));
    let (outgoing, incoming) = future::try_join(sending, receiving).await?;
    let outcome = outgoing.close(CloseReason::normal()).await?;
    drop(incoming);
    assert!(outcome.clean && outcome.discarded == 0, "{outcome:?}");
    if !all_seen.load(Ordering::SeqCst) {
        return Err(Failure::new("the peer did not see the messages"));
    }
    Ok(())
}

async fn send_all(outgoing: Outgoing, seed: u64) -> Verdict<Outgoing> {
    let mut random = Random::new(seed ^ 1);
    for number in 0..COUNT {
        let payload = drivetrain::Bytes::from(payload(seed, number));
        loop {
            let accepted = if random.one_in(3) {
                some_polls(&mut random, outgoing.feed(payload.clone())).await
            } else {
                some_polls(&mut random, outgoing.send(payload.clone())).await
            };
            if let Some(accepted) = accepted {
                accepted?;
                break;
            }
            yield_now().await;
        }
        if random.one_in(50) {
            some_polls(&mut random, outgoing.flush()).await.transpose()?;
        }
    }
    Ok(outgoing)
}

async fn receive_all(mut incoming: Incoming, seed: u64) -> Verdict<Incoming> {
    let mut random = Random::new(seed ^ 2);
    for number in 0..COUNT {
        let frame = loop {
            match some_polls(&mut random, incoming.receive()).await {
                Some(received) => break received?,
                None => yield_now().await,
            }
        };
        let frame = frame.ok_or_else(|| Failure::new("the session has ended"))?;
        if frame.read_bytes() != &payload(seed, number) {
            let len = frame.read_bytes().len();
            return Err(Failure::new(format_args!(
                "message {number} came as another of {len} bytes"
            )));
        }
    }
    Ok(incoming)
}

/// Polls a future a few times, or up to its end, and drops it.
pub(super) async fn some_polls<T>(
    random: &mut Random,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut polls = if random.one_in(4) { usize::MAX } else { 1 + random.below(3) };
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        polls -= 1;
        if polls == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// The peer: returns each message in random fragments, with pings between. How many
/// messages came as they were to come.
fn answer(conn: &mut Conn, seed: u64) -> std::io::Result<u64> {
    let mut random = Random::new(seed ^ 3);
    let mut number = 0;
    while let Some(Message::Binary(received)) = conn.receive_message()? {
        if received != payload(seed, number) {
            return Ok(number);
        }
        number += 1;
        feed_in_fragments(conn, &mut random, &received);
        if random.one_in(20) {
            conn.feed(&WireFrame::ping(received[..received.len().min(125)].to_vec()));
        }
        if random.one_in(4) || number == COUNT {
            conn.flush()?;
        }
    }
    Ok(number)
}

fn feed_in_fragments(conn: &mut Conn, random: &mut Random, mut rest: &[u8]) {
    let mut first = true;
    loop {
        let len = if random.one_in(3) { random.below(rest.len() + 1) } else { rest.len() };
        let (part, tail) = rest.split_at(len);
        let fin = tail.is_empty();
        conn.feed(&match std::mem::take(&mut first) {
            true => WireFrame { fin, ..WireFrame::binary(part) },
            false => WireFrame::continuation(part, fin),
        });
        if fin {
            return;
        }
        rest = tail;
    }
}

/// The message of this number: mostly small, sometimes large, rarely one that goes out in fragments.
fn payload(seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random::new(seed.wrapping_add(number.wrapping_mul(0x1234_5678_9ABC_DEF1)));
    let len = match random.below(1000) {
        0 => FRAGMENT + random.below(4 * FRAGMENT),
        1..=20 => random.below(FRAGMENT / 4),
        21..=60 => 0,
        _ => random.below(200),
    };
    let key = random.next();
    (0..len).map(|i| (key >> (i % 8 * 8)) as u8 ^ i as u8).collect()
}
