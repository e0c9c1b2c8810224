use super::baseline::Mean;

/// A time in which answers take too long, and the limit goes down.
///
/// Going down is an experiment: if requests queue, answers take less long with fewer of them. If half of them take as
/// long as all did, it is not that they queue, and to refuse more would only refuse more. So a latency that does not
/// follow halves the limit once, and not again until the latency is good.
#[derive(Debug, Clone)]
pub(super) struct Episode {
    /// Where it began.
    top: f64,
    /// Where it was last seen that going down helps, or where it began.
    limit: f64,
    /// The latency there.
    high: Mean,
    /// The latency at half of it.
    low: Mean,
    /// Samples of good latency since.
    good: u32,
    futile: bool,
}

/// What an episode says to a latency that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The limit may go down, but not below [`Episode::floor`].
    Shrink,
    /// It stays, and what it does to the latency is measured.
    Measure,
    /// It was seen just now that going down did nothing to the latency.
    Futile,
    /// It stays, since going down did nothing to the latency.
    Hold,
}

impl Episode {
    /// So many samples make a mean.
    const SAMPLES: f64 = 50.0;
    /// The latency fell as the limit did: the least power of the limit's ratio. If it fell by less there was a queue, and
    /// at half the limit there is none any more.
    const FALL: f64 = 0.75;

    pub(super) fn new(limit: f64) -> Self {
        Self {
            top: limit,
            limit,
            high: Mean::default(),
            low: Mean::default(),
            good: 0,
            futile: false,
        }
    }

    /// The limit does not go below.
    pub(super) fn floor(&self) -> f64 {
        self.limit / 2.0
    }

    /// Where it began.
    pub(super) const fn top(&self) -> f64 {
        self.top
    }

    pub(super) const fn is_futile(&self) -> bool {
        self.futile
    }

    /// Notes a latency that is too long, at this limit.
    pub(super) fn too_long(&mut self, limit: f64, latency: f64, samples: u32) -> Verdict {
        self.good = 0;
        if limit > self.floor() {
            if limit >= 0.8 * self.limit {
                self.high.add(latency, samples);
            }
            return Verdict::Shrink;
        }
        if self.futile {
            return Verdict::Hold;
        }
        self.low.add(latency, samples);
        if self.low.samples() < Self::SAMPLES {
            return Verdict::Measure;
        }
        let fell = self
            .high
            .value()
            .zip(self.low.value())
            .is_none_or(|(high, low)| (high / low).log2() >= Self::FALL);
        if fell {
            let top = self.top;
            *self = Self {
                top,
                ..Self::new(limit)
            };
            return Verdict::Shrink;
        }
        self.futile = true;
        Verdict::Futile
    }

    /// Notes a latency that is good; whether it has been for long enough to end this.
    pub(super) fn good(&mut self, samples: u32) -> bool {
        self.good = self.good.saturating_add(samples);
        f64::from(self.good) >= Self::SAMPLES
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_latency_that_follows_lets_the_limit_go_on() {
        let mut episode = Episode::new(100.0);
        assert_eq!(episode.too_long(100.0, 1.0, 50), Verdict::Shrink);
        assert_eq!(episode.too_long(70.0, 0.7, 50), Verdict::Shrink);
        assert_eq!(episode.too_long(50.0, 0.5, 20), Verdict::Measure);
        assert_eq!(episode.too_long(50.0, 0.5, 30), Verdict::Shrink);
        assert_eq!(episode.floor(), 25.0);
    }

    #[test]
    fn a_latency_that_does_not_follow_halves_it_once() {
        let mut episode = Episode::new(100.0);
        assert_eq!(episode.too_long(100.0, 1.0, 50), Verdict::Shrink);
        assert_eq!(episode.too_long(50.0, 0.9, 50), Verdict::Futile);
        assert!(episode.is_futile());
        // It is worse, and still this lane cannot help it.
        assert_eq!(episode.too_long(50.0, 9.0, 50), Verdict::Hold);
        // What it has won meanwhile may be taken back.
        assert_eq!(episode.too_long(60.0, 9.0, 50), Verdict::Shrink);
        assert!(!episode.good(49));
        assert_eq!(episode.too_long(50.0, 1.0, 50), Verdict::Hold);
        assert!(!episode.good(49));
        assert!(episode.good(1));
    }
}
