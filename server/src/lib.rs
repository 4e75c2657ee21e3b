//! The WebSocket server of [drivetrain](https://docs.rs/drivetrain), for hyper, tower and axum.
//!
//! | type | what it is |
//! |---|---|
//! | [`Upgrader`] | the configuration: frames, options, origins, subprotocols; checks handshakes |
//! | [`WebSocketUpgrade`] | a handshake that may be accepted, and the session's handler |
//! | [`Sessions`] | the registry: limit, count, closing, shutdown |
//! | [`Broadcast`], [`Topics`] | one message to many sessions, with a policy for slow ones |
//! | [`Cluster`], [`Backplane`] | topics that several servers share, over a message broker |
//! | [`Events`] | server-sent events |
//! | [`serve`](serve()), [`Listener`] | a server for programs without a framework, over TCP, TLS or Unix sockets |
//!
//! A session is the client's [`Session`], with the same options, converters, extensions and errors.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `axum` | [`web_socket`], and [`WebSocketUpgrade`] as an extractor |
//! | `http2` | handshakes over HTTP/2 (RFC 8441), in [`serve`](serve()) and in other servers on hyper |

#[cfg(feature = "axum")]
mod axum;
mod backplane;
mod broadcast;
mod cluster;
mod events;
mod frames;
mod listener;
mod refusal;
mod serve;
mod sessions;
mod stream;
mod upgrade;
mod upgrader;

#[cfg(feature = "axum")]
pub use crate::axum::{raw_web_socket, web_socket};
pub use backplane::{Backplane, BackplaneError, Messages};
pub use broadcast::{Broadcast, Delivered, Lag, Subscription, TopicSubscription, Topics};
pub use cluster::{Cluster, ClusterStats, ClusterSubscription, Published};
pub use drivetrain_engine::{Origins, RefusalKind, async_trait};
pub use drivetrain_session::{RawSession, Session, WebSockets};
pub use events::{EventBody, Events, ServerEvent};
pub use listener::Listener;
pub use refusal::Refusal;
pub use serve::{Serve, serve};
pub use sessions::{SessionInfo, Sessions, ShutdownReport};
pub use upgrade::{PendingSession, WebSocketUpgrade};
pub use upgrader::{Peer, Upgrader, WebSocketService};
