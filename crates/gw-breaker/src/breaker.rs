//! The breaker without HTTP: admissions, outcomes, and what operators do.

use std::sync::Arc;
use std::time::Duration;

use gw_core::classify::Outcome;
use gw_core::context::UpstreamName;
use gw_core::{ConfigError, Mode};
use tokio::time::Instant;

use crate::admission::{Admission, Refused, Ticket};
use crate::config::BreakerConfig;
use crate::core::{Answer, Core, References};
use crate::hub::{Changes, Hub};
use crate::rules::{Rules, nanos};
use crate::state::{Snapshot, State};
use crate::sync::{Ordering, RwLock, fence, read, write};
use crate::telemetry::BreakerMetrics;
use crate::told::{Reconfigured, Switched};
use crate::window::Call;
use crate::word::{Phase, Word};

/// Knows whether an upstream is fit to be called. Clones share what they know.
///
/// It needs no task and no timer: it looks at the time it is given. Each call asks for an [`Admission`], and says with it
/// how it ended.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gw_breaker::{Breaker, BreakerConfig, Ended, Outcome, State};
/// use tokio::time::Instant;
///
/// let breaker = Breaker::new("orders", &BreakerConfig::new().consecutive_failures(2))?;
/// let now = Instant::now();
/// for _ in 0..2 {
///     let admission = breaker.admit(now).expect("it is closed");
///     admission.record(Ended::with(Outcome::Failure), now);
/// }
/// let refused = breaker.admit(now).unwrap_err();
/// assert_eq!(refused.state, State::Open);
/// assert!(refused.retry_after <= Duration::from_secs(5));
/// # Ok::<(), gw_breaker::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Breaker {
    slot: Arc<Slot>,
    /// What was current when it was last looked up. It says so if it no longer is.
    core: Arc<Core>,
}

#[derive(Debug)]
struct Slot {
    current: RwLock<Arc<Core>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        read(&self.current).hub.gone();
    }
}

/// The references to a core that its breaker has itself.
const IN_SLOT_AND_HERE: usize = 2;

/// How a call ended: what its outcome says, how long it took, and what the upstream asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) slow: Slow,
    pub(crate) retry_after: Option<Duration>,
}

/// Whether a call was slow, as far as that is known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slow {
    Took(u64),
    Known(bool),
}

/// What a breaker knows, as far as that matters to who would forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// It is closed, or off where all are, and nothing speaks against the upstream: one that is made anew would do the same.
    Clean,
    /// It is closed, but calls have failed or were slow, and are counted still; or it was open not long ago, and its next open
    /// time would be a longer one.
    Suspect,
    /// It is closed, or off where all are, and calls are under way that may yet fail, or somebody holds its handle.
    InUse,
    /// It was open, and keeps nobody away any more: the next call is a probe.
    Worn,
    /// It keeps calls away, or was told what to do.
    Needed,
}

impl Ended {
    /// With an outcome. What a throttled one asks for is heard.
    pub const fn with(outcome: Outcome) -> Self {
        Self {
            outcome,
            slow: Slow::Known(false),
            retry_after: match outcome {
                Outcome::Throttled(wait) => wait,
                _ => None,
            },
        }
    }

    /// How long it took. Without it the call is not slow.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.slow = Slow::Took(nanos(latency));
        self
    }

    /// How long the upstream asked to be left alone, as the `Retry-After` of a failure does.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    #[must_use]
    pub(crate) const fn slow(mut self, slow: bool) -> Self {
        self.slow = Slow::Known(slow);
        self
    }
}

impl Breaker {
    /// Closed. `upstream` is what metrics and logs call it: a name out of a bounded set.
    ///
    /// # Errors
    ///
    /// If the configuration breaks a rule, see [`BreakerConfig`].
    pub fn new(upstream: impl Into<Arc<str>>, config: &BreakerConfig) -> Result<Self, ConfigError> {
        let upstream = UpstreamName::new(upstream);
        let metrics = BreakerMetrics::new(upstream.clone(), true);
        let rules = Rules::new(config)?;
        Ok(Self::of(
            upstream,
            metrics,
            rules,
            Mode::Enforce,
            References::Kept,
        ))
    }

