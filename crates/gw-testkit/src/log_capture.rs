//! The `tracing` events that code under test has emitted, with their fields as values.
//!
//! A [`LogCapture`] listens in one scope, a closure or a future, so tests may run side by side. A span is seen
//! only if it was made inside the scope. Tasks and threads started there are outside of it: wrap them as well.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Captures log events of all levels. Clones are the same capture.
#[derive(Clone, Debug)]
pub struct LogCapture {
    events: Arc<Mutex<Vec<LogEvent>>>,
    dispatch: Dispatch,
}

/// A subscriber that is always there beside the captures.
///
/// While there is but one, tracing asks the thread that comes first to a place in the code whether anybody wants its
/// events, and keeps the answer: a test without a capture would silence that place for the test beside it.
static BYSTANDER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Registry::default()));

/// One event.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogEvent {
    /// The level.
    pub level: Level,
    /// The target, usually the module path.
    pub target: String,
    /// The field `message`, or nothing.
    pub message: String,
    /// All other fields.
    pub fields: Fields,
    /// The spans around it, the outermost first.
    pub spans: Vec<LogSpan>,
}

/// A span around an event.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogSpan {
    /// The name.
    pub name: &'static str,
    /// The fields, those recorded later included, as they were when the event came.
    pub fields: Fields,
}

/// Fields by name.
pub type Fields = BTreeMap<&'static str, LogValue>;

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LogValue {
    /// A string.
    Str(String),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A floating-point number.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// Anything given by `?`, `%` or as an error, as text.
    Formatted(String),
}

/// The layer behind a capture.
struct CaptureLayer {
    events: Arc<Mutex<Vec<LogEvent>>>,
}

/// Collects fields.
#[derive(Debug, Default)]
struct Collected(Fields);

impl LogCapture {
    /// An empty capture.
    pub fn new() -> Self {
        LazyLock::force(&BYSTANDER);
        let events = Arc::default();
        let layer = CaptureLayer {
            events: Arc::clone(&events),
        };
        Self {
            events,
            dispatch: Dispatch::new(Registry::default().with(layer)),
        }
    }

    /// Runs `scope` with this capture as the subscriber of the thread.
    pub fn run<T>(&self, scope: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, scope)
    }

    /// Runs a future with this capture as the subscriber, on whichever thread it is polled.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.with_subscriber(self.dispatch.clone())
    }

    /// All events so far, in order.
    pub fn events(&self) -> Vec<LogEvent> {
        lock(&self.events).clone()
    }

    /// The events whose target is this crate or module, or inside of it.
    pub fn events_from(&self, target: &str) -> Vec<LogEvent> {
        let inside = |event: &LogEvent| {
            let rest = event.target.strip_prefix(target);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        self.events().into_iter().filter(inside).collect()
    }

    /// The only event with this message.
    ///
    /// # Panics
    ///
    /// If there is none or more than one; the message lists all events.
    #[track_caller]
    pub fn only(&self, message: &str) -> LogEvent {
        let mut found = self.events();
        found.retain(|event| event.message == message);
        assert!(
            found.len() == 1,
            "{} events say {message:?}; all events: {:#?}",
            found.len(),
            self.events()
        );
        found.swap_remove(0)
    }

    /// Asserts that there is no event of this level or a graver one.
    #[track_caller]
    pub fn assert_silent(&self, level: Level) {
        // In tracing's order the graver level is the lesser one.
        let loud = self.events().into_iter().find(|event| event.level <= level);
        assert!(loud.is_none(), "an event where none is expected: {loud:#?}");
    }

    /// Asserts that this text, a secret say, is in no message and no field of an event or its spans.
    #[track_caller]
    pub fn assert_never_says(&self, text: &str) {
        let leak = self.events().into_iter().find(|event| event.says(text));
        assert!(leak.is_none(), "an event says {text:?}: {leak:#?}");
    }
}

impl Default for LogCapture {
    fn default() -> Self {
        Self::new()
    }
}

impl LogEvent {
    /// The value of a field of the event, or else of the innermost span that has it, as text.
    pub fn field(&self, name: &str) -> Option<String> {
        let in_spans = || {
            self.spans
                .iter()
                .rev()
                .find_map(|span| span.fields.get(name))
        };
        self.fields
            .get(name)
            .or_else(in_spans)
            .map(LogValue::to_string)
    }

    fn says(&self, text: &str) -> bool {
        let spans = self.spans.iter().flat_map(|span| span.fields.values());
        let mut values = self.fields.values().chain(spans);
        self.message.contains(text) || values.any(|value| value.to_string().contains(text))
    }
}

impl fmt::Display for LogValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) | Self::Formatted(text) => f.write_str(text),
            Self::I64(number) => number.fmt(f),
            Self::U64(number) => number.fmt(f),
            Self::F64(number) => number.fmt(f),
            Self::Bool(truth) => truth.fmt(f),
        }
    }
}

impl<S> Layer<S> for CaptureLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut collected = Collected::default();
        attributes.record(&mut collected);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(collected);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(collected) = span.extensions_mut().get_mut::<Collected>()
        {
            values.record(collected);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut collected = Collected::default();
        event.record(&mut collected);
        let message = collected.0.remove("message");
        let scope = context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root());
        let spans = scope.map(|span| LogSpan {
            name: span.name(),
            fields: span
                .extensions()
                .get::<Collected>()
                .map(|c| c.0.clone())
                .unwrap_or_default(),
        });
        let event = LogEvent {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: message
                .map(|message| message.to_string())
                .unwrap_or_default(),
            fields: collected.0,
            spans: spans.collect(),
        };
        lock(&self.events).push(event);
    }
}

impl Collected {
    fn insert(&mut self, field: &Field, value: LogValue) {
        self.0.insert(field.name(), value);
    }
}

impl Visit for Collected {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, LogValue::Str(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, LogValue::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, LogValue::U64(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, LogValue::F64(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, LogValue::Bool(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.insert(field, LogValue::Formatted(value.to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, LogValue::Formatted(format!("{value:?}")));
    }
}

fn lock(events: &Mutex<Vec<LogEvent>>) -> std::sync::MutexGuard<'_, Vec<LogEvent>> {
    events
        .lock()
        .expect("no code panics while it holds the events")
}
