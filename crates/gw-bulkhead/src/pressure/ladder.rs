use super::Load;

/// Turns measurements into a [`Load`]: a step up when so many in a row are at its threshold or above, a step down when so
/// many are below the lower threshold. Between the two nothing changes, so it does not flutter.
#[derive(Debug)]
pub(super) struct Ladder {
    up: [f64; 3],
    down: [f64; 3],
    patience: u32,
    load: Load,
    /// How many in a row asked for a step up, and down.
    asked: (u32, u32),
}

impl Ladder {
    pub(super) fn new(up: [f64; 3], down: [f64; 3], patience: u32) -> Self {
        Self {
            up,
            down,
            patience,
            load: Load::Normal,
            asked: (0, 0),
        }
    }

    /// The load after one more measurement.
    pub(super) fn step(&mut self, measured: f64) -> Load {
        let level = self.load as usize;
        let above = self.up.get(level).is_some_and(|up| measured >= *up);
        let down = level.checked_sub(1).and_then(|below| self.down.get(below));
        let below = down.is_some_and(|down| measured < *down);
        let (ups, downs) = self.asked;
        self.asked = (
            if above { ups + 1 } else { 0 },
            if below { downs + 1 } else { 0 },
        );
        if self.asked.0 >= self.patience {
            self.go(level + 1);
        } else if self.asked.1 >= self.patience {
            self.go(level.saturating_sub(1));
        }
        self.load
    }

    fn go(&mut self, level: usize) {
        self.load = Load::ALL.get(level).copied().unwrap_or(Load::Extreme);
        self.asked = (0, 0);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ladder(patience: u32) -> Ladder {
        Ladder::new([0.8, 0.9, 0.95], [0.75, 0.85, 0.9], patience)
    }

    #[test]
    fn goes_up_and_down_a_step_at_a_time() {
        let mut ladder = ladder(1);
        let loads =
            [0.97, 0.97, 0.97, 0.97, 0.92, 0.89, 0.1, 0.1, 0.1].map(|used| ladder.step(used) as u8);
        assert_eq!(loads, [1, 2, 3, 3, 3, 2, 1, 0, 0]);
    }

    #[test]
    fn one_exception_starts_the_count_anew() {
        let mut ladder = ladder(3);
        let loads = [0.85, 0.85, 0.1, 0.85, 0.85, 0.85].map(|used| ladder.step(used) as u8);
        assert_eq!(loads, [0, 0, 0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn does_not_flutter_between_its_thresholds(from in prop::collection::vec(0.0..1.0f64, 0..20), between in 0.75..0.8f64) {
            let mut ladder = ladder(1);
            from.iter().for_each(|used| _ = ladder.step(*used));
            (0..3).for_each(|_| _ = ladder.step(between));
            let before = ladder.load;
            prop_assert!((0..20).all(|_| ladder.step(between) == before));
        }
    }
}
