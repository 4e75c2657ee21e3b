//! Masking keys, as they are on the wire.

use drivetrain::{Capability, OpCode, RawFrame};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt as _;

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    failure::{Failure, Verdict},
    line::Line,
    peer::Conn,
};

type Key = [u8; 4];

/// How many frames each connection sends.
const FRAMES: usize = 64;

pub(super) fn cases() -> Vec<Case> {
    vec![case(masking_keys_are_unpredictable).needs(&[Capability::WebSockets])]
}

/// RFC 6455 section 5.3: fresh for each frame, of strong entropy, and not to be told from the ones before.
async fn masking_keys_are_unpredictable(cx: Context) -> Verdict {
    let first = keys_of_a_connection(&cx).await?;
    let second = keys_of_a_connection(&cx).await?;
    for keys in [&first, &second] {
        unpredictable(keys)?;
    }
    if first == second {
        return Err(Failure::new("two connections use the same masking keys in the same order"));
    }
    Ok(())
}

fn unpredictable(keys: &[Key]) -> Verdict {
    let hex = |key: Key| format!("{:08x}", u32::from_be_bytes(key));
    let complain = |what: String| {
        Err(Failure::new(format_args!(
            "{what}; RFC 6455 section 5.3 wants a key of a strong random source for each frame"
        )))
    };
    let first = keys[0];
    if keys.iter().all(|key| *key == first) {
        return complain(format!("the masking key is {} in every frame", hex(first)));
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    // Of 64 random keys two are equal once in two million times.
    if sorted.len() + 1 < keys.len() {
        return complain(format!("{} frames have {} masking keys", keys.len(), sorted.len()));
    }
    let numbers: Vec<u32> = keys.iter().map(|key| u32::from_be_bytes(*key)).collect();
    let reversed: Vec<u32> = keys.iter().map(|key| u32::from_le_bytes(*key)).collect();
    for numbers in [&numbers, &reversed] {
        let steps: Vec<u32> =
            numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        if steps.iter().all(|step| *step == steps[0]) {
            return complain(format!("masking keys are counted: {}, {}", hex(first), hex(keys[1])));
        }
    }
    let (ones, zeros) = numbers.iter().fold((0, 0), |(one, zero), key| (one | key, zero | !key));
    if ones != u32::MAX || zeros != u32::MAX {
        let constant = !(ones & zeros);
        return complain(format!("the bits {constant:08x} of all masking keys are the same"));
    }
    Ok(())
}

/// Of short frames sent in both ways, one by one.
async fn keys_of_a_connection(cx: &Context) -> Verdict<Vec<Key>> {
    let (sender, keys) = unbounded();
    let server = cx.server(move |conn| {
        conn.accept_web_socket()?;
        tell_keys(conn, &sender)
    });
    let mut line = Line::open(cx, &server.ws_url("/")).await?;
    for number in 0..FRAMES {
        if number % 2 == 1 || !line.try_send(b"five!") {
            line.send(RawFrame::new(OpCode::Binary, &b"five!"[..])).await?;
        }
        line.flush().await?;
    }
    drop(line);
    collected(cx, keys).await
}

async fn collected(cx: &Context, keys: UnboundedReceiver<Key>) -> Verdict<Vec<Key>> {
    let keys = cx.within(PATIENCE, "frames arrive", keys.take(FRAMES).collect::<Vec<_>>()).await?;
    if keys.len() < FRAMES {
        return Err(Failure::new(format_args!("{} of {FRAMES} frames arrived", keys.len())));
    }
    Ok(keys)
}

fn tell_keys(conn: &mut Conn, keys: &UnboundedSender<Key>) -> std::io::Result<()> {
    for _ in 0..FRAMES {
        let mut frame = [0; 2 + 4 + 5];
        conn.read_exact(&mut frame)?;
        if frame[..2] != [0x82, 0x85] {
            return Err(std::io::Error::other("it is not the frame that was sent"));
        }
        // A case that has failed takes no more.
        let _ = keys.unbounded_send([frame[2], frame[3], frame[4], frame[5]]);
    }
    conn.drain()
}