    pub(crate) fn of(
        upstream: UpstreamName,
        metrics: BreakerMetrics,
        rules: Rules,
        mode: Mode,
        refers: References,
    ) -> Self {
        let word = match mode {
            Mode::Off => Word {
                phase: Phase::Disabled,
                ..Word::FIRST
            },
            Mode::Enforce | Mode::Shadow => Word::FIRST,
        };
        let hub = Hub::new(upstream, metrics, word);
        hub.set_shadow(mode);
        let core = Arc::new(Core::new(
            rules,
            word,
            Instant::now(),
            Arc::new(hub),
            refers,
        ));
        Self {
            slot: Arc::new(Slot {
                current: RwLock::new(Arc::clone(&core)),
            }),
            core,
        }
    }

    /// What metrics and logs call it.
    pub fn upstream(&self) -> &UpstreamName {
        &self.core.hub.upstream
    }

    /// Admits a call if the breaker is simply closed. It asks no clock, and does nothing otherwise: then ask
    /// [`Breaker::admit`].
    #[inline]
    pub fn admit_if_closed(&self) -> Option<Admission> {
        self.ticket_if_closed().map(Admission::new)
    }

    /// The same, for who gives it back in its own way.
    #[inline]
    pub(crate) fn ticket_if_closed(&self) -> Option<Ticket> {
        let generation = self.core.closed()?;
        Some(Ticket::counted(&self.core, generation))
    }

    /// Admits a call, or refuses it.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the upstream should not be called now. The mode does not matter here: it is the layer's.
    pub fn admit(&self, now: Instant) -> Result<Admission, Refused> {
        let mut core = Arc::clone(&self.core);
        loop {
            match core.admit(now) {
                Answer::Admitted(kind) => return Ok(Admission::new(Ticket::new(core, kind))),
                Answer::Refused(refused) => return Err(refused),
                Answer::Replaced => core = self.current(),
            }
        }
    }

    /// Whether the breaker is closed, as far as one look tells, and nothing has replaced its configuration.
    #[inline]
    pub(crate) fn is_simply_closed(&self) -> bool {
        self.core.closed().is_some()
    }

    /// Whether calls pass freely: the breaker is closed, or is told to let everything pass.
    pub(crate) fn is_closed(&self) -> bool {
        let phase = match self.core.word().phase {
            Phase::Replaced => self.current().word().phase,
            phase => phase,
        };
        matches!(phase, Phase::Closed | Phase::ForcedClosed | Phase::Disabled)
    }

    /// What was current at the last look.
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Catches up with a new configuration. A clone from before [`Breaker::reconfigure`] obeys it in any case, but has to
    /// look it up under a lock with each call until this is called. It costs one load where there is nothing to catch up
    /// with.
    #[inline]
    pub fn refresh(&mut self) {
        if self.is_replaced() {
            self.catch_up();
        }
    }

    #[cold]
    fn catch_up(&mut self) {
        self.core = self.current();
    }

    /// Whether there is a newer configuration than this clone knows.
    #[inline]
    pub(crate) fn is_replaced(&self) -> bool {
        self.core.is_replaced()
    }

    fn current(&self) -> Arc<Core> {
        Arc::clone(&read(&self.slot.current))
    }

