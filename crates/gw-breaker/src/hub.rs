//! Who hears of changes of state.

use gw_core::Mode;
use gw_core::context::UpstreamName;
use tokio::sync::watch;

use crate::state::State;
use crate::sync::{AtomicU8, Ordering};
use crate::telemetry::{self, BreakerMetrics};
use crate::word::{Phase, Word};

/// What a breaker keeps when its configuration is changed.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) upstream: UpstreamName,
    pub(crate) metrics: BreakerMetrics,
    shadow: AtomicU8,
    latest: watch::Sender<Latest>,
}

/// The newest state that was announced. Two threads may announce in another order than they changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Latest {
    order: u64,
    state: State,
    /// Whether a registry has forgotten the breaker: its name may be another one's, whose state the gauge shows.
    disowned: bool,
    /// Whether nobody has the breaker any more.
    gone: bool,
}

impl Latest {
    fn of(word: Word) -> Self {
        // The end of a ramp is the one change that leaves the generation as it is.
        let order = word.since << 1 | u64::from(word.phase != Phase::Ramping);
        Self {
            order,
            state: State::of(word.phase),
            disowned: false,
            gone: false,
        }
    }
}

impl Hub {
    pub(crate) fn new(upstream: UpstreamName, metrics: BreakerMetrics, word: Word) -> Self {
        Self {
            upstream,
            metrics,
            shadow: AtomicU8::new(0),
            latest: watch::Sender::new(Latest::of(word)),
        }
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.shadow.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn set_shadow(&self, mode: Mode) {
        self.shadow
            .store((mode == Mode::Shadow).into(), Ordering::Relaxed);
    }

    /// Tells of a change that this thread made.
    #[cold]
    pub(crate) fn changed(&self, from: Word, to: Word) {
        let (from, latest) = (State::of(from.phase), Latest::of(to));
        if from == latest.state {
            return;
        }
        self.latest.send_if_modified(|known| {
            let newer = latest.order > known.order;
            if newer {
                known.order = latest.order;
                known.state = latest.state;
            }
            newer
        });
        self.metrics.changed_to(latest.state);
        self.show();
        telemetry::changed(self.upstream.as_str(), from, latest.state, to.opened());
    }

    /// Lets the gauge show the state before it first changes.
    #[inline]
    pub(crate) fn seen(&self) {
        if !self.metrics.is_shown() {
            self.show();
        }
    }

    /// Lets the gauge show the state, unless that is another one's by now.
    #[cold]
    pub(crate) fn show(&self) {
        if !self.latest.borrow().disowned {
            self.set_gauge();
        }
    }

    /// From now on the gauge is another one's to set. Whoever waits for changes of the state hears nothing of it.
    pub(crate) fn disown(&self) {
        self.latest.send_if_modified(|known| {
            known.disowned = true;
            false
        });
    }

    /// Has the gauge show of one that was disowned that nothing is kept away; if there is none, none is made.
    pub(crate) fn clear_gauge(&self) {
        if self.metrics.is_shown() {
            self.set_gauge();
        }
    }

    fn set_gauge(&self) {
        // Threads that set the gauge one after the other may have looked before either: the last one to set it looks again.
        loop {
            let said = *self.latest.borrow();
            let state = if said.disowned {
                State::Closed
            } else {
                said.state
            };
            self.metrics.state(state);
            if *self.latest.borrow() == said {
                return;
            }
        }
    }

    /// Who waits for changes waits no more: nobody has the breaker, though calls or threads may have what tells of changes.
    pub(crate) fn gone(&self) {
        self.latest.send_modify(|known| known.gone = true);
    }

    pub(crate) fn subscribe(&self) -> Changes {
        let latest = self.latest.subscribe();
        let told = latest.borrow().order;
        Changes { latest, told }
    }
}

/// The changes of one breaker's state. Who is slow to look misses those in between, never the last one.
#[derive(Debug, Clone)]
pub struct Changes {
    latest: watch::Receiver<Latest>,
    /// Which change was told last.
    told: u64,
}

impl Changes {
    /// The state now, as far as a call has seen it.
    pub fn state(&self) -> State {
        self.latest.borrow().state
    }

    /// Waits until the state is another one than was last seen; `None` once nobody has the breaker
    /// or a handle of it. What calls change that are under way by then is not waited for.
    ///
    /// A breaker looks at the clock when it is called, so an open one becomes half-open with the next call and not before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Option<State> {
        loop {
            let latest = *self.latest.borrow_and_update();
            if latest.order != self.told {
                self.told = latest.order;
                return Some(latest.state);
            }
            if latest.gone {
                return None;
            }
            self.latest.changed().await.ok()?;
        }
    }
}
