//! The options of a session, from the table in `drivetrain-session`: a new option has its cases by being a row of it.

use std::time::Duration;

use drivetrain::{WebSocketRequest, WebSockets};
use drivetrain_engine::Capability;
use drivetrain_session::session_options;

/// An option as the suite sets it: to a number of its unit.
pub(super) struct OptionRow {
    pub(super) name: &'static str,
    pub(super) needs: Option<Capability>,
    pub(super) on_plugin: fn(WebSockets, u8) -> WebSockets,
    pub(super) on_request: fn(WebSocketRequest, u8) -> WebSocketRequest,
    /// The number as `settings()` has it.
    pub(super) words: fn(u8) -> String,
}

/// A value of an option from a number.
trait Sample {
    /// What the method takes.
    type Argument;

    fn sample(number: u8) -> Self::Argument;

    fn words(number: u8) -> String {
        format!("{number} bytes")
    }
}

impl Sample for Option<Duration> {
    type Argument = Duration;

    fn sample(number: u8) -> Duration {
        Duration::from_secs(number.into())
    }

    fn words(number: u8) -> String {
        format!("{number}s")
    }
}

impl Sample for Duration {
    type Argument = Self;

    fn sample(number: u8) -> Self {
        Self::from_secs(number.into())
    }

    fn words(number: u8) -> String {
        format!("{number}s")
    }
}

impl Sample for usize {
    type Argument = Self;

    fn sample(number: u8) -> Self {
        number.into()
    }
}

impl Sample for u64 {
    type Argument = Self;

    fn sample(number: u8) -> Self {
        number.into()
    }
}

macro_rules! rows {
    ([] $(
        $(#[doc = $doc:literal])+
        $name:ident($argument:ident: $argument_type:ty) -> $type:ty {
            wins: $wins:ident,
            default: $default:tt,
            zero: $zero:literal,
            by: $by:ident,
            needs: [$($need:ident $($lacking:tt)*)?],
            also: $also:tt,
        }
    )+) => {
        /// Every option of the table.
        pub(super) const OPTIONS: &[OptionRow] = &[$(OptionRow {
            name: stringify!($name),
            needs: [$(Some(Capability::$need),)? None][0],
            on_plugin: |plugin, number| plugin.$name(<$type as Sample>::sample(number)),
            on_request: |request, number| request.$name(<$type as Sample>::sample(number)),
            words: <$type as Sample>::words,
        },)+];
    };
}

session_options!(rows);