    /// What it knows at about `now`.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        self.current().snapshot(now)
    }

    /// The state at `now`.
    pub fn state(&self, now: Instant) -> State {
        self.snapshot(now).state
    }

    /// Refuses everything from now on.
    pub fn force_open(&self, now: Instant) {
        self.force(Phase::ForcedOpen, now);
    }

    /// Lets everything pass from now on, whatever comes of it. Outcomes are counted.
    pub fn force_closed(&self, now: Instant) {
        self.force(Phase::ForcedClosed, now);
    }

    /// Lets everything pass from now on, and counts nothing.
    pub fn disable(&self, now: Instant) {
        self.force(Phase::Disabled, now);
    }

    /// Closed from now on, as if nothing had happened. It ends what was forced.
    pub fn reset(&self, now: Instant) {
        self.force(Phase::Closed, now);
    }

    fn force(&self, phase: Phase, now: Instant) {
        // Under the lock nobody takes over, so that this is not lost.
        let current = write(&self.slot.current);
        let core = Arc::clone(&current);
        let change = core.force(phase, now);
        drop(current);
        if let Some((from, to)) = change {
            core.hub.changed(from, to);
        }
    }

    /// Decides by `config` from now on. The state stays and how long it has lasted, and how often the breaker has opened in a row;
    /// what windows have counted begins anew, since other calls may count now, and a half-open breaker's probes. Calls under way
    /// are not counted.
    ///
    /// # Errors
    ///
    /// If the configuration breaks a rule; then nothing changes.
    pub fn reconfigure(&self, config: &BreakerConfig, now: Instant) -> Result<(), ConfigError> {
        self.decide_by(config, now).map(Reconfigured::tell)
    }

    /// Does it, and leaves to the caller to tell of it.
    pub(crate) fn decide_by(
        &self,
        config: &BreakerConfig,
        now: Instant,
    ) -> Result<Reconfigured, ConfigError> {
        let rules = Rules::new(config)?;
        let mut current = write(&self.slot.current);
        let core = current.taken_over_by(rules, now);
        Ok(Reconfigured {
            _before: std::mem::replace(&mut *current, Arc::new(core)),
            breaker: self.clone(),
        })
    }

    /// By which configuration it decides.
    pub fn config(&self) -> BreakerConfig {
        self.current().rules.config
    }

    /// Whether it is enforced by layers.
    pub fn mode(&self) -> Mode {
        self.mode_of(&self.current())
    }

    fn mode_of(&self, current: &Core) -> Mode {
        if current.word().phase == Phase::Disabled {
            return Mode::Off;
        }
        match self.core.hub.is_shadow() {
            true => Mode::Shadow,
            false => Mode::Enforce,
        }
    }

    /// Changes whether it is enforced by layers. [`Mode::Off`] disables it, and what it is set to afterwards finds it
    /// closed.
    pub fn set_mode(&self, mode: Mode, now: Instant) {
        self.switch(mode, now).tell();
    }

    /// Does it, and leaves to the caller to tell of it.
    pub(crate) fn switch(&self, mode: Mode, now: Instant) -> Switched {
        // Under the lock, as all that is forced: of two that switch it at once, one would find a half of what the other does.
        let current = write(&self.slot.current);
        let before = self.mode_of(&current);
        // In any case: one that `disable` has switched off remembers that it was in shadow mode.
        self.core.hub.set_shadow(mode);
        let phase = match (before, mode) {
            (_, Mode::Off) => Some(Phase::Disabled),
            (Mode::Off, _) => Some(Phase::Closed),
            _ => None,
        };
        Switched {
            state: phase.and_then(|phase| current.force(phase, now)),
            mode: (before != mode).then_some(mode),
            breaker: self.clone(),
        }
    }

    /// The changes of its state from now on.
    pub fn subscribe(&self) -> Changes {
        self.core.hub.subscribe()
    }

    /// Says that its name may be another one's from now on, so that it no longer sets the gauge of the state.
    pub(crate) fn disown(&self) {
        self.core.hub.disown();
    }

    /// Has the gauge of the state show that nothing is kept away, once it is disowned.
    pub(crate) fn clear_gauge(&self) {
        self.core.hub.clear_gauge();
    }

    /// Has the gauge show the state once more.
    pub(crate) fn show_gauge(&self) {
        self.core.hub.show();
    }

    /// How much would be lost at `now` if it were forgotten, and made anew in `mode`. It catches up with a new configuration
    /// first: calls are under way with that one.
    pub(crate) fn knowledge(&mut self, now: Instant, mode: Mode) -> Knowledge {
        // Before what is counted is read: a call tells how it ended, and is under way no more after that.
        let shared = self.is_shared();
        let known = self.snapshot(now);
        let counted = known.consecutive_failures > 0 || known.failed > 0 || known.slow > 0;
        match known.state {
            State::Disabled if mode != Mode::Off => Knowledge::Needed,
            State::Closed | State::Disabled if shared => Knowledge::InUse,
            State::Closed if counted || known.opened > 0 => Knowledge::Suspect,
            State::Closed | State::Disabled => Knowledge::Clean,
            State::Open if known.open_for == Some(Duration::ZERO) => Knowledge::Worn,
            State::HalfOpen if known.probes == 0 => Knowledge::Worn,
            _ => Knowledge::Needed,
        }
    }

    /// Whether anybody has it but this clone: an admission whose outcome is to come, or a handle. Only where references are
    /// [counted](References::Counted): those that threads keep are somebody's, too.
    fn is_shared(&mut self) -> bool {
        let shared = Arc::strong_count(&self.slot) > 1 || {
            // Whoever could have replaced the core is gone, and what they did is seen.
            fence(Ordering::Acquire);
            self.refresh();
            Arc::strong_count(&self.core) > IN_SLOT_AND_HERE
        };
        // The count is loaded relaxed. With this, all that was done by who dropped a reference before is seen from here on.
        fence(Ordering::Acquire);
        shared
    }
}

