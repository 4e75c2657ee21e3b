//! The options that one scope sets: the plugin, a request, a route or an engine value.

use std::sync::Arc;

use drivetrain_engine::{Capability, EngineSettings, Error, ErrorKind, Extension, Result};

use super::{
    converter::Converter,
    negotiation::ExtensionSet,
    options::{self, OPTIONS, SessionOption, Value, default_words},
    session_options,
};

/// WebSockets, with the options that sessions begin with.
///
/// It is installed on a client, which has one with the defaults unless it says otherwise, or on a server. A
/// request or a route may set each option for its own session. Where several scopes set an option, the request or
/// the route wins over the engine value, the engine value over this plugin, and this plugin over the default. Of
/// limits (`max_…`) the smallest one wins, wherever it is set.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use drivetrain_session::WebSockets;
///
/// let plugin = WebSockets::new()
///     .ping_interval(Duration::from_secs(20))
///     .max_message_size(1 << 20);
/// ```
#[derive(Clone, Debug, Default)]
pub struct WebSockets {
    pub(super) values: Values,
    pub(super) converter: Option<Arc<dyn Converter>>,
    pub(super) extensions: Option<ExtensionSet>,
}

impl WebSockets {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// [`ping_interval`](Self::ping_interval) in milliseconds, as Ktor has it.
    #[must_use]
    pub fn ping_interval_millis(self, interval: u64) -> Self {
        self.ping_interval(std::time::Duration::from_millis(interval))
    }

    /// The converter of `send_serialized` and `receive_deserialized`, such as `Json`. Default: none.
    #[must_use]
    pub fn converter(mut self, converter: impl Converter) -> Self {
        self.converter = Some(Arc::new(converter));
        self
    }

    /// Adds an extension, such as `PermessageDeflate`: a client offers it, a server agrees to it. Installing the
    /// plugin again with extensions, or setting any on a request or a route, replaces all of them. Raw sessions have
    /// none. Needs the engine's capability [`Extensions`](Capability::Extensions). Default: none.
    #[must_use]
    pub fn extension(mut self, extension: impl Extension) -> Self {
        self.extensions.get_or_insert_default().push(extension);
        self
    }

    /// Sets the extensions, in place of those set before.
    #[must_use]
    pub fn extensions(mut self, extensions: impl IntoIterator<Item = Arc<dyn Extension>>) -> Self {
        self.extensions = Some(extensions.into_iter().collect());
        self
    }

    /// These options, overridden by the later ones, as for a plugin that is installed twice.
    #[must_use]
    pub fn overridden_by(self, later: Self) -> Self {
        Self {
            values: later.values.or(self.values),
            converter: later.converter.or(self.converter),
            extensions: later.extensions.or(self.extensions),
        }
    }

    /// Whether no option is set.
    pub fn is_empty(&self) -> bool {
        let Self { values, converter, extensions } = self;
        values.set().next().is_none() && converter.is_none() && extensions.is_none()
    }

    /// Refuses options that can never work.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: an option that is zero, or extensions that cannot be offered together.
    pub fn check(&self) -> Result<()> {
        self.values.check()?;
        self.extensions.as_ref().map_or(Ok(()), ExtensionSet::check)
    }

    /// Refuses options that raw sessions do not apply.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] with the options that they do apply.
    pub fn check_raw(&self) -> Result<()> {
        let not_raw = self.values.set().find(|option| !option.is_for_raw());
        let converter = self.converter.as_ref().map(|_| "converter");
        let extensions = self.extensions.as_ref().map(|_| "extension");
        let Some(name) = not_raw.map(|option| option.name).or(converter).or(extensions) else {
            return Ok(());
        };
        let raw: Vec<_> =
            OPTIONS.iter().filter(|option| option.is_for_raw()).map(|option| option.name).collect();
        let message = format!(
            "`{name}` is not for raw sessions, which do nothing by themselves: of the options they apply only {}",
            raw.join(", ")
        );
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// The capabilities that an engine has to offer for the options that are set.
    pub fn needs(&self) -> impl Iterator<Item = Capability> {
        let extensions = self.extensions.as_ref().is_some_and(|extensions| !extensions.is_empty());
        self.values.needs().chain(extensions.then_some(Capability::Extensions))
    }
}

macro_rules! define {
    ([] $(
        $(#[doc = $doc:literal])+
        $name:ident($argument:ident: $argument_type:ty) -> $type:ty {
            wins: $wins:ident,
            default: [$($default:tt)+],
            zero: $zero:literal,
            by: $by:ident,
            needs: [$($need:ident $($lacking:tt)*)?],
            also: [$($also:ident)*],
        }
    )+) => {
        /// The options of the table that one scope sets; `None` is not set.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Values {
            $(pub(super) $name: Option<$type>,)+
        }

        impl WebSockets {
            $(
                $(#[doc = $doc])+
                #[doc = concat!(" Default: ", default_words!($($default)+), ".")]
                #[must_use]
                pub fn $name(mut self, $argument: $argument_type) -> Self {
                    self.values.$name = Some($argument.into());
                    self
                }
            )+
        }

        impl Values {
            /// These options, and the other's where one is not set.
            fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)+ }
            }

            /// The options that are set, in the order of the table.
            fn set(&self) -> impl Iterator<Item = &'static SessionOption> {
                let is_set = [$(self.$name.is_some(),)+];
                OPTIONS.iter().zip(is_set).filter_map(|(option, is_set)| is_set.then_some(option))
            }

