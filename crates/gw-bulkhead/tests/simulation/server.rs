use std::collections::VecDeque;

/// What a request asks of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) nanos: u64,
}

/// Workers, and a queue without an end: a server that refuses nothing.
#[derive(Debug, Default)]
pub(crate) struct Server {
    queue: VecDeque<(usize, Job)>,
    working: usize,
}

impl Server {
    pub(crate) fn queue(&mut self, slot: usize, job: Job) {
        self.queue.push_back((slot, job));
    }

    /// What one of this many workers may begin now.
    pub(crate) fn start(&mut self, workers: usize) -> Option<(usize, Job)> {
        if self.working >= workers {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.working += 1;
        Some(next)
    }

    pub(crate) fn finish(&mut self, _slot: usize) {
        self.working -= 1;
    }

    /// Takes a request out of the queue; whether it was there.
    pub(crate) fn forget(&mut self, slot: usize) -> bool {
        let before = self.queue.len();
        self.queue.retain(|(other, _)| *other != slot);
        self.queue.len() < before
    }
}
