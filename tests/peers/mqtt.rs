//! mosquitto: MQTT 3.1.1 over WebSockets (its section 6), in packets made by hand.

use std::time::Duration;

use drivetrain::{CloseReason, Session};

use crate::{
    Scenario,
    lab::{Failure, Lab, close, ensure, expect_cut, id, next, same},
};

pub(crate) const EVERY: &[Scenario] = &[
    ("connect", |lab| Box::pin(connect(lab))),
    ("publish_round_trip", |lab| Box::pin(publish_round_trip(lab))),
    ("publish_of_100_kib", |lab| Box::pin(publish_of_100_kib(lab))),
    ("a_hundred_publishes_pipelined", |lab| Box::pin(a_hundred_publishes_pipelined(lab))),
    ("packet_over_two_messages", |lab| Box::pin(packet_over_two_messages(lab))),
    ("mqtt_ping", |lab| Box::pin(mqtt_ping(lab))),
    ("ping_round_trip", |lab| Box::pin(ping_round_trip(lab))),
    ("keepalive_keeps_a_live_peer", |lab| Box::pin(keepalive(lab))),
    ("close_from_us", |lab| Box::pin(close_from_us(lab))),
    ("disconnect_ends_the_session", |lab| Box::pin(disconnect(lab))),
    ("killed_peer", |lab| Box::pin(killed_peer(lab))),
];

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBLISH_ACKNOWLEDGED: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 0xd0;
const DISCONNECT: u8 = 0xe0;

async fn connect(lab: &Lab) -> Result<(), Failure> {
    let mqtt = Mqtt::open(lab).await?;
    same("the subprotocol", mqtt.session.subprotocol(), Some("mqtt"))
}

async fn publish_round_trip(lab: &Lab) -> Result<(), Failure> {
    let mut mqtt = Mqtt::open(lab).await?;
    let topic = mqtt.subscribe().await?;
    for message in [&b""[..], b"hello", &[0xff; 200]] {
        mqtt.send(PUBLISH, &[&string(&topic), message].concat()).await?;
        same("what was published", mqtt.published(&topic).await?, message)?;
    }
    Ok(())
}

/// Above 64 KiB, so that it goes out in fragments. No larger, since mosquitto 2.0 takes 4 KiB of a
/// WebSocket each 100 ms (its issue 2578), whichever client it serves.
async fn publish_of_100_kib(lab: &Lab) -> Result<(), Failure> {
    let mut mqtt = Mqtt::open(lab).await?;
    let topic = mqtt.subscribe().await?;
    let message: Vec<u8> = (0..100 << 10).map(|at: u32| (at ^ at >> 8) as u8).collect();
    mqtt.send(PUBLISH, &[&string(&topic)[..], &message].concat()).await?;
    ensure(mqtt.published(&topic).await? == message, "something else was published")
}

/// With acknowledgements (quality of service 1), which come between what is delivered.
async fn a_hundred_publishes_pipelined(lab: &Lab) -> Result<(), Failure> {
    let mut mqtt = Mqtt::open(lab).await?;
    let topic = mqtt.subscribe().await?;
    for number in 1..=100_u8 {
        mqtt.send(PUBLISH_ACKNOWLEDGED, &[&string(&topic)[..], &[0, number], &[number]].concat())
            .await?;
    }
    let (mut delivered, mut acknowledged) = (0, 0);
    while (delivered, acknowledged) != (100, 100) {
        match mqtt.packet().await? {
            (PUBLISH, body) => {
                delivered += 1;
                same("its number", body.last(), Some(&delivered))?;
            }
            (PUBACK, body) => {
                acknowledged += 1;
                same("the packet it acknowledges", body, [0, acknowledged])?;
            }
            (kind, _) => return Err(format!("a packet of kind {kind:#x} came").into()),
        }
    }
    Ok(())
}

/// Packets need not be aligned on messages.
async fn packet_over_two_messages(lab: &Lab) -> Result<(), Failure> {
    let mut mqtt = Mqtt::open(lab).await?;
    let topic = mqtt.subscribe().await?;
    let packet = packet(PUBLISH, &[&string(&topic)[..], b"in two"].concat());
    let (head, tail) = packet.split_at(3);
    mqtt.session.send(head.to_vec()).await?;
    mqtt.session.send(tail.to_vec()).await?;
    same("what was published", mqtt.published(&topic).await?, b"in two")
}

async fn mqtt_ping(lab: &Lab) -> Result<(), Failure> {
    let mut mqtt = Mqtt::open(lab).await?;
    for _ in 0..3 {
        mqtt.send(PINGREQ, &[]).await?;
        same("the answer", mqtt.packet().await?, (PINGRESP, Vec::new()))?;
    }
    Ok(())
}

