//! The options in force of one session.

use std::{borrow::Cow, sync::Arc};

use drivetrain_engine::{Capability, Error, ErrorKind, Frame, Limits, Result, Role, Support, Unit};

use super::{
    converter::Converter,
    negotiation::ExtensionSet,
    options::{Value, default_value},
    plugin::WebSockets,
    session_options,
    settings::{AppliedBy, SetBy, Setting, Settings},
};

macro_rules! define {
    ([] $(
        $(#[doc = $doc:literal])+
        $name:ident($argument:ident: $argument_type:ty) -> $type:ty {
            wins: $wins:ident,
            default: [$($default:tt)+],
            zero: $zero:literal,
            by: $by:ident,
            needs: $needs:tt,
            also: [$($also:ident)*],
        }
    )+) => {
        /// The options in force of one session: [`new`](Self::new) has the defaults, and the fields can be set.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct SessionConfig {
            /// The engine's name, for errors.
            pub engine: Arc<str>,
            /// The reason if the engine sends no Ping and Pong.
            pub no_pings: Option<Cow<'static, str>>,
            /// The reason if the engine sends no fragments.
            pub no_fragments: Option<Cow<'static, str>>,
            $(
                #[doc = concat!("See [`WebSockets::", stringify!($name), "`].")]
                pub $name: $type,
            )+
            /// See [`WebSockets::converter`].
            pub converter: Option<Arc<dyn Converter>>,
            /// See [`WebSockets::extension`].
            pub extensions: ExtensionSet,
            /// All of these in words.
            pub settings: Settings,
        }

        /// The value in force of each option of the table.
        struct Choices {
            $($name: Choice<$type>,)+
        }

        impl Choices {
            /// Of scopes the strongest comes first.
            fn new(scopes: &[(SetBy, &WebSockets)], role: Role) -> Self {
                Self {
                    $($name: {
                        let set = scopes.iter().filter_map(|(set_by, options)| {
                            options.values.$name.map(|value| (*set_by, value))
                        });
                        Choice::$wins(set, default_value!($($default)+)).applied_by(applied_by!($by, role))
                    },)+
                }
            }

            /// Replaces values that the engine cannot honour.
            fn restrict(&mut self, support: &dyn Fn(Capability) -> Support) {
                $(restrict!($needs self.$name, support, default_value!($($default)+));)+
            }

            fn config(self, engine: &str, support: &dyn Fn(Capability) -> Support) -> SessionConfig {
                let mut settings = Settings::default();
                $(settings.push(self.$name.row(stringify!($name)));)+
                SessionConfig {
                    engine: engine.into(),
                    no_pings: missing(support(Capability::SendPing)),
                    no_fragments: missing(support(Capability::SendFragments)),
                    $($name: self.$name.value,)+
                    converter: None,
                    extensions: ExtensionSet::default(),
                    settings,
                }
            }
        }
    };
}

/// The party that applies an option, from the table's column and the role.
macro_rules! applied_by {
    (session, $role:ident) => {
        AppliedBy::Session
    };
    (opener, $role:ident) => {
        match $role {
            Role::Server => AppliedBy::Server,
            _ => AppliedBy::Client,
        }
    };
}

/// Replaces a value that an engine without the needed capability cannot honour.
macro_rules! restrict {
    ([$need:ident, else $lacking:expr] $choice:expr, $support:ident, $default:expr) => {
        if let Support::Missing(reason) = $support(Capability::$need) {
            $choice = Choice::nobody($default, $lacking, reason);
        }
    };
    ($needs:tt $choice:expr, $support:ident, $default:expr) => {};
}

session_options!(define);

impl SessionConfig {
    /// The defaults, for a client's sessions on an engine of this name that can do everything.
    pub fn new(engine: &str) -> Self {
        Self::resolve(Role::Client, engine, &|_| Support::Offered, &[])
    }

