use gw_core::context::RouteMatch;
use http::Extensions;

use super::Policy;
use crate::timeouts::PassErrorBodies;

/// What holds for each request of a route: a clone of it becomes the request's extensions.
pub(super) fn facts(route_match: &RouteMatch, policy: &Policy) -> Extensions {
    let mut facts = roomy();
    facts.insert(route_match.clone());
    if let Some(lane) = &policy.lane {
        facts.insert(lane.clone());
    }
    if let Some(criticality) = policy.criticality {
        facts.insert(criticality);
    }
    if let Some(upstream) = &policy.upstream {
        facts.insert(upstream.clone());
    }
    if let Some(timeouts) = policy.timeouts {
        facts.insert(timeouts);
    }
    if policy.pass_error_bodies {
        facts.insert(PassErrorBodies);
    }
    facts
}

/// Extensions with room for a route's facts and for what the server and the other stages put there.
///
/// There is no way to ask for room, but entries that are removed leave theirs behind, and a clone has as much. Without
/// it the extensions of nearly each request would grow on the way: one more allocation, and a move of all entries.
fn roomy() -> Extensions {
    #[derive(Clone)]
    struct Room<const N: u8>;
    let mut extensions = Extensions::new();
    macro_rules! fill {
        ($($n:literal)*) => { $( extensions.insert(Room::<$n>); )* };
    }
    fill!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
    extensions.clear();
    extensions
}

#[cfg(test)]
mod tests {
    use gw_core::context::{Criticality, Lane, UpstreamName};

    use super::*;
    use crate::timeouts::Timeouts;

    #[test]
    fn a_clone_takes_eight_entries_more_without_growing() {
        let policy = Policy {
            upstream: Some(UpstreamName::new("orders")),
            lane: Some(Lane::new("core")),
            criticality: Some(Criticality::default()),
            timeouts: Some(Timeouts::default()),
            pass_error_bodies: true,
            ..Policy::default()
        };
        let facts = facts(&RouteMatch::new(0, "all", "/"), &policy);
        assert_eq!(facts.len(), 6);
        let mut clone = facts.clone();
        // Without a size, so that nothing but the room for it can be allocated.
        #[derive(Clone)]
        struct Entry<const N: u8>;
        let used = allocation_counter::measure(|| {
            clone.insert(Entry::<0>);
            clone.insert(Entry::<1>);
            clone.insert(Entry::<2>);
            clone.insert(Entry::<3>);
            clone.insert(Entry::<4>);
            clone.insert(Entry::<5>);
            clone.insert(Entry::<6>);
            clone.insert(Entry::<7>);
        });
        assert_eq!((clone.len(), used.count_total), (14, 0));
    }
}
