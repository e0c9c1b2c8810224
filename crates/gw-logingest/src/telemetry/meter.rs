//! Counters, gauges and histograms that are registered at their first use, or nothing without the feature `metrics`.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are registered; their names are constants of the modules beside it"
)]

use std::sync::Arc;

/// The queue that something is measured of, where it has a name: a label then tells it from others.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueLabel(Option<Arc<str>>);

impl QueueLabel {
    pub(crate) fn named(name: Option<&str>) -> Self {
        Self(name.map(Arc::from))
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

#[cfg(feature = "metrics")]
mod registered {
    use std::fmt;
    use std::sync::{Arc, OnceLock};

    use metrics::{Counter, Gauge, Histogram, Label};

    use super::QueueLabel;

    macro_rules! meter {
        ($(#[$doc:meta])* $name:ident $kind:ident $register:ident) => {
            $(#[$doc])*
            pub(crate) struct $name {
                name: &'static str,
                labels: Vec<(&'static str, &'static str)>,
                queue: QueueLabel,
                handle: OnceLock<$kind>,
            }

            impl $name {
                pub(crate) fn new(
                    name: &'static str,
                    labels: &[(&'static str, &'static str)],
                    queue: &QueueLabel,
                ) -> Self {
                    Self {
                        name,
                        labels: labels.to_vec(),
                        queue: queue.clone(),
                        handle: OnceLock::new(),
                    }
                }

                fn handle(&self) -> &$kind {
                    self.handle.get_or_init(|| {
                        let label = |&(name, value): &(&'static str, &'static str)| {
                            Label::from_static_parts(name, value)
                        };
                        let queue = self.queue.0.as_ref().map(|name| Label::new("queue", Arc::clone(name)));
                        let labels: Vec<Label> = self.labels.iter().map(label).chain(queue).collect();
                        metrics::$register!(self.name, labels)
                    })
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(self.name)
                }
            }
        };
    }

    meter! {
        /// A counter.
        Count Counter counter
    }

    meter! {
        /// A gauge.
        Level Gauge gauge
    }

    meter! {
        /// A histogram.
        Spread Histogram histogram
    }

    impl Count {
        /// Adds; zero does not register the counter.
        pub(crate) fn add(&self, count: u64) {
            if count > 0 {
                self.handle().increment(count);
            }
        }
    }

    impl Level {
        pub(crate) fn set(&self, value: f64) {
            self.handle().set(value);
        }
    }

    impl Spread {
        pub(crate) fn record(&self, value: f64) {
            self.handle().record(value);
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod registered {
    use super::QueueLabel;

    /// Measures nothing.
    #[derive(Debug)]
    pub(crate) struct Silent;

    pub(crate) type Count = Silent;
    pub(crate) type Level = Silent;
    pub(crate) type Spread = Silent;

    impl Silent {
        pub(crate) fn new(
            _: &'static str,
            _: &[(&'static str, &'static str)],
            _: &QueueLabel,
        ) -> Self {
            Self
        }

        pub(crate) fn add(&self, _: u64) {}

        pub(crate) fn set(&self, _: f64) {}

        pub(crate) fn record(&self, _: f64) {}
    }
}

pub(crate) use self::registered::{Count, Level, Spread};