    /// The options in force of this end's sessions on an engine of this name and these abilities.
    ///
    /// Of an option that several scopes set, the first scope of the list wins; of a limit (`max_…`) the smallest
    /// value. `max_message_size` set alone is the limit for frames too.
    pub fn resolve(
        role: Role,
        engine: &str,
        support: &dyn Fn(Capability) -> Support,
        scopes: &[(SetBy, &WebSockets)],
    ) -> Self {
        let mut choices = Choices::new(scopes, role);
        choices.combine();
        choices.restrict(support);
        let mut config = choices.config(engine, support);
        let converter = strongest(scopes, |options| options.converter.as_ref());
        let extensions = strongest(scopes, |options| options.extensions.as_ref());
        let rows = [
            converter.map_or((SetBy::Default, "none".into()), |(by, it)| (by, format!("{it:?}"))),
            extensions.map_or((SetBy::Default, "none".into()), |(by, it)| (by, it.to_string())),
        ];
        for (name, (set_by, value)) in ["converter", "extensions"].into_iter().zip(rows) {
            config.settings.push(Setting::new(name, value, set_by, AppliedBy::Session));
        }
        config.converter = converter.map(|(_, converter)| Arc::clone(converter));
        config.extensions = extensions.map(|(_, it)| it.clone()).unwrap_or_default();
        config
    }

    /// The largest payload of a frame that goes out: a longer message is fragmented. No limit where the transport
    /// takes whole messages, or sends no fragments.
    pub(super) fn fragment_size(&self, unit: Unit) -> usize {
        match unit {
            Unit::Frames if self.no_fragments.is_none() => {
                self.max_fragment_size.min(self.max_frame_size)
            }
            _ => usize::MAX,
        }
    }

    /// The largest frame and the largest message.
    pub fn limits(&self) -> Limits {
        let Self { max_frame_size, max_message_size, .. } = *self;
        Limits { max_frame_size, max_message_size }
    }

    /// # Errors
    /// [`Unsupported`](drivetrain_engine::ErrorKind::Unsupported) if the engine sends no Ping and Pong.
    pub(super) fn check_pings(&self) -> Result<()> {
        match &self.no_pings {
            None => Ok(()),
            Some(reason) => {
                Err(Error::unsupported(self.engine.to_string(), Capability::SendPing, reason))
            }
        }
    }

    /// # Errors
    /// [`Unsupported`](drivetrain_engine::ErrorKind::Unsupported) if the engine sends no fragments, or if its
    /// connection takes whole messages only.
    pub(super) fn check_fragments(&self, whole_messages: bool) -> Result<()> {
        let whole =
            || whole_messages.then_some(Cow::Borrowed("its connection takes whole messages"));
        match self.no_fragments.clone().or_else(whole) {
            None => Ok(()),
            Some(reason) => {
                Err(Error::unsupported(self.engine.to_string(), Capability::SendFragments, &reason))
            }
        }
    }

    /// Refuses a frame that must not be sent.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput), [`TooBig`](ErrorKind::TooBig), or as for
    /// [`check_pings`](Self::check_pings).
    pub(super) fn check_frame(&self, frame: &Frame) -> Result<()> {
        let limit = self.max_message_size;
        match frame {
            Frame::Ping(payload) | Frame::Pong(payload) if payload.len() > 125 => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a control frame of {} bytes is too long: at most 125", payload.len()),
            )),
            Frame::Ping(_) | Frame::Pong(_) => self.check_pings(),
            Frame::Text(_) | Frame::Binary(_) if frame.payload().len() > limit => {
                let size = frame.payload().len();
                Err(Error::new(
                    ErrorKind::TooBig,
                    format!(
                        "a message of {size} bytes is above max_message_size, which is {limit} bytes"
                    ),
                ))
            }
            Frame::Close(Some(reason)) if !reason.code().may_travel() => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("close code {} must not be sent", reason.code()),
            )),
            _ => Ok(()),
        }
    }
}

