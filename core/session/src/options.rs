//! The table of options: each option of a session stands here once.
//!
//! Everything else follows from the rows: the methods of [`WebSockets`](crate::WebSockets), of a client's request and
//! of a server's route, the checks, the precedence, the fields of [`SessionConfig`](crate::SessionConfig), the rows of
//! `settings()`, the defaults in the documentation, the page of options, and the suite's cases of defaults and of
//! zeros. To add an option, add a row, and read the field of `SessionConfig` where the option acts.
//!
//! | column | meaning |
//! |---|---|
//! | the signature | the method that sets the option, and the type of its value in force |
//! | `wins` | `strongest`: the narrowest scope that sets it; `smallest`: of all scopes |
//! | `default` | the value if nobody sets the option, in the words of the documentation |
//! | `zero` | what to do instead of setting zero, which is refused |
//! | `by` | who applies it: the `session`, or the `opener`, which is the client or the server |
//! | `needs` | the capabilities that an engine has to offer for it; `else` is the value in force on one that does not |
//! | `also` | scopes beside the plugin, a request and a route: `engine` for an engine value, `raw` for raw sessions |

use std::time::Duration;

use drivetrain_engine::{Capability, Error, ErrorKind};

/// Calls a macro with the rows of the table, and with arguments for it if there are any.
#[doc(hidden)]
#[macro_export]
macro_rules! session_options {
    ($callback:path $(; $($argument:tt)+)?) => {
        $callback! {
            [$($($argument)+)?]

            /// How often to ping the peer, from opening on. The first ping comes up to seven eighths of the interval
            /// early, by chance, so that sessions opened together do not ping in step. A peer that gives no sign of
            /// life within the interval and the [`ping_timeout`](Self::ping_timeout) is dead: the session ends with
            /// [`Timeout`](drivetrain_engine::ErrorKind::Timeout), whatever the application does. If the process was
            /// suspended, buffered input gets up to one second to be read before the peer is declared dead. `None`
            /// switches pings off.
            ping_interval(interval: impl Into<Option<std::time::Duration>>) -> Option<std::time::Duration> {
                wins: strongest,
                default: [off],
                zero: "None switches pings off",
                by: session,
                needs: [PluginPing],
                also: [engine],
            }

            /// How long a sign of life may take after a ping. Any frame is a sign of life, and so are bytes of a frame
            /// that is still coming in, and progress in writing what the socket has not taken yet: a peer answers when
            /// it reaches the ping.
            ping_timeout(timeout: std::time::Duration) -> Option<std::time::Duration> {
                wins: strongest,
                default: [twice the interval],
                zero: "give the peer some time",
                by: session,
                needs: [PluginPing],
                also: [],
            }

            /// The largest frame to accept, in bytes of payload; no frame that goes out is larger. A larger one that
            /// comes in ends the session with [`TooBig`](drivetrain_engine::ErrorKind::TooBig) and Close 1009. Where
            /// [`max_message_size`](Self::max_message_size) is set alone, it holds for frames too.
            max_frame_size(bytes: usize) -> usize {
                wins: smallest,
                default: [16 MiB],
                zero: "usize::MAX is no limit",
                by: session,
                needs: [MaxFrameSize, else usize::MAX],
                also: [engine raw],
            }

            /// The largest payload of one frame of a message that goes out in fragments, in bytes. A longer message is
            /// split, so that control frames pass between its fragments and no buffer below grows to its size. With
            /// extensions it is the size on the wire. No frame is above [`max_frame_size`](Self::max_frame_size), and
            /// fragments of a streamed message have at most 64 KiB.
            max_fragment_size(bytes: usize) -> usize {
                wins: smallest,
                default: [64 KiB],
                zero: "usize::MAX sends each message in one frame",
                by: session,
                needs: [SendFragments, else usize::MAX],
                also: [],
            }

            /// The largest message to accept or to send as a whole, in bytes. A larger one that comes in ends the
            /// session with [`TooBig`](drivetrain_engine::ErrorKind::TooBig) and Close 1009; a larger one to be sent
            /// is refused. A streamed message may be larger, but none of its frames. With extensions the limit is for
            /// the decoded message: on the wire a frame may have twice as many bytes and 64 KiB, up to
            /// [`max_frame_size`](Self::max_frame_size) where that is set. Set alone, it is the limit for frames too.
            max_message_size(bytes: usize) -> usize {
                wins: smallest,
                default: [64 MiB],
                zero: "usize::MAX is no limit",
                by: session,
                needs: [MaxMessageSize, else usize::MAX],
                also: [engine],
            }

            /// The largest message to accept or to send as a stream, in bytes. A streamed message is never held as a
            /// whole: see [`receive_stream`](crate::Session::receive_stream) and
            /// [`send_stream`](crate::Session::send_stream). A larger one that comes in ends the session with
            /// [`TooBig`](drivetrain_engine::ErrorKind::TooBig) and Close 1009; a larger one to be sent is refused
            /// where it becomes too large.
            max_stream_size(bytes: u64) -> u64 {
                wins: smallest,
                default: [none],
                zero: "u64::MAX is no limit",
                by: session,
                needs: [],
                also: [],
            }

            /// How long closing may take, from the first Close to the end of the connection.
            close_timeout(timeout: std::time::Duration) -> std::time::Duration {
                wins: strongest,
                default: [5 s],
                zero: "drop the session instead",
                by: session,
                needs: [],
                also: [raw],
            }

            /// How long opening may take: on a client from dialling to the verified answer, on a server from the
            /// accepted request to the open connection.
            handshake_timeout(timeout: std::time::Duration) -> std::time::Duration {
                wins: strongest,
                default: [10 s],
                zero: "Duration::MAX is none",
                by: opener,
                needs: [],
                also: [raw],
            }

            /// How many bytes of messages are read ahead while the application does not receive, or receives more
            /// slowly than they come in; beyond it the peer has to wait. A Ping behind them is answered within a second
            /// as long as the data before it fits; otherwise when the application has received enough. The memory held
            /// is at most four times the capacity, as for many small messages.
            incoming_capacity(bytes: usize) -> usize {
                wins: strongest,
                default: [256 KiB],
                zero: "one byte holds one message",
                by: session,
                needs: [],
                also: [],
            }

            /// How many bytes of messages are accepted while the peer does not take them; beyond it `send` waits. One
            /// message is always accepted. The memory held is at most four times the capacity, beside memory of the
            /// caller's that payloads are slices of.
            outgoing_capacity(bytes: usize) -> usize {
                wins: strongest,
                default: [256 KiB],
                zero: "one byte holds one message",
                by: session,
                needs: [],
                also: [],
            }
        }
    };
}

