//! Which node is asked next.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use tokio::time::Instant;

const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) authority: Authority,
    /// What stands in front of the path; without a slash at the end.
    pub(super) prefix: String,
}

/// The nodes of a cluster. They take turns; one that failed rests, for longer each time.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    next: usize,
    health: Vec<Health>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Node {
    pub(super) fn new(authority: Authority, prefix: &str) -> Self {
        Self {
            authority,
            prefix: prefix.to_owned(),
        }
    }
}

impl Nodes {
    pub(super) fn new(nodes: Vec<Node>) -> Self {
        let health = vec![Health::default(); nodes.len()];
        Self {
            nodes,
            turns: Mutex::new(Turns { next: 0, health }),
        }
    }

    pub(super) fn get(&self, place: usize) -> Option<&Node> {
        self.nodes.get(place)
    }

    /// The places of all nodes: those that do not rest in turn, then the others, the first to be back first. So there is
    /// always one to ask.
    pub(super) fn order(&self, now: Instant) -> Vec<usize> {
        let mut turns = self.turns();
        let count = self.nodes.len();
        let first = turns.next;
        turns.next = (first + 1) % count.max(1);
        let mut order: Vec<usize> = (first..count).chain(0..first).collect();
        // Stable: those without a rest keep their turn.
        order.sort_by_key(|place| turns.health.get(*place).and_then(|health| health.rest(now)));
        order
    }

    pub(super) fn well(&self, place: usize) {
        if let Some(health) = self.turns().health.get_mut(place) {
            *health = Health::default();
        }
    }

    pub(super) fn unwell(&self, place: usize, now: Instant) {
        if let Some(health) = self.turns().health.get_mut(place) {
            let rest = FIRST_REST.saturating_mul(1 << health.failures.min(16));
            health.failures = health.failures.saturating_add(1);
            health.rests_until = Some(now + rest.min(LONGEST_REST));
        }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    fn rest(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes {
        let node = |name| Node::new(Authority::from_static(name), "");
        Nodes::new(vec![node("a"), node("b"), node("c")])
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_take_turns() {
        let (nodes, now) = (nodes(), Instant::now());
        assert_eq!(nodes.order(now), [0, 1, 2]);
        assert_eq!(nodes.order(now), [1, 2, 0]);
        assert_eq!(nodes.order(now), [2, 0, 1]);
        assert_eq!(nodes.order(now), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_failed_rests_longer_each_time_and_is_asked_last() {
        let (nodes, now) = (nodes(), Instant::now());
        nodes.unwell(0, now);
        nodes.unwell(0, now);
        nodes.unwell(1, now);
        assert_eq!(nodes.order(now), [2, 1, 0]);
        let later = now + Duration::from_secs(1);
        assert_eq!(nodes.order(later), [1, 2, 0]);
        let later = now + Duration::from_secs(2);
        assert_eq!(nodes.order(later), [2, 0, 1]);
        nodes.unwell(0, now);
        nodes.well(0);
        assert_eq!(nodes.order(now)[..2], [0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_bounded() {
        let (nodes, now) = (nodes(), Instant::now());
        for _ in 0..100 {
            nodes.unwell(0, now);
        }
        assert_eq!(nodes.order(now + LONGEST_REST), [0, 1, 2]);
    }
}