impl Choices {
    /// Applies the rules that connect one option with another.
    fn combine(&mut self) {
        let Self { ping_interval, ping_timeout, max_frame_size, max_message_size, .. } = self;
        if ping_interval.set_by == SetBy::Engine {
            ping_interval.note =
                Some("set on the engine; the session sends the pings on its behalf".into());
        }
        if ping_timeout.value.is_none() {
            let twice = ping_interval.value.map(|interval| interval.saturating_mul(2));
            ping_timeout.words = Some(twice.map_or("2 × interval".into(), Value::words));
        }
        if ping_interval.value.is_none() {
            ping_timeout.note = Some("no pings, so nothing to wait for".into());
        }
        if max_frame_size.set_by == SetBy::Default && max_message_size.set_by != SetBy::Default {
            *max_frame_size = max_message_size.clone();
            max_frame_size.note = Some("as max_message_size, which was set alone".into());
        }
    }
}

/// The value in force of one option.
#[derive(Clone)]
struct Choice<T> {
    value: T,
    set_by: SetBy,
    applied_by: AppliedBy,
    /// The value for `settings()`, if it is not the value's own words.
    words: Option<String>,
    note: Option<Cow<'static, str>>,
}

impl<T: Value> Choice<T> {
    fn new((set_by, value): (SetBy, T)) -> Self {
        Self { value, set_by, applied_by: AppliedBy::Session, words: None, note: None }
    }

    /// The value of the strongest scope that sets one.
    fn strongest(mut set: impl Iterator<Item = (SetBy, T)>, default: T) -> Self {
        Self::new(set.next().unwrap_or((SetBy::Default, default)))
    }

    /// The smallest value that a scope sets.
    fn smallest(set: impl Iterator<Item = (SetBy, T)>, default: T) -> Self
    where
        T: Ord,
    {
        Self::new(set.min_by_key(|(_, value)| *value).unwrap_or((SetBy::Default, default)))
    }

    /// The default, which the engine cannot honour for this reason: another value is in force.
    fn nobody(default: T, in_force: T, reason: Cow<'static, str>) -> Self {
        Self {
            value: in_force,
            applied_by: AppliedBy::Nobody,
            words: Some(default.words()),
            note: Some(reason),
            ..Self::new((SetBy::Default, default))
        }
    }

    fn applied_by(self, applied_by: AppliedBy) -> Self {
        Self { applied_by, ..self }
    }

    fn row(&self, name: &'static str) -> Setting {
        let words = self.words.clone().unwrap_or_else(|| self.value.words());
        Setting::new(name, words, self.set_by, self.applied_by).with_note(self.note.clone())
    }
}

