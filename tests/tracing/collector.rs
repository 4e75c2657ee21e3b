//! A subscriber that keeps everything drivetrain tells it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use tracing::{
    Event, Id, Level, Metadata, Span, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};

pub(crate) type Fields = BTreeMap<&'static str, String>;

/// A span as it is now.
#[derive(Clone, Debug)]
pub(crate) struct SeenSpan {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    pub(crate) parent: Option<u64>,
    pub(crate) follows: Vec<u64>,
    pub(crate) fields: Fields,
    pub(crate) entered: u64,
    handles: u64,
}

impl SeenSpan {
    pub(crate) fn is_closed(&self) -> bool {
        self.handles == 0
    }
}

/// An event, with the span that it is in.
#[derive(Clone, Debug)]
pub(crate) struct SeenEvent {
    pub(crate) level: Level,
    pub(crate) span: Option<u64>,
    pub(crate) fields: Fields,
}

impl SeenEvent {
    pub(crate) fn message(&self) -> &str {
        self.fields.get("message").map_or("", String::as_str)
    }
}

/// All that was told, by all tests of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) spans: Vec<SeenSpan>,
    pub(crate) events: Vec<SeenEvent>,
}

impl Seen {
    /// The spans of this name below another.
    pub(crate) fn spans_in(&self, parent: &Span, name: &str) -> Vec<SeenSpan> {
        let parent = parent.id().map(|id| id.into_u64());
        let wanted = |span: &&SeenSpan| span.name == name && span.parent == parent;
        self.spans.iter().filter(wanted).cloned().collect()
    }

    /// The events in a span.
    pub(crate) fn events_in(&self, span: u64) -> Vec<SeenEvent> {
        self.events.iter().filter(|event| event.span == Some(span)).cloned().collect()
    }
}

/// What was told so far.
pub(crate) fn seen() -> Seen {
    collector().lock().clone()
}

/// Collects from now on, in the whole process: the session tasks of some engines run on threads of their own.
pub(crate) fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        tracing::subscriber::set_global_default(collector()).expect("there is no other");
    });
}

#[derive(Default)]
struct Collector(Mutex<Seen>);

fn collector() -> &'static Collector {
    static COLLECTOR: OnceLock<Collector> = OnceLock::new();
    COLLECTOR.get_or_init(Collector::default)
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Collector {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut SeenSpan)) {
        let id = id.into_u64();
        if let Some(span) = self.lock().spans.iter_mut().find(|span| span.id == id) {
            change(span);
        }
    }
}

fn contextual() -> Option<u64> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

impl Subscriber for &'static Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("drivetrain") || metadata.target() == "test"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::new();
        attributes.record(&mut Keep(&mut fields));
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if attributes.is_contextual() => contextual(),
            None => None,
        };
        let mut seen = self.lock();
        let id = seen.spans.len() as u64 + 1;
        let (name, level) = (attributes.metadata().name(), *attributes.metadata().level());
        seen.spans.push(SeenSpan {
            id,
            name,
            level,
            parent,
            follows: Vec::new(),
            fields,
            entered: 0,
            handles: 1,
        });
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        self.change(id, |span| values.record(&mut Keep(&mut span.fields)));
    }

    fn record_follows_from(&self, id: &Id, follows: &Id) {
        self.change(id, |span| span.follows.push(follows.into_u64()));
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Keep(&mut fields));
        let span = match event.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if event.is_contextual() => contextual(),
            None => None,
        };
        self.lock().events.push(SeenEvent { level: *event.metadata().level(), span, fields });
    }

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
        self.change(id, |span| span.entered += 1);
    }

    fn exit(&self, id: &Id) {
        let id = id.into_u64();
        ENTERED.with_borrow_mut(|entered| {
            if let Some(at) = entered.iter().rposition(|&entered| entered == id) {
                entered.remove(at);
            }
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.change(id, |span| span.handles += 1);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut closed = false;
        self.change(&id, |span| {
            span.handles -= 1;
            closed = span.is_closed();
        });
        closed
    }
}

struct Keep<'a>(&'a mut Fields);

impl Visit for Keep<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
