//! The options of a session: set in several places, effective once.

use std::{borrow::Cow, sync::Arc, time::Duration};

use drivetrain_engine::{Capability, Engine, Error, ErrorKind, Limits, Result, Support};

use crate::{
    WebSockets,
    session::{AppliedBy, SessionConfig, SetBy, Setting, Settings},
};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const CAPACITY: usize = 256 << 10;

/// What was set in one place; `None` was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionOptions {
    pub(crate) ping_interval: Option<Option<Duration>>,
    pub(crate) ping_timeout: Option<Duration>,
    pub(crate) max_frame_size: Option<usize>,
    pub(crate) max_message_size: Option<usize>,
    pub(crate) max_stream_size: Option<u64>,
    pub(crate) close_timeout: Option<Duration>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) incoming_capacity: Option<usize>,
    pub(crate) outgoing_capacity: Option<usize>,
}

impl SessionOptions {
    pub(crate) fn overridden_by(self, later: Self) -> Self {
        Self {
            ping_interval: later.ping_interval.or(self.ping_interval),
            ping_timeout: later.ping_timeout.or(self.ping_timeout),
            max_frame_size: later.max_frame_size.or(self.max_frame_size),
            max_message_size: later.max_message_size.or(self.max_message_size),
            max_stream_size: later.max_stream_size.or(self.max_stream_size),
            close_timeout: later.close_timeout.or(self.close_timeout),
            handshake_timeout: later.handshake_timeout.or(self.handshake_timeout),
            incoming_capacity: later.incoming_capacity.or(self.incoming_capacity),
            outgoing_capacity: later.outgoing_capacity.or(self.outgoing_capacity),
        }
    }

    /// Refuses what can never work, and what the engine does not offer, before any I/O.
    pub(crate) fn check(&self, engine: &dyn Engine) -> Result<()> {
        let Self {
            ping_interval,
            ping_timeout,
            max_frame_size,
            max_message_size,
            max_stream_size,
            close_timeout,
            handshake_timeout,
            incoming_capacity,
            outgoing_capacity,
        } = *self;
        for (name, zero, instead) in [
            (
                "ping_interval",
                ping_interval == Some(Some(Duration::ZERO)),
                "None switches pings off",
            ),
            ("ping_timeout", ping_timeout == Some(Duration::ZERO), "give the peer some time"),
            ("max_frame_size", max_frame_size == Some(0), "usize::MAX is no limit"),
            ("max_message_size", max_message_size == Some(0), "usize::MAX is no limit"),
            ("max_stream_size", max_stream_size == Some(0), "u64::MAX is no limit"),
            ("close_timeout", close_timeout == Some(Duration::ZERO), "drop the session instead"),
            (
                "handshake_timeout",
                handshake_timeout == Some(Duration::ZERO),
                "Duration::MAX is none",
            ),
            ("incoming_capacity", incoming_capacity == Some(0), "one byte holds one message"),
            ("outgoing_capacity", outgoing_capacity == Some(0), "one byte holds one message"),
        ] {
            if zero {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("a {name} of zero is not possible: {instead}"),
                ));
            }
        }
        let needs = [
            (
                Capability::PluginPing,
                matches!(ping_interval, Some(Some(_))) || ping_timeout.is_some(),
            ),
            (Capability::MaxFrameSize, max_frame_size.is_some()),
            (Capability::MaxMessageSize, max_message_size.is_some()),
        ];
        for (capability, needed) in needs {
            if needed {
                require(engine, capability)?;
            }
        }
        Ok(())
    }
}

/// # Errors
/// [`ErrorKind::Unsupported`] with the engine's reason.
pub(crate) fn require(engine: &dyn Engine, capability: Capability) -> Result<()> {
    match engine.support(capability) {
        Support::Offered => Ok(()),
        Support::Missing(reason) => {
            Err(Error::unsupported(engine.name().to_owned(), capability, &reason))
        }
    }
}

/// The effective options of a session and how they came about. Shared by all sessions that override
/// nothing.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    pub(crate) session: Arc<SessionConfig>,
    pub(crate) handshake_timeout: Duration,
}

impl Effective {
    /// Request over engine over plugin over default; of limits the smallest.
    pub(crate) fn new(engine: &dyn Engine, plugin: &WebSockets, request: &SessionOptions) -> Self {
        let native = engine.settings();
        let from_engine = SessionOptions {
            ping_interval: native.ping_interval.map(Some),
            max_frame_size: native.max_frame_size,
            max_message_size: native.max_message_size,
            ..SessionOptions::default()
        };
        let sources = Sources {
            engine,
            places: [
                (SetBy::Request, *request),
                (SetBy::Engine, from_engine),
                (SetBy::Plugin, plugin.options),
            ],
            settings: Settings::default(),
        };
        sources.effective(plugin, native.native)
    }
}

/// The places where options are set, the strongest first.
struct Sources<'a> {
    engine: &'a dyn Engine,
    places: [(SetBy, SessionOptions); 3],
    settings: Settings,
}