impl Ended {
    /// What a window counts of it; nothing if it says nothing.
    pub(crate) fn call(&self, slow: bool, throttled_fails: Option<bool>) -> Option<Call> {
        let failed = match self.outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::Throttled(_) => throttled_fails?,
            Outcome::Ignored if slow => false,
            Outcome::Ignored => return None,
        };
        Some(Call { failed, slow })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Story: a thread kept what its last call had of the breaker, and who waited for changes waited for ever.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_changes_hears_the_last_one_and_then_that_the_breaker_is_gone() {
        let config = BreakerConfig::without_policies().consecutive_failures(1);
        let breaker = Breaker::new("orders", &config).unwrap();
        let mut changes = breaker.subscribe();
        let now = Instant::now();
        breaker.admit_if_closed().unwrap().succeed(|| now);
        let last = breaker.admit(now).unwrap();
        last.record(Ended::with(Outcome::Failure), now);
        drop(breaker);
        assert_eq!(changes.changed().await, Some(State::Open));
        assert_eq!(changes.changed().await, None);
    }

    fn of_a_registry(config: &BreakerConfig) -> Result<Breaker, ConfigError> {
        let upstream = UpstreamName::new("orders");
        let metrics = BreakerMetrics::new(upstream.clone(), true);
        let rules = Rules::new(config)?;
        Ok(Breaker::of(
            upstream,
            metrics,
            rules,
            Mode::Enforce,
            References::Counted,
        ))
    }

    /// Story: what was counted was read first, and then whether a call is under way. One that failed in between was neither,
    /// and the breaker that it had just opened was forgotten as a clean one.
    #[test]
    fn a_call_that_ends_at_this_moment_is_under_way_or_counted() {
        let config = BreakerConfig::without_policies().consecutive_failures(1);
        let now = Instant::now();
        let (calls, ending) = mpsc::sync_channel::<Admission>(0);
        thread::scope(|threads| {
            threads.spawn(|| {
                for call in ending {
                    call.record(Ended::with(Outcome::Failure), now);
                }
            });
            for _ in 0..1_000 {
                let mut breaker = of_a_registry(&config).unwrap();
                calls.send(breaker.admit(now).unwrap()).unwrap();
                while breaker.state(now) == State::Closed {
                    assert_ne!(breaker.knowledge(now, Mode::Enforce), Knowledge::Clean);
                }
                assert_eq!(breaker.knowledge(now, Mode::Enforce), Knowledge::Needed);
            }
            drop(calls);
        });
    }
}