/// A default in the words of the documentation.
macro_rules! default_words {
    ($number:literal $unit:ident) => {
        concat!(stringify!($number), " ", stringify!($unit))
    };
    (twice the interval) => {
        "twice the interval"
    };
    ($word:ident) => {
        stringify!($word)
    };
}

/// A default as a value.
macro_rules! default_value {
    ($number:literal MiB) => {
        $number << 20
    };
    ($number:literal KiB) => {
        $number << 10
    };
    ($number:literal s) => {
        std::time::Duration::from_secs($number)
    };
    (none) => {
        u64::MAX
    };
    (off) => {
        None
    };
    (twice the interval) => {
        None
    };
}

pub(super) use {default_value, default_words};

/// What an option's documentation says where a narrower scope than the plugin sets it.
#[doc(hidden)]
#[macro_export]
macro_rules! override_words {
    ($name:ident strongest) => {
        concat!(
            "Overrides [`WebSockets::",
            stringify!($name),
            "`](drivetrain_session::WebSockets::",
            stringify!($name),
            ")."
        )
    };
    ($name:ident smallest) => {
        concat!(
            "Lowers [`WebSockets::",
            stringify!($name),
            "`](drivetrain_session::WebSockets::",
            stringify!($name),
            "): the smallest limit set anywhere wins."
        )
    };
}

