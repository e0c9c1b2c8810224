use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Outcome, Route, Series};

/// Where all clients of a phase write down what they see. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    start: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    auth: Series,
    logs: Series,
    live: [Live; 2],
}

/// What has happened on a route since it was last looked at, for the lines that are printed during a phase. Other than
/// in a [`Series`], answers count here when they come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// Requests without an answer so far.
    pub(crate) waiting: u64,
}

impl Meter {
    /// A meter for a phase that starts now and lasts so many seconds.
    pub(crate) fn start(seconds: usize) -> Self {
        let state = State {
            auth: Series::new(seconds),
            logs: Series::new(seconds),
            live: [Live::default(); 2],
        };
        Self {
            start: Instant::now(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// When the phase started.
    pub(crate) const fn started(&self) -> Instant {
        self.start
    }

    /// A request that was scheduled for `scheduled`, since the start, is sent.
    pub(crate) fn sent(&self, route: Route, scheduled: Duration) {
        let mut state = self.lock();
        let live = state.live_mut(route);
        live.sent += 1;
        live.waiting += 1;
        state.series_mut(route).sent(scheduled);
    }

    /// That request has ended now.
    pub(crate) fn ended(&self, route: Route, scheduled: Duration, outcome: Outcome) {
        let took = self.start.elapsed().saturating_sub(scheduled);
        let mut state = self.lock();
        let live = state.live_mut(route);
        live.waiting = live.waiting.saturating_sub(1);
        if outcome.is_ok() {
            live.ok += 1;
        } else {
            live.failed += 1;
        }
        state.series_mut(route).ended(scheduled, took, outcome);
    }

    /// What has happened since the last call: auth, logs.
    pub(crate) fn live(&self) -> [Live; 2] {
        let mut state = self.lock();
        let seen = state.live;
        for live in &mut state.live {
            let waiting = live.waiting;
            *live = Live {
                waiting,
                ..Live::default()
            };
        }
        seen
    }

    /// All that was measured: auth, logs.
    pub(crate) fn series(&self) -> (Series, Series) {
        let state = self.lock();
        (state.auth.clone(), state.logs.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn series_mut(&mut self, route: Route) -> &mut Series {
        match route {
            Route::Auth => &mut self.auth,
            Route::Logs => &mut self.logs,
        }
    }

    const fn live_mut(&mut self, route: Route) -> &mut Live {
        let [auth, logs] = &mut self.live;
        match route {
            Route::Auth => auth,
            Route::Logs => logs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_runs_from_the_schedule_and_not_from_sending() {
        let meter = Meter::start(5);
        let scheduled = Duration::from_secs(1);
        // The generator is late by a second.
        tokio::time::advance(Duration::from_secs(2)).await;
        meter.sent(Route::Auth, scheduled);
        tokio::time::advance(Duration::from_secs(1)).await;
        meter.ended(Route::Auth, scheduled, Outcome::Status(200));
        let (auth, logs) = meter.series();
        assert!(auth.total().p50 >= Duration::from_secs(2));
        assert_eq!((auth.summary(1..2).ok, logs.total().sent), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn live_numbers_are_those_since_the_last_look() {
        let meter = Meter::start(1);
        for _ in 0..3 {
            meter.sent(Route::Logs, Duration::ZERO);
        }
        meter.ended(Route::Logs, Duration::ZERO, Outcome::None);
        let [auth, logs] = meter.live();
        assert_eq!(auth, Live::default());
        let expected = Live {
            sent: 3,
            ok: 0,
            failed: 1,
            waiting: 2,
        };
        assert_eq!(logs, expected);
        let [_, logs] = meter.live();
        assert_eq!((logs.sent, logs.failed, logs.waiting), (0, 0, 2));
    }
}
