use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gw_core::context::{TraceContext, UpstreamName};
use gw_core::mode::SharedMode;
use gw_core::stage::{FactSet, Stage};
use gw_core::{ConfigError, Mode};
use http::{Extensions, HeaderName};
use tokio::time::Instant;
use tower_layer::Layer;

use super::gate::{HedgeGate, Quiet};
use super::handle::HedgeHandle;
use super::service::Hedge;
use crate::RetryLayer;
use crate::backoff::nanos;
use crate::budget::{Budget, Deposit, Income, RatioBudget, Taken, Ticket};
use crate::context::CopyExtensions;
use crate::latency::Latency;
use crate::ratio::Ratio;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::telemetry::{BudgetMetrics, Hedged};

/// Applies a [`Hedge`]. All services made by it and its clones share latencies, cap and mode: make one for each route or
/// upstream whose requests take alike.
///
/// A second copy is sent with the default of the request's body, which `hyper::body::Incoming` does not have: over plain hyper,
/// map the request's body with [`gw_core::Body::new`] before. Around axum's routes it needs
/// [`copy_extensions`](HedgeBuilder::copy_extensions): what axum's extractors read is not copied otherwise.
#[derive(Debug, Clone)]
pub struct HedgeLayer {
    shared: Arc<Shared>,
}

/// Builds a [`HedgeLayer`].
#[must_use = "a builder does nothing until it is built"]
pub struct HedgeBuilder {
    upstream: UpstreamName,
    percentile: f64,
    max_extra_load: f64,
    min_samples: u32,
    min_delay: Duration,
    budget: Option<Budget>,
    fills_budget: bool,
    gate: Option<Arc<dyn HedgeGate>>,
    attempt_field: HeaderName,
    copy: Option<CopyExtensions>,
    mode: Mode,
}

/// What all services of a layer share.
pub(super) struct Shared {
    pub(super) latency: Latency,
    pub(super) extra: RatioBudget,
    pub(super) quiet: Quiet,
    pub(super) metrics: BudgetMetrics,
    min_delay: AtomicU64,
    pub(super) attempt_field: HeaderName,
    pub(super) copy: Option<CopyExtensions>,
    pub(super) mode: SharedMode,
    budget: Option<Budget>,
    fills_budget: AtomicBool,
    gate: Option<Arc<dyn HedgeGate>>,
}

impl HedgeLayer {
    /// For the upstream of this name, which is a label of metrics: it must come from configuration.
    pub fn builder(upstream: impl Into<Arc<str>>) -> HedgeBuilder {
        HedgeBuilder {
            upstream: UpstreamName::new(upstream),
            percentile: 0.99,
            max_extra_load: 0.01,
            min_samples: 100,
            min_delay: Duration::from_millis(1),
            budget: None,
            fills_budget: false,
            gate: None,
            attempt_field: RetryLayer::ATTEMPT,
            copy: None,
            mode: Mode::default(),
        }
    }

    /// What an operator may read and change while requests run.
    pub fn handle(&self) -> HedgeHandle {
        HedgeHandle::new(Arc::clone(&self.shared))
    }
}

impl HedgeBuilder {
    /// A request is hedged once it takes longer than this part of them: 0.99 unless set, 0.5 to 0.9999.
    pub const fn percentile(mut self, percentile: f64) -> Self {
        self.percentile = percentile;
        self
    }

    /// Hedges are at most this part of the requests of the last ten seconds: 0.01 unless set, up to 1.
    pub const fn max_extra_load(mut self, ratio: f64) -> Self {
        self.max_extra_load = ratio;
        self
    }

    /// Nothing is hedged before so many answers have told how long they take: 100 unless set. What is known halves every 22
    /// seconds, so a layer with few requests never hedges.
    /// How long they took is worked out once a second, so that hedges begin up to a second after the last of them.
    pub const fn min_samples(mut self, samples: u32) -> Self {
        self.min_samples = samples;
        self
    }

    /// Nothing is hedged earlier than this: 1 ms unless set.
    pub const fn min_delay(mut self, delay: Duration) -> Self {
        self.min_delay = delay;
        self
    }

    /// Takes each hedge out of this budget as well: that of the retry layer further out, which fills it with the requests that
    /// it may send again. See [`fills_budget`](Self::fills_budget) for those that it does not.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Counts the requests of this layer in the budget: where no retry layer further out does, because there is none or it
    /// sends these requests once. No unless set, and only with a [`budget`](Self::budget).
    pub const fn fills_budget(mut self, fills: bool) -> Self {
        self.fills_budget = fills;
        self
    }

