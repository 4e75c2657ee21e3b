//! WebSocket sessions, the same on every engine.
//!
//! A session is one lock around the engine's frames. The application polls the engine in its own
//! `receive` and `send`, and one small session task handles time. This layer knows engines only
//! through `drivetrain-engine`, and takes its role from the connection, for clients and servers.
//!
//! | file | content |
//! |---|---|
//! | `session`, `halves`, `streaming`, `raw` | the types that users hold |
//! | `options`, `plugin`, `config`, `settings`, `negotiation` | the table of options, the options of one scope, the values in force |
//! | `shared`, `state`, `deferred` | the lock, the state behind it, and the work deferred until it is released |
//! | `inbound`, `outbound`, `lifecycle` | the three parts of the state, each with its pure pieces: frames, time and events in, decisions out |
//! | `task` | the session task: the only place that sleeps |
//! | `extensions`, `budget`, `stats` | extensions of messages, the cooperative budget, counters |
//! | `waiting`, `waiters` | the wakers that the transport sees, and the tasks that wait for the session |
//! | `trace` | the events for `tracing` |

mod budget;
mod builder;
mod config;
mod converter;
mod deferred;
#[cfg(feature = "deflate")]
mod deflate;
mod extensions;
mod facts;
mod halves;
mod handle;
mod inbound;
#[cfg(feature = "json")]
mod json;
mod kind;
mod lane;
mod lifecycle;
mod negotiation;
mod options;
mod outbound;
mod panics;
mod plugin;
mod poll_waker;
mod raw;
mod session;
mod settings;
mod shared;
mod state;
mod stats;
mod streaming;
mod sync;
mod task;
mod trace;
mod waiters;
mod waiting;

pub use builder::SessionBuilder;
pub use config::SessionConfig;
pub use converter::{ConvertError, Converter, erased_serde};
#[cfg(feature = "deflate")]
pub use deflate::PermessageDeflate;
#[doc(hidden)]
pub use drivetrain_engine::Extension;
pub use extensions::Extensions;
pub use halves::{Incoming, Outgoing};
pub use handle::SessionHandle;
#[cfg(feature = "json")]
pub use json::{Json, without_byte_order_mark};
pub use kind::MessageKind;
pub use lane::{Lane, Overflow, Pushed};
pub use negotiation::ExtensionSet;
#[doc(hidden)]
pub use options::{OPTIONS, SessionOption};
pub use outbound::send_log::Unacknowledged;
pub use panics::wake_all;
pub use plugin::WebSockets;
pub use raw::{RawSession, remote::RawFarewell};
pub use session::Session;
pub use settings::{AppliedBy, SetBy, Setting, Settings};
pub use stats::{SessionStats, Traffic};
pub use streaming::MessageReader;
pub use streaming::MessageWriter;

const _: () = {
    const fn send_sync<T: Send + Sync>() {}
    send_sync::<Session>();
    send_sync::<Outgoing>();
    send_sync::<Incoming>();
    send_sync::<MessageWriter>();
    send_sync::<MessageReader<'_>>();
};
