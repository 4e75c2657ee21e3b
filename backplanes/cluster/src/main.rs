//! A chat whose members are on several servers. Run some servers with one broker:
//! `cargo run -p cluster -- 127.0.0.1:8080 nats://127.0.0.1:4222`, or `redis://127.0.0.1/`; port 0 lets the system choose.
//! The first line that is printed names the address.
//!
//! The path of a WebSocket is its room. It gets `ready` when messages of the other servers reach it, and then what others
//! send to the room. `/stats` sends this server's counts and closes.

use std::{env, error::Error};

use drivetrain::{
    Result, Session,
    engine::Native,
    server::{Cluster, Lag, Upgrader, serve},
};
use drivetrain_nats::Nats;
use drivetrain_redis::Redis;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(broker)) = (arguments.next(), arguments.next()) else {
        return Err("usage: cluster ADDRESS BROKER".into());
    };
    let rooms = match broker.starts_with("nats") {
        true => Cluster::new(Nats::new(async_nats::connect(broker).await?))?,
        false => Cluster::new(Redis::connect(&broker).await?)?,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let sockets = Upgrader::new(Native::new()).keep_requests();
    let service = sockets.service(move |session| member(session, rooms.clone()));
    serve(listener, service).sessions(sockets.registry()).await?;
    Ok(())
}

async fn member(mut session: Session, rooms: Cluster) -> Result<()> {
    let room = session.request().map_or_else(String::new, |request| request.uri().path().into());
    if room == "/stats" {
        return session.send(format!("{:?}", rooms.stats())).await;
    }
    let mut seat = rooms.subscribe(&room, &session, Lag::disconnect(1 << 20));
    seat.confirmed().await;
    session.send("ready").await?;
    while let Some(frame) = session.receive().await? {
        rooms.publish_except(&session, &room, frame);
    }
    Ok(())
}
