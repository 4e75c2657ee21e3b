//! An engine from a connector and a framing.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Request, Response};

use crate::{
    body::Body,
    capability::{Capability, Support},
    connection::{Connection, Role},
    connector::{Connector, UpgradeResult},
    engine::{Answer, Engine},
    error::{Error, ErrorKind, Result},
    framing::{Framing, IntoFraming},
    handshake::Handshake,
    runtime::Runtime,
    settings::EngineSettings,
};

/// An engine from a [`Connector`] and a [`Framing`].
#[derive(Clone)]
pub struct Combined<C, F> {
    name: &'static str,
    connector: C,
    framing: F,
    ping_interval: Option<Duration>,
}

impl<C: Connector, F: Framing> Combined<C, F> {
    /// An engine with this name, as errors, tests and tables show it: lower case, such as `tungstenite`.
    pub fn new(name: &'static str, connector: C, framing: F) -> Self {
        Self { name, connector, framing, ping_interval: None }
    }

    /// Sets the engine-level ping interval, which wins over that of the `WebSockets` plugin; the session sends the
    /// pings. Default: not set. Zero is refused when the client is built.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = Some(interval);
        self
    }

    /// Replaces the connector.
    #[must_use]
    pub fn map_connector(mut self, with: impl FnOnce(C) -> C) -> Self {
        self.connector = with(self.connector);
        self
    }

    /// Replaces the framing.
    #[must_use]
    pub fn map_framing(mut self, with: impl FnOnce(F) -> F) -> Self {
        self.framing = with(self.framing);
        self
    }

    /// The engine of this name that dials as this one does, with another framing. The ping interval is kept.
    pub fn with_framing<G: Framing>(self, name: &'static str, framing: G) -> Combined<C, G> {
        let Self { connector, ping_interval, .. } = self;
        Combined { name, connector, framing, ping_interval }
    }

    /// The connector.
    pub fn connector(&self) -> &C {
        &self.connector
    }

    /// The framing.
    pub fn framing(&self) -> &F {
        &self.framing
    }

    /// Writes the options as the fields of a type of this name, for [`combination!`](crate::combination).
    #[doc(hidden)]
    pub fn debug(&self, type_name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EngineSettings { ping_interval, max_frame_size, max_message_size, native } =
            self.settings();
        let mut debug = f.debug_struct(type_name);
        if let Some(interval) = ping_interval {
            debug.field("ping_interval", &interval);
        }
        for (limit, value) in
            [("max_frame_size", max_frame_size), ("max_message_size", max_message_size)]
        {
            if let Some(value) = value {
                debug.field(limit, &value);
            }
        }
        for setting in native {
            debug.field(&setting.name, &format_args!("{}", setting.value));
        }
        debug.finish()
    }

    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_engine(self.name))
    }
}

/// Prints the options, as [`settings`](Engine::settings) lists them; never certificates or keys.
impl<C: Connector, F: Framing> fmt::Debug for Combined<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug("Combined", f)
    }
}

impl<C: Connector, F: Framing> IntoFraming for Combined<C, F> {
    type Framing = F;

    fn into_framing(self) -> F {
        self.framing
    }
}

#[async_trait]
impl<C: Connector, F: Framing> Engine for Combined<C, F> {
    fn name(&self) -> &str {
        self.name
    }

    fn support(&self, capability: Capability) -> Support {
        match capability.is_of_connectors() {
            true => self.connector.support(capability),
            false => self.framing.support(capability),
        }
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = self.framing.settings();
        settings.ping_interval = self.ping_interval;
        settings.native.extend(self.connector.settings());
        settings
    }

    fn check(&self) -> Result<()> {
        if self.ping_interval == Some(Duration::ZERO) {
            let message = "a ping_interval of zero is not possible: leave it out for no pings";
            return self.named(Err(Error::new(ErrorKind::InvalidInput, message)));
        }
        self.named(self.framing.check().and_then(|()| self.connector.check()))
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        self.named(self.connector.runtime())
    }

    async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        self.named(self.connector.execute(request).await)
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        match self.named(self.connector.upgrade(&handshake).await)? {
            UpgradeResult::Refused(response) => Ok(Answer::Refused(response)),
            UpgradeResult::Upgraded { stream, read_ahead, protocol, response, accepted } => {
                let transport = self.framing.transport(stream, read_ahead, Role::Client, &accepted);
                Ok(Answer::Open(
                    Connection::boxed(self.named(transport)?)
                        .with_protocol(protocol)
                        .with_subprotocol(accepted.subprotocol)
                        .with_extensions(accepted.extensions)
                        .with_response(response)
                        .with_duties(self.framing.duties()),
                ))
            }
        }
    }
}

