//! Wake-ups: every necessary one, and no needless one.

use std::{sync::Arc, time::Duration};

use drivetrain::{Capability, OpCode, RawFrame};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    failure::{Failure, Verdict},
    line::{Line, NO_LIMIT, WakeCounter},
    peer::{Server, WireFrame, opcode},
};

/// How long nothing happens.
const IDLE: Duration = Duration::from_millis(400);
/// Wake-ups that a runtime may give without a reason.
const FEW: usize = 10;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(the_latest_waker_of_a_receive_is_woken),
        case(the_latest_waker_of_a_send_is_woken),
        case(sending_and_receiving_have_a_waker_each),
        case(a_pending_receive_is_no_busy_loop),
        case(a_pending_send_is_no_busy_loop),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// A session moves between tasks: each poll may come with another waker.
async fn the_latest_waker_of_a_receive_is_woken(cx: Context) -> Verdict {
    let server = cx.echo();
    let mut line = Line::open(&cx, &server.ws_url("/echo")).await?;
    for round in 0..4 {
        let counters: Vec<WakeCounter> = (0..3).map(|_| WakeCounter::default()).collect();
        for counter in &counters {
            line.awaits_input(counter)?;
        }
        let latest = &counters[2];
        let before = latest.count();
        line.send(RawFrame::new(OpCode::Text, format!("round {round}"))).await?;
        woken(
            &cx,
            latest,
            before,
            "receiving was pending with one waker and then with another; a message came, and the latest one was \
             not woken: poll_receive has to register the waker of each call",
        )
        .await?;
        // The wake-up may come before the whole frame is there.
        line.receive(NO_LIMIT).await??;
    }
    Ok(())
}

/// A server that reads nothing until it is released, and then sends a message and reads on.
fn stalled(cx: &Context) -> Arc<Server> {
    cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.hold()?;
        conn.send(&WireFrame::new(opcode::TEXT, "at last"))?;
        conn.drain()
    })
}

async fn the_latest_waker_of_a_send_is_woken(cx: Context) -> Verdict {
    let server = stalled(&cx);
    let mut line = Line::open(&cx, &server.ws_url("/")).await?;
    let counters: Vec<WakeCounter> = (0..3).map(|_| WakeCounter::default()).collect();
    for counter in &counters {
        line.fill(counter).await?;
    }
    let before = counters[2].count();
    server.release();
    woken(
        &cx,
        &counters[2],
        before,
        "sending was pending with one waker and then with another; the peer reads, and the latest one was not \
         woken: poll_ready has to register the waker of each call",
    )
    .await?;
    line.flush().await
}

/// In either order of being pending.
async fn sending_and_receiving_have_a_waker_each(cx: Context) -> Verdict {
    for receives_first in [true, false] {
        let server = stalled(&cx);
        let mut line = Line::open(&cx, &server.ws_url("/")).await?;
        let (receiver, sender) = (WakeCounter::default(), WakeCounter::default());
        if receives_first {
            line.awaits_input(&receiver)?;
        }
        line.fill(&sender).await?;
        if !receives_first {
            line.awaits_input(&receiver)?;
        }
        let before = (receiver.count(), sender.count());
        server.release();
        woken(
            &cx,
            &sender,
            before.1,
            "receiving and sending were pending at once; the peer reads, and the sender's waker was not woken: \
             writes have to register the waker of poll_ready and poll_flush, not the receiver's",
        )
        .await?;
        woken(
            &cx,
            &receiver,
            before.0,
            "receiving and sending were pending at once; a message came, and the receiver's waker was not woken: \
             reads have to register the waker of poll_receive, not the sender's",
        )
        .await?;
        line.flush().await?;
    }
    Ok(())
}

async fn a_pending_receive_is_no_busy_loop(cx: Context) -> Verdict {
    let server = cx.echo();
    let mut line = Line::open(&cx, &server.ws_url("/echo")).await?;
    let counter = WakeCounter::default();
    let wakes = idle(&cx, &counter, || line.awaits_input(&counter)).await?;
    quiet(wakes, "a receive that is pending", "Pending is for when the stream below has said so")
}

async fn a_pending_send_is_no_busy_loop(cx: Context) -> Verdict {
    let server = stalled(&cx);
    let mut line = Line::open(&cx, &server.ws_url("/")).await?;
    let counter = WakeCounter::default();
    // A system that is busy moves bytes late, and then there is room again.
    for _ in 0..5 {
        line.fill(&counter).await?;
        let mut has_room = false;
        let wakes = idle(&cx, &counter, || match line.poll_ready(&counter) {
            std::task::Poll::Pending => Ok(()),
            std::task::Poll::Ready(ready) => {
                has_room = true;
                Err(Failure::new(format_args!("sending is ready: {ready:?}")))
            }
        })
        .await;
        if has_room {
            continue;
        }
        let hint = "Pending is for when the stream below has said so";
        quiet(wakes?, "a send that is pending", hint)?;
        server.release();
        return line.flush().await;
    }
    Err(Failure::new("a peer reads nothing, and sending is never pending"))
}

/// How often the waker is woken while nothing happens; each time it is polled again, as a task does.
async fn idle(
    cx: &Context,
    counter: &WakeCounter,
    mut poll: impl FnMut() -> Verdict,
) -> Verdict<usize> {
    let begin = counter.count();
    let busy = async {
        while counter.count() - begin < 10 * FEW {
            // A waker may be woken within the poll that it is given to.
            let before = counter.count();
            poll()?;
            counter.woken_after(before).await;
            crate::context::yield_now().await;
        }
        Verdict::Ok(())
    };
    // The timeout is the expected result.
    if let Ok(over) = cx.within(IDLE, "it is idle", busy).await {
        over?;
    }
    Ok(counter.count() - begin)
}

fn quiet(wakes: usize, what: &str, hint: &str) -> Verdict {
    if wakes <= FEW {
        return Ok(());
    }
    Err(Failure::new(format_args!(
        "{what} woke its task {wakes} times in {IDLE:?} in which nothing happened: it is a busy loop; {hint}"
    )))
}

async fn woken(cx: &Context, counter: &WakeCounter, before: usize, otherwise: &str) -> Verdict {
    let wakes = cx.within(PATIENCE / 2, "the waker is woken", counter.woken_after(before)).await;
    wakes.map_err(|_| Failure::new(otherwise))
}
