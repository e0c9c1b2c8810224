use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::{DeadLetter, DeadLetters, KeepError};
use crate::batch::{Batch, BatchId, ClientId};
use crate::queue::{AppendError, Queue};

/// Keeps dead letters in a queue of their own, usually a queue on disk in another directory. Its bound is the queue's.
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
    async fn keep(&self, letters: &[DeadLetter]) -> Result<(), KeepError> {
        let same_client = |a: &DeadLetter, b: &DeadLetter| a.event().client() == b.event().client();
        let mut runs: Vec<&[DeadLetter]> = letters.chunk_by(same_client).collect();
        while let Some(run) = runs.pop() {
            let Some(first) = run.first() else {
                continue;
            };
            let batch = batch(first.event().client().clone(), run);
            match self.queue.append(batch).await {
                Ok(_) => {}
                Err(AppendError::TooLarge { .. }) if run.len() > 1 => {
                    let (left, right) = run.split_at(run.len() / 2);
                    runs.extend([left, right]);
                }
                Err(error) => return Err(keep_error(error)),
            }
        }
        Ok(())
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
        AppendError::Full { .. } | AppendError::OverShare { .. } => KeepError::Full,
        error => KeepError::Failed(io::Error::other(error)),
    }
}