/// Declares an engine as a type of its own: a newtype over [`Combined`] with the [`Engine`] and [`IntoFraming`] impls,
/// `Clone`, `Debug` and `ping_interval`. For the crate of a connector, which adds constructors and its own options, and
/// for an engine that is the only one of its connector.
///
/// The type gets three private functions for further options: `of`, which makes the engine of a connector,
/// `map_connector` and `map_framing`.
///
/// ```
/// # use drivetrain_engine::*;
/// # use std::sync::Arc;
/// # #[derive(Clone, Debug, Default)] pub struct Dial;
/// # #[derive(Clone, Debug, Default)] pub struct Frames;
/// # impl Frames { fn read_buffer_size(self, _: usize) -> Self { self } }
/// # impl Connector for Dial {
/// #     fn support(&self, _: Capability) -> Support { Support::Offered }
/// #     fn settings(&self) -> Vec<NativeSetting> { Vec::new() }
/// #     fn check(&self) -> Result<()> { Ok(()) }
/// #     fn runtime(&self) -> Result<Arc<dyn Runtime>> { unimplemented!() }
/// #     async fn execute(&self, _: http::Request<Body>) -> Result<http::Response<Body>> { unimplemented!() }
/// #     async fn upgrade(&self, _: &Handshake) -> Result<UpgradeResult> { unimplemented!() }
/// # }
/// # impl Framing for Frames {
/// #     fn transport(&self, _: BoxStream, _: Bytes, _: Role, _: &Accepted) -> Result<Box<dyn Transport>> {
/// #         unimplemented!()
/// #     }
/// # }
/// drivetrain_engine::combination! {
///     /// Dials with `Dial`, frames with `Frames`.
///     pub struct Mine(Dial, Frames) = "mine";
/// }
///
/// impl Mine {
///     pub fn new() -> Self {
///         Self::of(Dial)
///     }
///
///     pub fn read_buffer_size(self, bytes: usize) -> Self {
///         self.map_framing(|frames| frames.read_buffer_size(bytes))
///     }
/// }
///
/// assert_eq!(Mine::new().read_buffer_size(1 << 10).name(), "mine");
/// ```
#[macro_export]
macro_rules! combination {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Engine:ident($Connector:ty, $Framing:ty) = $name:literal;
    ) => {
        $(#[$attribute])*
        #[derive(Clone)]
        $visibility struct $Engine($crate::Combined<$Connector, $Framing>);

        #[allow(dead_code, reason = "an engine without options of a half needs no way to it")]
        impl $Engine {
            const NAME: &'static str = $name;

            fn of(connector: $Connector) -> Self {
                let framing = <$Framing as ::core::default::Default>::default();
                Self($crate::Combined::new(Self::NAME, connector, framing))
            }

            fn map_connector(self, with: impl FnOnce($Connector) -> $Connector) -> Self {
                Self(self.0.map_connector(with))
            }

            fn map_framing(self, with: impl FnOnce($Framing) -> $Framing) -> Self {
                Self(self.0.map_framing(with))
            }

            /// Sets the engine-level ping interval, which wins over that of the `WebSockets` plugin; the session
            /// sends the pings. Default: not set. Zero is refused when the client is built.
            #[must_use]
            pub fn ping_interval(self, interval: ::core::time::Duration) -> Self {
                Self(self.0.ping_interval(interval))
            }

            /// The engine of this name that dials and speaks HTTP as this one does, with another framing. The options
            /// of this engine's framing are dropped.
            pub fn with_framing<F: $crate::Framing>(
                self,
                name: &'static str,
                framing: F,
            ) -> $crate::Combined<$Connector, F> {
                self.0.with_framing(name, framing)
            }
        }

        /// Prints the options, never certificates or keys.
        impl ::core::fmt::Debug for $Engine {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                self.0.debug(stringify!($Engine), f)
            }
        }

        impl $crate::IntoFraming for $Engine {
            type Framing = $Framing;

            fn into_framing(self) -> $Framing {
                $crate::IntoFraming::into_framing(self.0)
            }
        }

        // Written without `async_trait`, which would box each future once more.
        impl $crate::Engine for $Engine {
            fn name(&self) -> &str {
                self.0.name()
            }

            fn support(&self, capability: $crate::Capability) -> $crate::Support {
                self.0.support(capability)
            }

            fn settings(&self) -> $crate::EngineSettings {
                self.0.settings()
            }

            fn check(&self) -> $crate::Result<()> {
                self.0.check()
            }

            fn runtime(&self) -> $crate::Result<::std::sync::Arc<dyn $crate::Runtime>> {
                self.0.runtime()
            }

            fn execute<'a, 'b>(
                &'a self,
                request: $crate::http::Request<$crate::Body>,
            ) -> ::core::pin::Pin<
                ::std::boxed::Box<
                    dyn ::core::future::Future<
                            Output = $crate::Result<$crate::http::Response<$crate::Body>>,
                        > + ::core::marker::Send
                        + 'b,
                >,
            >
            where
                'a: 'b,
                Self: 'b,
            {
                self.0.execute(request)
            }

            fn connect<'a, 'b>(
                &'a self,
                handshake: $crate::Handshake,
            ) -> ::core::pin::Pin<
                ::std::boxed::Box<
                    dyn ::core::future::Future<Output = $crate::Result<$crate::Answer>>
                        + ::core::marker::Send
                        + 'b,
                >,
            >
            where
                'a: 'b,
                Self: 'b,
            {
                self.0.connect(handshake)
            }
        }
    };
}