            /// # Errors
            /// [`ErrorKind::InvalidInput`] for zero.
            fn check(&self) -> Result<()> {
                $(if self.$name.is_some_and(Value::is_zero) {
                    return Err(options::refused_zero(stringify!($name), $zero));
                })+
                Ok(())
            }

            /// The capabilities of the options that are set and not switched off.
            fn needs(&self) -> impl Iterator<Item = Capability> {
                let is_on = [$(self.$name.is_some_and(Value::is_on),)+];
                let on = OPTIONS.iter().zip(is_on).filter(|(_, is_on)| *is_on);
                on.filter_map(|(option, _)| option.needs)
            }
        }

        /// The options that are set on an engine value or on the preconfigured object in it.
        impl From<&EngineSettings> for WebSockets {
            fn from(settings: &EngineSettings) -> Self {
                let mut options = Self::default();
                $($(set_on_engine!($also options.values.$name, settings.$name);)*)+
                options
            }
        }
    };
}

/// Takes an option from an engine's settings if an engine may set it.
macro_rules! set_on_engine {
    (engine $option:expr, $setting:expr) => {
        $option = $setting.map(Into::into);
    };
    ($other:ident $option:expr, $setting:expr) => {};
}

session_options!(define);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_later_plugin_overrides_the_options_that_it_sets() {
        let first = WebSockets::new().max_stream_size(1).incoming_capacity(2);
        let plugin = first.overridden_by(WebSockets::new().incoming_capacity(3));
        let Values { max_stream_size, incoming_capacity, outgoing_capacity, .. } = plugin.values;
        assert_eq!(
            (max_stream_size, incoming_capacity, outgoing_capacity),
            (Some(1), Some(3), None)
        );
    }

    #[test]
    fn it_is_empty_until_something_is_set() {
        assert!(WebSockets::new().is_empty());
        assert!(!WebSockets::new().ping_interval(None).is_empty());
        assert!(!WebSockets::new().extensions([]).is_empty());
    }

    #[test]
    fn zero_is_refused_with_what_to_do_instead() {
        for (plugin, says) in [
            (
                WebSockets::new().ping_interval(Duration::ZERO),
                "a ping_interval of zero is not possible: None",
            ),
            (
                WebSockets::new().max_stream_size(0),
                "a max_stream_size of zero is not possible: u64::MAX",
            ),
        ] {
            let error = plugin.check().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(says), "{error}");
        }
        WebSockets::new().ping_interval(None).max_stream_size(1).check().expect("valid");
    }

    #[test]
    fn only_options_that_are_on_need_a_capability() {
        let needs = |plugin: WebSockets| plugin.needs().collect::<Vec<_>>();
        assert_eq!(needs(WebSockets::new().ping_interval(None).extensions([])), []);
        let plugin =
            WebSockets::new().ping_interval(Duration::from_secs(1)).close_timeout(Duration::MAX);
        assert_eq!(
            needs(plugin.max_frame_size(1)),
            [Capability::PluginPing, Capability::MaxFrameSize]
        );
    }

    #[test]
    fn raw_sessions_refuse_by_name_what_they_do_not_apply() {
        let raw = WebSockets::new().max_frame_size(1).close_timeout(Duration::MAX);
        raw.clone().handshake_timeout(Duration::MAX).check_raw().expect("of raw sessions");
        let error = raw.clone().ping_interval(None).check_raw().expect_err("refused").to_string();
        assert!(error.starts_with("`ping_interval` is not for raw sessions"), "{error}");
        assert!(
            error.ends_with("only max_frame_size, close_timeout, handshake_timeout"),
            "{error}"
        );
        assert!(
            raw.extensions([]).check_raw().expect_err("refused").to_string().contains("extension")
        );
    }

    #[test]
    fn an_engine_sets_the_options_of_its_value() {
        let mut settings = EngineSettings::default();
        assert!(WebSockets::from(&settings).is_empty());
        settings.ping_interval = Some(Duration::from_secs(1));
        settings.max_message_size = Some(7);
        let Values { ping_interval, max_frame_size, max_message_size, .. } =
            WebSockets::from(&settings).values;
        assert_eq!(ping_interval, Some(Some(Duration::from_secs(1))));
        assert_eq!((max_frame_size, max_message_size), (None, Some(7)));
    }
}
