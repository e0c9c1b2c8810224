//! Leave to ask Redis.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Change, Leave};
use super::link::Failure;
use super::shared::Shared;

/// Leave to ask. It must come to something, or the next one could not have it.
#[derive(Debug)]
pub(super) struct Permit {
    pub(super) shared: Arc<Shared>,
    leave: Option<Leave>,
}

impl Permit {
    pub(super) fn of(shared: &Arc<Shared>) -> Option<Self> {
        let leave = shared.breaker().leave(Instant::now())?;
        Some(Self {
            shared: Arc::clone(shared),
            leave: Some(leave),
        })
    }

    /// Waits for the answer, and no longer than a request may.
    pub(super) async fn ask<T>(
        self,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Option<T> {
        let limit = self.shared.timeout;
        self.ask_within(limit, answer).await
    }

    /// Waits for the answer, and no longer than `limit`. The probe has as much time as a request's at the most, since nobody
    /// else may ask meanwhile.
    pub(super) async fn ask_within<T>(
        mut self,
        limit: Duration,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Option<T> {
        let shared = Arc::clone(&self.shared);
        let limit = match self.leave {
            Some(leave) if leave.is_probe() => limit.min(shared.timeout),
            _ => limit,
        };
        let tally = &shared.tally;
        tally.asked();
        let connections = shared.link.numbers();
        let sent = Instant::now();
        let answer = tokio::time::timeout(limit, answer).await;
        let took = sent.elapsed();
        let answer = answer.unwrap_or(Err(Failure::Timeout));
        let leave = self.leave.take()?;
        let failure = match answer {
            Ok(answer) => {
                tally.answered(took, shared.on_failure);
                shared.heard(leave);
                return Some(answer);
            }
            Err(failure) => failure,
        };
        tally.failed(&failure, took);
        if let Failure::Moving(_) = failure {
            shared.heard(leave);
            return None;
        }
        let now = Instant::now();
        if shared.breaker().failed(leave, now) == Change::Opened {
            tally.opened(shared.on_failure);
        }
        if !shared.breaker().is_closed() {
            tally.is_away(&shared.label, &failure, shared.on_failure, now);
            // One that was made for this question has not had the time that an answer takes.
            shared.link.give_up(connections);
        }
        None
    }
}

impl Shared {
    /// Redis is there, and answers.
    fn heard(&self, leave: Leave) {
        if self.breaker().answered(leave) == Change::Closed {
            self.tally.closed(&self.label, self.on_failure);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            self.shared.breaker().abandoned(leave, Instant::now());
        }
    }
}
