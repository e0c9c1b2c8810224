//! Whether there is room for what a request brings: asked while its body arrives, and at its end.
//!
//! The head cannot say. What is suppressed or shed needs no room and is answered with success, or a full queue would breed reports
//! about itself; and audit records may use what is kept for them. So a body is read until something of it needs room.

use gw_core::{Mode, Rejection};
use http::HeaderMap;

use super::builder::Shared;
use super::config::Config;
use super::session::Collected;
use super::{error, media};
use crate::batch::{Class, ClientId};
use crate::queue::{AppendError, Queue, QueueStatus};
use crate::telemetry::Shadowed;

/// The room for the events of one body, while it arrives.
pub(super) struct Room<'a, Q> {
    shared: &'a Shared<Q>,
    config: &'a Config,
    mode: Mode,
    client: &'a ClientId,
    /// The length of the body, if it was announced: about that of the batch.
    announced: usize,
    /// From so long a batch on the queue is asked again.
    ask_at: usize,
}

impl<Q: Queue> Shared<Q> {
    pub(super) fn room<'a>(
        &'a self,
        config: &'a Config,
        mode: Mode,
        client: &'a ClientId,
        headers: &HeaderMap,
    ) -> Room<'a, Q> {
        let announced = media::announced_length(headers).unwrap_or_default();
        Room {
            shared: self,
            config,
            mode,
            client,
            announced: usize::try_from(announced).unwrap_or(usize::MAX),
            ask_at: 0,
        }
    }

    /// Refuses what would use up the part of the queue that is kept for audit records. In shadow mode it is counted.
    pub(super) fn keep_reserve(
        &self,
        config: &Config,
        mode: Mode,
        status: &QueueStatus,
        collected: &Collected,
    ) -> Result<(), Rejection> {
        let bytes = collected.batch.bytes();
        let Some(excess) = reserve_used(config, status, collected, bytes) else {
            return Ok(());
        };
        match mode {
            Mode::Enforce => Err(error::audit_only(status.time_to_free(excess))),
            Mode::Shadow => {
                let metrics = self.ledger.metrics();
                metrics.shadowed(Shadowed::AuditOnly, not_audit(collected));
                Ok(())
            }
            Mode::Off => Ok(()),
        }
    }
}

impl<Q: Queue> Room<'_, Q> {
    /// Refuses what the queue would not store if it were all. How long to wait goes by what is likely to come.
    ///
    /// Asked anew each time that the batch has doubled, so that neither a body in very small pieces asks often, nor much more is
    /// read than there is room for.
    pub(super) fn still_there(&mut self, so_far: &Collected) -> Result<(), Rejection> {
        let bytes = so_far.batch.bytes();
        if so_far.batch.is_empty() || bytes < self.ask_at {
            return Ok(());
        }
        self.ask_at = bytes.saturating_mul(2);
        let likely = bytes.max(self.announced);
        if self.mode == Mode::Enforce {
            let status = self.shared.queue.status();
            let used = |bytes| reserve_used(self.config, &status, so_far, bytes);
            if used(bytes).is_some() {
                let excess = used(likely).unwrap_or_default();
                return Err(error::audit_only(status.time_to_free(excess)));
            }
        }
        let has_room = |bytes| self.shared.queue.has_room(self.client, bytes);
        has_room(bytes).map_err(|now| {
            error::append(match has_room(likely) {
                // It may be shorter than announced in the end.
                Ok(()) | Err(AppendError::TooLarge { .. }) => now,
                Err(later) => later,
            })
        })
    }
}

/// How much room must become free for what would use up the part that is kept for audit records; none if it does not.
fn reserve_used(
    config: &Config,
    status: &QueueStatus,
    collected: &Collected,
    bytes: usize,
) -> Option<u64> {
    let excess = config.limits.watermarks.excess(status, bytes as u64);
    (not_audit(collected) > 0 && excess > 0).then_some(excess)
}

fn not_audit(collected: &Collected) -> u64 {
    collected.taken().total() - collected.taken().of(Class::Audit)
}