    /// Asks before a hedge is sent.
    pub fn gate(mut self, gate: impl HedgeGate + 'static) -> Self {
        self.gate = Some(Arc::new(gate));
        self
    }

    /// The field that tells an upstream that it sees a second copy, in place of [`RetryLayer::ATTEMPT`]. What comes in with it
    /// at 2 or more is a retry already, and is not hedged.
    pub fn attempt_field(mut self, name: HeaderName) -> Self {
        self.attempt_field = name;
        self
    }

    /// Copies more of a request's extensions to its second copy, as
    /// [`RetryBuilder::copy_extensions`](crate::RetryBuilder::copy_extensions) does, and for the same reasons: around axum's routes
    /// it is `|from, to| *to = from.clone()`.
    pub fn copy_extensions<F>(mut self, copy: F) -> Self
    where
        F: Fn(&Extensions, &mut Extensions) + Send + Sync + 'static,
    {
        self.copy = Some(Arc::new(copy));
        self
    }

    /// What the layer does at first. In shadow mode its cap is charged as if second copies had been sent, and the budget is not: other
    /// layers share it.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// If a part is out of its range, or there is no budget to be filled.
    pub fn build(self) -> Result<HedgeLayer, ConfigError> {
        let percentile = percentile(self.percentile)?;
        let extra = extra_load(self.max_extra_load)?;
        let fills_budget = fills(self.fills_budget, self.budget.as_ref())?;
        let shared = Shared {
            latency: Latency::new(percentile, self.min_samples.into()),
            extra: RatioBudget::new(extra, RatioBudget::TTL, 0)?,
            quiet: Quiet::new(),
            metrics: BudgetMetrics::new(&self.upstream),
            min_delay: AtomicU64::new(nanos(self.min_delay)),
            attempt_field: self.attempt_field,
            copy: self.copy,
            mode: SharedMode::new(self.mode),
            budget: self.budget,
            fills_budget: AtomicBool::new(fills_budget),
            gate: self.gate,
        };
        Ok(HedgeLayer {
            shared: Arc::new(shared),
        })
    }
}

pub(super) fn percentile(percentile: f64) -> Result<Ratio, ConfigError> {
    Ratio::new(percentile, 0.9999)
        .filter(|ratio| *ratio >= Ratio::HALF)
        .ok_or(ConfigError::new("percentile", "must be from 0.5 to 0.9999"))
}

pub(super) fn extra_load(ratio: f64) -> Result<f64, ConfigError> {
    Some(ratio)
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or(ConfigError::new("max_extra_load", "must be from 0 to 1"))
}

fn fills(fills: bool, budget: Option<&Budget>) -> Result<bool, ConfigError> {
    Some(fills)
        .filter(|fills| !fills || budget.is_some())
        .ok_or(ConfigError::new(
            "fills_budget",
            "must be given a `budget` to fill",
        ))
}

/// A request that may be hedged, as cap and budget count it.
pub(super) struct Counted {
    extra: Income,
    /// If the budget counts it here.
    deposit: Option<Deposit>,
}

impl Counted {
    /// Nowhere so far.
    pub(super) const NONE: Self = Self {
        extra: Income::NOTHING,
        deposit: None,
    };
}

/// A hedge that may be sent. Dropped before it was, or refused further in, all of it goes back.
pub(super) struct Permit {
    shared: Arc<Shared>,
    taken: Option<Taken>,
    ticket: Option<Ticket>,
    /// What has become of it, once it is sent.
    outcome: Option<Hedged>,
}

impl Permit {
    /// It is sent. Unless more is heard of it, whoever asked has left.
    pub(super) const fn sent(&mut self) {
        self.outcome = Some(Hedged::Left);
    }

    /// What became of it after all.
    pub(super) const fn ended(&mut self, outcome: Hedged) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (taken, ticket) = (self.taken.take(), self.ticket.as_mut());
        match self.outcome {
            None | Some(Hedged::Refused) => {
                if let Some(taken) = taken {
                    self.shared.extra.give_back(taken, Instant::now());
                }
            }
            // The cap is the layer's own; the budget is that of others as well, who do send.
            Some(Hedged::Shadow) => {}
            Some(Hedged::Won | Hedged::Lost | Hedged::Left) => {
                if let Some(ticket) = ticket {
                    ticket.sent();
                }
            }
        }
        // Last: a recorder is foreign code, and one that panics is not to leave cap and budget wrong.
        if let Some(outcome) = self.outcome {
            self.shared.metrics.hedged(outcome);
        }
    }
}