async fn ping_round_trip(lab: &Lab) -> Result<(), Failure> {
    let mqtt = Mqtt::open(lab).await?;
    for _ in 0..3 {
        let took = mqtt.session.ping().await?;
        ensure(took < Duration::from_secs(30), format!("the pong took {took:?}"))?;
    }
    Ok(())
}

async fn keepalive(lab: &Lab) -> Result<(), Failure> {
    let mut mqtt = Mqtt::open(lab).await?;
    mqtt.session.set_ping_interval(Duration::from_millis(100))?;
    lab.sleep(Duration::from_secs(1)).await;
    ensure(mqtt.session.latency().is_some(), "no pong came in a second of pings")?;
    mqtt.send(PINGREQ, &[]).await?;
    same("the answer", mqtt.packet().await?, (PINGRESP, Vec::new()))
}

async fn close_from_us(lab: &Lab) -> Result<(), Failure> {
    let mut mqtt = Mqtt::open(lab).await?;
    close(&mut mqtt.session, CloseReason::normal()).await?;
    Ok(())
}

/// mosquitto ends the connection after DISCONNECT; it sends no Close.
async fn disconnect(lab: &Lab) -> Result<(), Failure> {
    let mut mqtt = Mqtt::open(lab).await?;
    mqtt.send(DISCONNECT, &[]).await?;
    expect_cut(&mut mqtt.session).await
}

async fn killed_peer(lab: &Lab) -> Result<(), Failure> {
    let port = lab.victim("mosquitto")?;
    let mut mqtt = Mqtt::open_at(lab, format!("ws://localhost:{port}/mqtt")).await?;
    lab.kill()?;
    expect_cut(&mut mqtt.session).await
}

/// A session of MQTT, and what came of a packet that is not whole yet.
struct Mqtt {
    session: Session,
    input: Vec<u8>,
}

impl Mqtt {
    async fn open(lab: &Lab) -> Result<Self, Failure> {
        Self::open_at(lab, lab.url("/mqtt")).await
    }

    async fn open_at(lab: &Lab, url: String) -> Result<Self, Failure> {
        let session = lab.client.web_socket(url).subprotocol("mqtt").connect().await?;
        let mut mqtt = Self { session, input: Vec::new() };
        // Version 4 is 3.1.1; a clean session; 60 s of MQTT's own keepalive.
        let hello = [&string("MQTT")[..], &[4, 2, 0, 60], &string(&id())].concat();
        mqtt.send(0x10, &hello).await?;
        same("the answer to CONNECT", mqtt.packet().await?, (CONNACK, vec![0, 0]))?;
        Ok(mqtt)
    }

    /// Subscribes to a topic of its own.
    async fn subscribe(&mut self) -> Result<String, Failure> {
        let topic = format!("drivetrain/{}", id());
        self.send(SUBSCRIBE, &[&[0, 7], &string(&topic)[..], &[0]].concat()).await?;
        same("the answer to SUBSCRIBE", self.packet().await?, (SUBACK, vec![0, 7, 0]))?;
        Ok(topic)
    }

    async fn send(&self, kind: u8, body: &[u8]) -> Result<(), Failure> {
        Ok(self.session.send(packet(kind, body)).await?)
    }

    /// What is in the next packet, which has to be published on this topic.
    async fn published(&mut self, topic: &str) -> Result<Vec<u8>, Failure> {
        let (kind, body) = self.packet().await?;
        same("the packet's kind", kind, PUBLISH)?;
        let message = body.strip_prefix(&string(topic)[..]).ok_or("it has another topic")?;
        Ok(message.to_vec())
    }

    /// The first byte and the body of the next packet.
    async fn packet(&mut self) -> Result<(u8, Vec<u8>), Failure> {
        loop {
            if let Some((kind, head, size)) = header(&self.input)
                && self.input.len() >= head + size
            {
                let rest = self.input.split_off(head + size);
                let packet = std::mem::replace(&mut self.input, rest);
                return Ok((kind, packet[head..].to_vec()));
            }
            let frame = next(&mut self.session).await?;
            ensure(frame.read_text().is_none(), "MQTT came as text")?;
            self.input.extend_from_slice(frame.read_bytes());
        }
    }
}

/// The first byte of a packet, the length of its head, and that of its body.
fn header(input: &[u8]) -> Option<(u8, usize, usize)> {
    let (kind, mut size) = (*input.first()?, 0);
    for (at, byte) in input.iter().enumerate().skip(1) {
        size |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Some((kind, at + 1, size));
        }
    }
    None
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut rest = body.len();
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        packet.push(if rest == 0 { byte } else { byte | 0x80 });
        if rest == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// A text with its length before it.
fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
