use gw_core::context::Criticality;

/// Whose turn it is when a place can be had by more than one lane.
///
/// Each turn of a lane costs it time, the less the more critical it is; the lane that has used the least goes first. So
/// lanes that wait all the time get places in the ratio of their weights, and none waits for ever. That is start-time
/// fair queueing, with requests of equal size.
///
/// Time that a lane did not use is not saved up: not by lanes in which nobody waits, and not by those that may not have
/// the place at hand.
#[derive(Debug)]
pub(super) struct Turns {
    /// The start of the turn that was given last.
    clock: u64,
    lanes: Box<[Turn]>,
    served: u64,
}

#[derive(Debug)]
struct Turn {
    /// When the lane's next turn starts.
    next: u64,
    cost: u64,
    /// When it was served last, for ties.
    last: u64,
}

/// A set of lanes, by place: there are no more than 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LaneSet(u64);

impl LaneSet {
    pub(super) const fn insert(&mut self, lane: usize) {
        self.0 |= 1 << lane;
    }

    pub(super) const fn remove(&mut self, lane: usize) {
        self.0 &= !(1 << lane);
    }

    pub(super) const fn contains(self, lane: usize) -> bool {
        self.0 & (1 << lane) != 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |lane| self.contains(*lane))
    }
}

/// A lane gets four places where one of the next lower criticality gets one.
const fn cost(criticality: Criticality) -> u64 {
    match criticality {
        Criticality::CriticalPlus => 1,
        Criticality::Critical => 4,
        Criticality::SheddablePlus => 16,
        Criticality::Sheddable => 64,
    }
}

impl Turns {
    pub(super) fn new(lanes: impl IntoIterator<Item = Criticality>) -> Self {
        let turn = |criticality| Turn {
            next: 0,
            cost: cost(criticality),
            last: 0,
        };
        Self {
            clock: 0,
            lanes: lanes.into_iter().map(turn).collect(),
            served: 0,
        }
    }

    /// Somebody waits in a lane in which nobody did.
    pub(super) fn begin(&mut self, lane: usize) {
        let clock = self.clock;
        if let Some(turn) = self.lanes.get_mut(lane) {
            turn.next = turn.next.max(clock);
        }
    }

    /// The lane that goes first among some: of equals the more critical one, and then the one served longest ago.
    pub(super) fn first(&self, among: LaneSet) -> Option<usize> {
        let turns = self.lanes.iter().enumerate();
        turns
            .filter(|(lane, _)| among.contains(*lane))
            .min_by_key(|(_, turn)| (turn.next, turn.cost, turn.last))
            .map(|(lane, _)| lane)
    }

    /// A lane has had its turn, which those in `over` came before and could not use.
    pub(super) fn served(&mut self, lane: usize, over: LaneSet) {
        self.served += 1;
        let Some(turn) = self.lanes.get_mut(lane) else {
            return;
        };
        self.clock = turn.next;
        turn.next += turn.cost;
        turn.last = self.served;
        for over in over.iter() {
            self.begin(over);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};
    use proptest::prelude::*;

    use super::*;

    fn set(lanes: &[usize]) -> LaneSet {
        let mut set = LaneSet::default();
        lanes.iter().for_each(|lane| set.insert(*lane));
        set
    }

    fn serve(turns: &mut Turns, among: LaneSet) -> usize {
        let lane = turns.first(among).unwrap();
        turns.served(lane, LaneSet::default());
        lane
    }

    fn counts(turns: &mut Turns, among: LaneSet, times: usize) -> [usize; 4] {
        let mut counts = [0; 4];
        (0..times).for_each(|_| counts[serve(turns, among)] += 1);
        counts
    }

    #[test]
    fn places_come_in_the_ratio_of_the_weights() {
        let mut turns = Turns::new([Sheddable, SheddablePlus, Critical, CriticalPlus]);
        assert_eq!(counts(&mut turns, set(&[0, 1, 2, 3]), 85), [1, 4, 16, 64]);
        assert_eq!(counts(&mut turns, set(&[0, 1]), 50), [10, 40, 0, 0]);
    }

    #[test]
    fn equals_take_turns() {
        let mut turns = Turns::new([Critical; 3]);
        let order: Vec<_> = (0..6).map(|_| serve(&mut turns, set(&[0, 1, 2]))).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn time_is_not_saved_up() {
        let mut turns = Turns::new([Critical, Critical]);
        (0..100).for_each(|_| _ = serve(&mut turns, set(&[0])));
        turns.begin(1);
        assert_eq!(counts(&mut turns, set(&[0, 1]), 10), [5, 5, 0, 0]);
        // In front all the time, and at its cap.
        (0..100).for_each(|_| turns.served(0, set(&[1])));
        let [first, second, ..] = counts(&mut turns, set(&[0, 1]), 10);
        assert!((4..=6).contains(&first) && first + second == 10);
    }

    proptest! {
        /// Whatever happened before: lanes that wait from here on get what their weights say, to within one turn each.
        #[test]
        fn nobody_starves(
            before in prop::collection::vec((1..16u64, 0..16u64), 0..200),
            among in 1..16u64,
            times in 1..400u64,
        ) {
            let mut turns = Turns::new([Sheddable, SheddablePlus, Critical, CriticalPlus]);
            let mut waited = LaneSet::default();
            for (waits, blocked) in before {
                let waits = LaneSet(waits);
                waits.iter().filter(|lane| !waited.contains(*lane)).for_each(|lane| turns.begin(lane));
                waited = waits;
                // In order, as the line does: those in front that are blocked are passed over.
                let (mut left, mut over) = (waits, LaneSet::default());
                while let Some(lane) = turns.first(left) {
                    left.remove(lane);
                    if blocked & (1 << lane) == 0 {
                        turns.served(lane, over);
                        break;
                    }
                    over.insert(lane);
                }
            }
            let among = LaneSet(among);
            among.iter().filter(|lane| !waited.contains(*lane)).for_each(|lane| turns.begin(lane));
            let mut counts = [0u64; 4];
            (0..times).for_each(|_| counts[serve(&mut turns, among)] += 1);
            let weights = [1u64, 4, 16, 64];
            let whole: u64 = among.iter().map(|lane| weights[lane]).sum();
            for lane in among.iter() {
                let (got, due) = (counts[lane] as f64, (times * weights[lane]) as f64 / whole as f64);
                // One turn of its own, and one of each other lane that may have gone before it.
                let others: f64 = among.iter().filter(|other| *other != lane).map(|other| weights[lane] as f64 / weights[other] as f64).sum();
                prop_assert!(got + 1.0 + others.max(1.0) >= due, "{counts:?}");
            }
        }
    }
}
