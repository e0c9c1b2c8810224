use std::sync::Arc;
use std::time::SystemTime;
use std::{io, iter};

use super::{DeadLetter, DeadLetters, KeepError};
use crate::batch::{Batch, BatchId, ClientId};
use crate::queue::{AppendError, Queue};

/// Keeps dead letters in a queue of their own, usually a queue on disk in another directory. Its bound is the queue's, and so
/// is each client's share.
///
/// Each letter becomes an event whose JSON text is [`DeadLetter::to_json`], under the id and class of the dead event and
/// the client that sent it; a consumer of that queue can look at the letters or deliver them again. It should be at least
/// as durable as the queue that the events come from.
#[derive(Debug)]
pub struct DeadLetterQueue<Q> {
    queue: Arc<Q>,
}

impl<Q: Queue> DeadLetterQueue<Q> {
    /// Keeps letters in this queue.
    pub fn new(queue: Q) -> Self {
        Self {
            queue: Arc::new(queue),
        }
    }

    /// The queue.
    pub const fn queue(&self) -> &Arc<Q> {
        &self.queue
    }
}

impl<Q> Clone for DeadLetterQueue<Q> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<Q: Queue> DeadLetters for DeadLetterQueue<Q> {
    async fn keep(&self, letters: &[DeadLetter]) -> Vec<Result<(), KeepError>> {
        let same_client = |a: &DeadLetter, b: &DeadLetter| a.event().client() == b.event().client();
        // The next one last.
        let mut runs: Vec<&[DeadLetter]> = letters.chunk_by(same_client).rev().collect();
        let mut kept = Vec::with_capacity(letters.len());
        while let Some(run) = runs.pop() {
            let Some(first) = run.first() else {
                continue;
            };
            let batch = batch(first.event().client().clone(), run);
            match self.queue.append(batch).await {
                Err(AppendError::TooLarge { .. }) if run.len() > 1 => {
                    let (left, right) = run.split_at(run.len() / 2);
                    runs.extend([right, left]);
                }
                stored => {
                    let outcome = stored.map(drop).map_err(keep_error);
                    kept.extend(iter::repeat_n(outcome, run.len()));
                }
            }
        }
        kept
    }
}

/// The letters about the events of one client.
fn batch(client: ClientId, letters: &[DeadLetter]) -> Batch {
    let now = SystemTime::now();
    let mut builder = Batch::builder(BatchId::new(now), client, now);
    for letter in letters {
        let event = letter.event();
        builder.push(Some(&event.id()), event.class(), &letter.to_json());
    }
    builder.finish()
}

fn keep_error(error: AppendError) -> KeepError {
    match error {
        AppendError::Full { .. } => KeepError::Full,
        AppendError::OverShare { .. } | AppendError::TooLarge { .. } => KeepError::OverShare,
        error => KeepError::Failed(Arc::new(io::Error::other(error))),
    }
}