/// Methods that set each option for one request or one route, whose options are `WebSockets` in a field of this name:
/// `session_options!(drivetrain_session::override_methods; options);` in an `impl` block.
#[doc(hidden)]
#[macro_export]
macro_rules! override_methods {
    ([$field:ident] $(
        $(#[doc = $doc:literal])+
        $name:ident($argument:ident: $argument_type:ty) -> $type:ty {
            wins: $wins:ident, $($column:tt)*
        }
    )+) => {
        $(
            #[doc = $crate::override_words!($name $wins)]
            pub fn $name(mut self, $argument: $argument_type) -> Self {
                self.$field = self.$field.$name($argument);
                self
            }
        )+

        /// Overrides [`WebSockets::converter`](drivetrain_session::WebSockets::converter).
        pub fn converter(mut self, converter: impl $crate::Converter) -> Self {
            self.$field = self.$field.converter(converter);
            self
        }

        /// Adds an extension, such as `PermessageDeflate`. Extensions that are set here replace those of
        /// [`WebSockets::extension`](drivetrain_session::WebSockets::extension). The extensions that were agreed on
        /// are [`Session::extensions`](drivetrain_session::Session::extensions).
        pub fn extension(mut self, extension: impl $crate::Extension) -> Self {
            self.$field = self.$field.extension(extension);
            self
        }

        /// Overrides [`WebSockets::extensions`](drivetrain_session::WebSockets::extensions); an empty list switches
        /// them off.
        pub fn extensions(
            mut self,
            extensions: impl IntoIterator<Item = std::sync::Arc<dyn $crate::Extension>>,
        ) -> Self {
            self.$field = self.$field.extensions(extensions);
            self
        }
    };
}

/// One row of the table, for the documentation and for tests.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct SessionOption {
    /// The method that sets it.
    pub name: &'static str,
    /// The type that the method takes.
    pub takes: &'static str,
    /// The default in the words of the documentation.
    pub default: &'static str,
    /// `strongest` or `smallest`.
    pub wins: &'static str,
    /// `session` or `opener`.
    pub by: &'static str,
    /// The capability that an engine has to offer for it.
    pub needs: Option<Capability>,
    /// Scopes beside the plugin, a request and a route.
    pub also: &'static [&'static str],
    /// The documentation of the plugin's method.
    pub doc: &'static str,
}

macro_rules! rows {
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
        /// Every row, in the order of the table.
        #[doc(hidden)]
        pub const OPTIONS: &[SessionOption] = &[$(SessionOption {
            name: stringify!($name),
            takes: stringify!($argument_type),
            default: default_words!($($default)+),
            wins: stringify!($wins),
            by: stringify!($by),
            needs: [$(Some(Capability::$need),)? None][0],
            also: &[$(stringify!($also)),*],
            doc: concat!($($doc),+),
        }),+];
    };
}

session_options!(rows);

impl SessionOption {
    /// Whether raw sessions apply it.
    pub(super) fn is_for_raw(&self) -> bool {
        self.also.contains(&"raw")
    }
}

/// A value of an option.
pub(super) trait Value: Copy {
    /// Whether it is zero, which no option can be.
    fn is_zero(self) -> bool;

    /// Whether it asks for something that an engine has to offer.
    fn is_on(self) -> bool {
        true
    }

    /// The value with its unit, for `settings()`.
    fn words(self) -> String;
}

impl Value for Duration {
    fn is_zero(self) -> bool {
        Duration::is_zero(&self)
    }

    fn words(self) -> String {
        format!("{self:?}")
    }
}

impl Value for Option<Duration> {
    fn is_zero(self) -> bool {
        self == Some(Duration::ZERO)
    }

    fn is_on(self) -> bool {
        self.is_some()
    }

    fn words(self) -> String {
        self.map_or("off".into(), Value::words)
    }
}

impl Value for usize {
    fn is_zero(self) -> bool {
        self == 0
    }

    fn words(self) -> String {
        format!("{self} bytes")
    }
}

impl Value for u64 {
    fn is_zero(self) -> bool {
        self == 0
    }

    fn words(self) -> String {
        match self {
            u64::MAX => "none".into(),
            bytes => format!("{bytes} bytes"),
        }
    }
}

/// The refusal of an option that is zero.
pub(super) fn refused_zero(name: &str, instead: &str) -> Error {
    let message = format!("a {name} of zero is not possible: {instead}");
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_with_its_unit_and_zero_is_none() {
        fn of(value: impl Value) -> (bool, bool, String) {
            (value.is_zero(), value.is_on(), value.words())
        }
        let second = Duration::from_secs(1);
        for (value, expected) in [
            (of(second), (false, true, "1s")),
            (of(Duration::ZERO), (true, true, "0ns")),
            (of(Some(second)), (false, true, "1s")),
            (of(Some(Duration::ZERO)), (true, true, "0ns")),
            (of(None::<Duration>), (false, false, "off")),
            (of(7_usize), (false, true, "7 bytes")),
            (of(0_usize), (true, true, "0 bytes")),
            (of(usize::MAX), (false, true, &*format!("{} bytes", usize::MAX))),
            (of(7_u64), (false, true, "7 bytes")),
            (of(0_u64), (true, true, "0 bytes")),
            (of(u64::MAX), (false, true, "none")),
        ] {
            let (is_zero, is_on, words) = value;
            assert_eq!((is_zero, is_on, &*words), expected);
        }
    }

    #[test]
    fn raw_sessions_apply_what_the_table_says() {
        let raw: Vec<_> = OPTIONS.iter().filter(|it| it.is_for_raw()).map(|it| it.name).collect();
        assert_eq!(raw, ["max_frame_size", "close_timeout", "handshake_timeout"]);
    }
}
