use super::Load;

/// Turns measurements into a [`Load`]: up to what so many in a row are all at the threshold of or above, and down a step
/// when so many are below the lower threshold. Between the two nothing changes, so it does not flutter.
#[derive(Debug)]
pub(super) struct Ladder {
    up: Thresholds,
    down: Thresholds,
    patience: u32,
    load: Load,
    /// How many in a row asked to go up, and the least of them.
    ups: (u32, f64),
    /// How many in a row asked to go down.
    downs: u32,
}

/// One for each load above normal.
pub(super) type Thresholds = [f64; Load::ALL.len() - 1];

impl Ladder {
    pub(super) const fn new(up: Thresholds, down: Thresholds, patience: u32) -> Self {
        Self {
            up,
            down,
            patience,
            load: Load::Normal,
            ups: (0, f64::INFINITY),
            downs: 0,
        }
    }

    /// The load after one more measurement.
    pub(super) fn step(&mut self, measured: f64) -> Load {
        let level = self.load as usize;
        let above = self.up.get(level).is_some_and(|up| measured >= *up);
        let down = level.checked_sub(1).and_then(|below| self.down.get(below));
        let below = down.is_some_and(|down| measured < *down);
        self.ups = match self.ups {
            (ups, least) if above => (ups + 1, least.min(measured)),
            _ => (0, f64::INFINITY),
        };
        self.downs = if below { self.downs + 1 } else { 0 };
        if self.ups.0 >= self.patience {
            let least = self.ups.1;
            self.go(self.up.iter().filter(|up| least >= **up).count());
        } else if self.downs >= self.patience {
            self.go(level.saturating_sub(1));
        }
        self.load
    }

    fn go(&mut self, level: usize) {
        self.load = Load::ALL.get(level).copied().unwrap_or(self.load);
        self.ups = (0, f64::INFINITY);
        self.downs = 0;
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ladder(patience: u32) -> Ladder {
        Ladder::new([0.8, 0.9, 0.95, 0.98], [0.75, 0.85, 0.9, 0.93], patience)
    }

    #[test]
    fn goes_up_at_once_and_down_a_step_at_a_time() {
        let mut ladder = ladder(1);
        let loads = [0.97, 0.92, 0.89, 0.1, 0.1, 0.1, 0.99].map(|used| ladder.step(used) as u8);
        assert_eq!(loads, [3, 3, 2, 1, 0, 0, 4]);
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
            (0..4).for_each(|_| _ = ladder.step(between));
            let before = ladder.load;
            prop_assert!((0..20).all(|_| ladder.step(between) == before));
        }
    }
}
