//! The plugin that gives a client WebSockets.

use std::{fmt, sync::Arc, time::Duration};

use drivetrain_engine::Extension;

use crate::{Converter, extensions::Extensions, options::SessionOptions};

/// WebSockets for a client, with the options that its sessions begin with.
///
/// [`HttpClient::new`](crate::HttpClient::new) installs it with its defaults. Who wins if an option is
/// set in several places: the request, then the engine value, then this plugin, then the default; of
/// limits the smallest.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use drivetrain::WebSockets;
///
/// let plugin = WebSockets::new()
///     .ping_interval(Duration::from_secs(20))
///     .max_message_size(1 << 20);
/// ```
#[derive(Clone, Default)]
pub struct WebSockets {
    pub(crate) options: SessionOptions,
    pub(crate) converter: Option<Arc<dyn Converter>>,
    pub(crate) extensions: Option<Extensions>,
}

impl WebSockets {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often to ping the peer, from opening on. The first ping comes up to seven eighths of the interval early,
    /// by chance, so that sessions which were opened together do not ping in step. A peer that gives no sign of
    /// life within the interval and the [`ping_timeout`](Self::ping_timeout) is dead: the session ends with
    /// [`Timeout`](crate::ErrorKind::Timeout), whatever the application does meanwhile. If this process stood
    /// still when that is found, what came in meanwhile has up to a second to be read first. `None` switches pings
    /// off. Default: off.
    #[must_use]
    pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.options.ping_interval = Some(interval.into());
        self
    }

    /// [`ping_interval`](Self::ping_interval) in milliseconds, as Ktor has it.
    #[must_use]
    pub fn ping_interval_millis(self, interval: u64) -> Self {
        self.ping_interval(Duration::from_millis(interval))
    }

    /// How long after a ping a sign of life may take; any frame is one. Default: twice the interval.
    #[must_use]
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.options.ping_timeout = Some(timeout);
        self
    }

    /// The largest frame to accept, in bytes of payload; messages go out in frames of at most this, too.
    /// A larger one ends the session with [`TooBig`](crate::ErrorKind::TooBig) and Close 1009. Default:
    /// 16 MiB.
    #[must_use]
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.options.max_frame_size = Some(bytes);
        self
    }

    /// The largest message to accept or to send as a whole, in bytes. A larger one that comes ends the session
    /// with [`TooBig`](crate::ErrorKind::TooBig) and Close 1009; one to be sent is refused. A message that
    /// is streamed may be larger, but none of its frames. With extensions it is what a message comes to; on the wire
    /// a frame may be twice as large and 64 KiB, up to [`max_frame_size`](Self::max_frame_size). Default: 64 MiB.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.options.max_message_size = Some(bytes);
        self
    }

    /// The largest message to accept or to send as a stream
    /// ([`receive_stream`](crate::Session::receive_stream), [`send_stream`](crate::Session::send_stream)), in
    /// bytes. A larger one that comes ends the session with [`TooBig`](crate::ErrorKind::TooBig) and Close
    /// 1009; one to be sent is refused where it becomes too large. Default: none, as it is never held.
    #[must_use]
    pub fn max_stream_size(mut self, bytes: u64) -> Self {
        self.options.max_stream_size = Some(bytes);
        self
    }

    /// How long closing may take, from the first Close to the end of the connection. Default: 5 s.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.options.close_timeout = Some(timeout);
        self
    }

    /// How long opening may take, from dialling to the verified answer. Default: 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.options.handshake_timeout = Some(timeout);
        self
    }

    /// How many bytes of messages are read ahead while the application does not receive, or receives more
    /// slowly than they come; beyond it the peer has to wait. A Ping that comes behind them is answered within a
    /// second as long as what is before it fits; beyond that, when the application has taken enough.
    /// Default: 256 KiB.
    #[must_use]
    pub fn incoming_capacity(mut self, bytes: usize) -> Self {
        self.options.incoming_capacity = Some(bytes);
        self
    }

    /// How many bytes of messages are accepted while the peer does not take them; beyond it `send` waits.
    /// One message is always accepted. Default: 256 KiB.
    #[must_use]
    pub fn outgoing_capacity(mut self, bytes: usize) -> Self {
        self.options.outgoing_capacity = Some(bytes);
        self
    }

    /// What `send_serialized` and `receive_deserialized` use, such as `Json`. Default: none.
    #[must_use]
    pub fn converter(mut self, converter: impl Converter) -> Self {
        self.converter = Some(Arc::new(converter));
        self
    }

    /// Adds an extension to offer, such as
    /// [`PermessageDeflate`](crate::extension::PermessageDeflate). Installing the plugin again with extensions, or
    /// setting any on a request, replaces them all. Raw sessions offer none of these. Needs the engine's capability
    /// [`Extensions`](crate::Capability::Extensions). Default: none.
    #[must_use]
    pub fn extension(mut self, extension: impl Extension) -> Self {
        self.extensions.get_or_insert_default().push(extension);
        self
    }

    /// Sets the extensions to offer, in place of those set before.
    #[must_use]
    pub fn extensions(mut self, extensions: impl IntoIterator<Item = Arc<dyn Extension>>) -> Self {
        self.extensions = Some(extensions.into_iter().collect());
        self
    }

    pub(crate) fn overridden_by(self, later: Self) -> Self {
        Self {
            options: self.options.overridden_by(later.options),
            converter: later.converter.or(self.converter),
            extensions: later.extensions.or(self.extensions),
        }
    }
}

impl fmt::Debug for WebSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSockets")
            .field("options", &self.options)
            .field("converter", &self.converter)
            .field("extensions", &self.extensions)
            .finish()
    }
}