/// An option of the strongest scope that sets it.
fn strongest<'a, T>(
    scopes: &[(SetBy, &'a WebSockets)],
    get: impl Fn(&'a WebSockets) -> Option<T>,
) -> Option<(SetBy, T)> {
    scopes.iter().find_map(|(set_by, options)| get(options).map(|value| (*set_by, value)))
}

fn missing(support: Support) -> Option<Cow<'static, str>> {
    match support {
        Support::Offered => None,
        Support::Missing(reason) => Some(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn resolve(scopes: &[(SetBy, &WebSockets)]) -> SessionConfig {
        SessionConfig::resolve(Role::Client, "test", &|_| Support::Offered, scopes)
    }

    fn row(config: &SessionConfig, name: &str) -> (String, SetBy, AppliedBy) {
        let row = config.settings.get(name).expect(name);
        (row.value.to_string(), row.set_by, row.applied_by)
    }

    #[test]
    fn the_strongest_scope_wins_and_of_limits_the_smallest_value() {
        let plugin =
            WebSockets::new().close_timeout(SECOND).max_stream_size(10).ping_timeout(SECOND);
        let engine = WebSockets::new().ping_interval(2 * SECOND).close_timeout(3 * SECOND);
        let request = WebSockets::new().ping_interval(None).max_stream_size(20);
        let config = resolve(&[
            (SetBy::Request, &request),
            (SetBy::Engine, &engine),
            (SetBy::Plugin, &plugin),
        ]);
        assert_eq!((config.ping_interval, config.close_timeout), (None, 3 * SECOND));
        assert_eq!((config.max_stream_size, config.ping_timeout), (10, Some(SECOND)));
        let session = AppliedBy::Session;
        assert_eq!(row(&config, "ping_interval"), ("off".into(), SetBy::Request, session));
        assert_eq!(row(&config, "close_timeout"), ("3s".into(), SetBy::Engine, session));
        assert_eq!(row(&config, "max_stream_size"), ("10 bytes".into(), SetBy::Plugin, session));
        let note = |name| config.settings.get(name).and_then(|row| row.note.as_deref());
        assert_eq!(note("ping_timeout"), Some("no pings, so nothing to wait for"));
        assert_eq!(note("ping_interval"), None);
    }

    #[test]
    fn one_number_is_the_limit_for_messages_and_frames() {
        for bytes in [10, 1 << 30] {
            let plugin = WebSockets::new().max_message_size(bytes);
            let config = resolve(&[(SetBy::Plugin, &plugin)]);
            assert_eq!((config.max_frame_size, config.max_message_size), (bytes, bytes));
            let frames = config.settings.get("max_frame_size").expect("a row");
            assert_eq!(frames.note.as_deref(), Some("as max_message_size, which was set alone"));
            let both = plugin.max_frame_size(20);
            let limits = resolve(&[(SetBy::Plugin, &both)]).limits();
            assert_eq!((limits.max_frame_size, limits.max_message_size), (20, bytes));
        }
        assert_eq!(resolve(&[]).limits(), Limits::default());
    }

    #[test]
    fn a_ping_timeout_is_twice_the_interval_unless_it_is_set() {
        let plugin = WebSockets::new().ping_interval(2 * SECOND);
        let timeout = row(&resolve(&[(SetBy::Plugin, &plugin)]), "ping_timeout");
        assert_eq!(timeout, ("4s".into(), SetBy::Default, AppliedBy::Session));
        let config = resolve(&[(SetBy::Engine, &plugin.ping_timeout(SECOND))]);
        assert_eq!(row(&config, "ping_timeout").0, "1s");
        let interval = config.settings.get("ping_interval").expect("a row");
        assert!(interval.note.as_deref().is_some_and(|note| note.contains("on its behalf")));
        assert_eq!(row(&resolve(&[]), "ping_timeout").0, "2 × interval");
    }

    #[test]
    fn nobody_applies_a_default_that_the_engine_cannot_honour() {
        let support = |capability| match capability {
            Capability::MaxFrameSize | Capability::SendPing => Support::missing("of its library"),
            _ => Support::Offered,
        };
        let plugin = WebSockets::new().max_message_size(10);
        let scopes = [(SetBy::Plugin, &plugin)];
        let config = SessionConfig::resolve(Role::Client, "test", &support, &scopes);
        assert_eq!((config.max_frame_size, config.max_message_size), (usize::MAX, 10));
        let (value, set_by, applied_by) = row(&config, "max_frame_size");
        assert_eq!(value, format!("{} bytes", Limits::default().max_frame_size));
        assert_eq!((set_by, applied_by), (SetBy::Default, AppliedBy::Nobody));
        let note = config.settings.get("max_frame_size").and_then(|row| row.note.as_deref());
        assert_eq!(note, Some("of its library"));
        let error = config.check_pings().expect_err("refused");
        assert_eq!(error.capability(), Some(Capability::SendPing));
        assert!(config.no_fragments.is_none());
    }

    #[test]
    fn each_end_applies_its_own_time_limit_for_opening() {
        for (role, applied_by) in
            [(Role::Client, AppliedBy::Client), (Role::Server, AppliedBy::Server)]
        {
            let route = WebSockets::new().handshake_timeout(SECOND);
            let scopes = [(SetBy::Route, &route)];
            let config = SessionConfig::resolve(role, "test", &|_| Support::Offered, &scopes);
            let expected = ("1s".into(), SetBy::Route, applied_by);
            assert_eq!(row(&config, "handshake_timeout"), expected);
        }
    }

    #[test]
    fn fragments_are_limited_where_there_are_frames() {
        let mut config = SessionConfig::new("test");
        let frames = config.fragment_size(Unit::Frames);
        assert_eq!((frames, config.fragment_size(Unit::Messages)), (64 << 10, usize::MAX));
        config.max_frame_size = 10;
        assert_eq!(config.fragment_size(Unit::Frames), 10);
        config.max_fragment_size = 5;
        assert_eq!(config.fragment_size(Unit::Frames), 5);
    }
}