impl Sources<'_> {
    fn effective(
        mut self,
        plugin: &WebSockets,
        native: Vec<drivetrain_engine::NativeSetting>,
    ) -> Effective {
        let defaults = Limits::default();
        let ping_interval = self.ping_interval();
        let ping_timeout = self.ping_timeout(ping_interval);
        let limits = Limits {
            max_frame_size: self.limit(
                "max_frame_size",
                Capability::MaxFrameSize,
                defaults.max_frame_size,
                |options| options.max_frame_size,
            ),
            max_message_size: self.limit(
                "max_message_size",
                Capability::MaxMessageSize,
                defaults.max_message_size,
                |options| options.max_message_size,
            ),
        };
        let max_stream_size = self.stream_limit();
        let close_timeout =
            self.plain("close_timeout", AppliedBy::Session, CLOSE_TIMEOUT, |o| o.close_timeout);
        let handshake_timeout =
            self.plain("handshake_timeout", AppliedBy::Client, HANDSHAKE_TIMEOUT, |o| {
                o.handshake_timeout
            });
        let incoming_capacity =
            self.plain("incoming_capacity", AppliedBy::Session, CAPACITY, |o| o.incoming_capacity);
        let outgoing_capacity =
            self.plain("outgoing_capacity", AppliedBy::Session, CAPACITY, |o| o.outgoing_capacity);
        self.converter(plugin);
        for setting in native {
            let set_by = if setting.is_default { SetBy::Default } else { SetBy::Engine };
            let row = Setting::new(setting.name, setting.value, set_by, AppliedBy::Engine);
            self.settings.push(row.with_note(setting.note));
        }
        Effective {
            session: Arc::new(SessionConfig {
                engine: Arc::from(self.engine.name()),
                no_pings: match self.engine.support(Capability::SendPing) {
                    Support::Offered => None,
                    Support::Missing(reason) => Some(reason),
                },
                no_fragments: match self.engine.support(Capability::SendFragments) {
                    Support::Offered => None,
                    Support::Missing(reason) => Some(reason),
                },
                limits,
                max_stream_size,
                ping_interval,
                ping_timeout,
                close_timeout,
                incoming_capacity,
                outgoing_capacity,
                converter: plugin.converter.clone(),
                settings: self.settings,
            }),
            handshake_timeout,
        }
    }

    fn ping_interval(&mut self) -> Option<Duration> {
        let (set_by, interval) =
            self.strongest(|options| options.ping_interval).unwrap_or((SetBy::Default, None));
        let value = interval.map_or("off".into(), |interval| format!("{interval:?}"));
        let note = (set_by == SetBy::Engine)
            .then_some("set on the engine; the session sends the pings on its behalf".into());
        let row = Setting::new("ping_interval", value, set_by, AppliedBy::Session);
        self.settings.push(row.with_note(note));
        interval
    }

    fn ping_timeout(&mut self, interval: Option<Duration>) -> Option<Duration> {
        let set = self.strongest(|options| options.ping_timeout);
        let timeout = set.map(|(_, timeout)| timeout);
        let effective = timeout.or(interval.map(|interval| interval.saturating_mul(2)));
        let value = match effective {
            Some(timeout) => format!("{timeout:?}"),
            None => "2 × interval".into(),
        };
        let note = interval.is_none().then_some(Cow::Borrowed("no pings, so nothing to wait for"));
        let set_by = set.map_or(SetBy::Default, |(set_by, _)| set_by);
        let row = Setting::new("ping_timeout", value, set_by, AppliedBy::Session);
        self.settings.push(row.with_note(note));
        timeout
    }

    /// The smallest that was set; the default if none was and the engine can honour it.
    fn limit(
        &mut self,
        name: &'static str,
        capability: Capability,
        default: usize,
        get: impl Fn(&SessionOptions) -> Option<usize>,
    ) -> usize {
        let smallest = self
            .places
            .iter()
            .filter_map(|(set_by, options)| get(options).map(|bytes| (*set_by, bytes)))
            .min_by_key(|&(_, bytes)| bytes);
        let row = |bytes: usize, set_by, applied_by| {
            Setting::new(name, format!("{bytes} bytes"), set_by, applied_by)
        };
        match (smallest, self.engine.support(capability)) {
            (Some((set_by, bytes)), _) => {
                self.settings.push(row(bytes, set_by, AppliedBy::Session));
                bytes
            }
            (None, Support::Offered) => {
                self.settings.push(row(default, SetBy::Default, AppliedBy::Session));
                default
            }
            (None, Support::Missing(reason)) => {
                let row = row(default, SetBy::Default, AppliedBy::Nobody);
                self.settings.push(row.with_note(Some(reason)));
                usize::MAX
            }
        }
    }

    /// The smallest that was set; none if none was.
    fn stream_limit(&mut self) -> u64 {
        let smallest = self
            .places
            .iter()
            .filter_map(|(set_by, options)| options.max_stream_size.map(|bytes| (*set_by, bytes)))
            .min_by_key(|&(_, bytes)| bytes);
        let (set_by, value) = match smallest {
            Some((set_by, bytes)) => (set_by, format!("{bytes} bytes")),
            None => (SetBy::Default, "none".into()),
        };
        let row = Setting::new("max_stream_size", value, set_by, AppliedBy::Session);
        self.settings.push(row);
        smallest.map_or(u64::MAX, |(_, bytes)| bytes)
    }

    fn plain<T: Copy + std::fmt::Debug>(
        &mut self,
        name: &'static str,
        applied_by: AppliedBy,
        default: T,
        get: impl Fn(&SessionOptions) -> Option<T>,
    ) -> T {
        let (set_by, value) = self.strongest(get).unwrap_or((SetBy::Default, default));
        let unit = if name.ends_with("capacity") { " bytes" } else { "" };
        self.settings.push(Setting::new(name, format!("{value:?}{unit}"), set_by, applied_by));
        value
    }

    fn converter(&mut self, plugin: &WebSockets) {
        let (value, set_by) = match &plugin.converter {
            Some(converter) => (format!("{converter:?}"), SetBy::Plugin),
            None => ("none".into(), SetBy::Default),
        };
        self.settings.push(Setting::new("converter", value, set_by, AppliedBy::Session));
    }

    fn strongest<T>(&self, get: impl Fn(&SessionOptions) -> Option<T>) -> Option<(SetBy, T)> {
        self.places.iter().find_map(|(set_by, options)| get(options).map(|value| (*set_by, value)))
    }
}