impl Shared {
    /// After how long a request is hedged, if that is known. Whether it is known still is looked at when one is due: nearly all
    /// are answered earlier.
    pub(super) fn delay(&self) -> Option<Duration> {
        let percentile = self.latency.latest();
        percentile.map(|delay| delay.max(self.min_delay()))
    }

    /// Whether it is known still.
    pub(super) fn knows_delay(&self, now: Instant) -> bool {
        self.latency.quantile(now).is_some()
    }

    pub(super) fn min_delay(&self) -> Duration {
        Duration::from_nanos(self.min_delay.load(Ordering::Relaxed))
    }

    pub(super) fn set_min_delay(&self, delay: Duration) {
        self.min_delay.store(nanos(delay), Ordering::Relaxed);
    }

    pub(super) fn fills_budget(&self) -> bool {
        self.fills_budget.load(Ordering::Relaxed)
    }

    pub(super) fn set_fills_budget(&self, asked: bool) -> Result<(), ConfigError> {
        let asked = fills(asked, self.budget.as_ref())?;
        self.fills_budget.store(asked, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a hedge makes sense now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.quiet.is_over(now) && self.gate.as_ref().is_none_or(|gate| gate.allows())
    }

    /// Counts a request that may be hedged.
    #[inline]
    pub(super) fn count(&self, now: Instant) -> Counted {
        let extra = self.extra.count(now);
        // Relaxed: which of two requests is the first to be counted otherwise is nobody's matter.
        let fills = |_: &&Budget| self.fills_budget();
        let budget = self.budget.as_ref().filter(fills);
        let deposit = budget.map(|budget| budget.deposit(now));
        Counted { extra, deposit }
    }

    /// A request that was counted was not sent: it brings nothing.
    pub(super) fn take_back(&self, counted: &Counted) {
        self.extra.take_back(counted.extra);
        if let (Some(budget), Some(deposit)) = (&self.budget, &counted.deposit) {
            budget.take_back(deposit);
        }
    }

    /// One hedge, if cap and budget allow for it.
    pub(super) fn permit(
        self: &Arc<Self>,
        trace: Option<&TraceContext>,
        now: Instant,
    ) -> Option<Permit> {
        let taken = Some(self.extra.withdraw(now)?);
        let mut permit = Permit {
            shared: Arc::clone(self),
            taken,
            ticket: None,
            outcome: None,
        };
        if let Some(budget) = &self.budget {
            permit.ticket = Some(budget.spend(None, trace, now)?);
        }
        Some(permit)
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        Hedge::new(inner, Arc::clone(&self.shared))
    }
}

/// Needs nothing.
impl<F: FactSet> Stage<F> for HedgeLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("latency", &self.latency)
            .field("extra", &self.extra)
            .field("budget", &self.budget)
            .field("mode", &self.mode.get())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HedgeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeBuilder")
            .field("upstream", &self.upstream.as_str())
            .field("percentile", &self.percentile)
            .field("max_extra_load", &self.max_extra_load)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(all(feature = "metrics", not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use gw_testkit::Listener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_recorder_that_panics_leaves_cap_and_budget_right() {
        // Story: it was asked first. A hedge that was sent came back to the budget, and one that was refused stayed in the cap.
        let spent = |outcome| {
            let budget = Budget::builder("orders").build().unwrap();
            let layer = HedgeLayer::builder("orders").budget(budget.clone());
            let shared = layer.max_extra_load(1.0).build().unwrap().shared;
            let now = Instant::now();
            (0..10).for_each(|_| drop(shared.count(now)));
            let left = || (shared.extra.available(now), budget.available(now));
            let before = left();
            let mut permit = shared.permit(None, now).unwrap();
            permit.ended(outcome);
            let ended = AssertUnwindSafe(|| drop(permit));
            assert!(
                metrics::with_local_recorder(&Listener::panicking(), || catch_unwind(ended))
                    .is_err()
            );
            (before.0 - left().0, before.1 - left().1)
        };
        for (outcome, (cap, budget)) in [
            (Hedged::Won, (1, 1)),
            (Hedged::Lost, (1, 1)),
            (Hedged::Left, (1, 1)),
            (Hedged::Refused, (0, 0)),
            (Hedged::Shadow, (1, 0)),
        ] {
            assert_eq!(spent(outcome), (cap, budget), "{outcome:?}");
        }
    }
}
