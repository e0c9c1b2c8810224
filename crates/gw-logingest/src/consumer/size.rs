//! How large a request may be.

/// How many full requests in a row the sink must take before it is asked whether it takes a larger one, and how many at the
/// most: each refusal of a larger one doubles the number.
const PATIENCE: std::ops::RangeInclusive<u32> = 64..=4096;

/// The most bytes of a request, as far as the sink lets know. Halved when it refuses one as too large. Later one request at a time
/// may be a quarter larger; what the sink took is the new limit. So a limit that was raised on the sink's side is found, and
/// one that was not costs one refused request in thousands. Pure: what was seen is passed in.
#[derive(Debug)]
pub(super) struct Size {
    most: usize,
    limit: usize,
    /// Full requests that were taken since the limit changed, or a larger one was sent.
    full: u32,
    patience: u32,
}

/// What held for a request when it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    limit: usize,
    bytes: usize,
    /// It is larger than the limit, to see whether it is taken.
    probes: bool,
}

impl Size {
    /// A request at most this large that is refused as too large tells of a wrong configuration, not of a large event.
    pub(super) const SMALL: usize = 8 * 1024;

    /// The most that may be configured. Without a bound, all that waits on disk could be taken into memory.
    pub(super) const LARGEST: usize = 1 << 30;

    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            limit: most,
            full: 0,
            patience: *PATIENCE.start(),
        }
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// The most bytes of the next request.
    pub(super) fn next(&self) -> usize {
        match self.limit < self.most && self.full >= self.patience {
            true => self.limit.saturating_add(self.limit / 4).min(self.most),
            false => self.limit,
        }
    }

    /// A request of so many bytes is sent, cut by what was the [`next`](Self::next) size.
    pub(super) fn sent(&mut self, bytes: usize) -> Sent {
        // A single event may be larger than all that is allowed.
        let probes = self.limit < bytes && bytes <= self.next();
        if probes {
            self.full = 0;
        }
        Sent {
            limit: self.limit,
            bytes,
            probes,
        }
    }

    /// The sink took it. `full` says whether its size was what kept more from going with it.
    pub(super) fn taken(&mut self, sent: Sent, full: bool) {
        // What was sent under another limit says nothing about this one.
        if sent.limit != self.limit {
            return;
        }
        if sent.probes {
            // It may have been smaller than it was allowed to be.
            self.limit = sent.bytes;
            self.patience = *PATIENCE.start();
        } else if full {
            self.full = self.full.saturating_add(1);
        }
    }

    /// It was too large. Returns whether the limit is lower now.
    pub(super) fn too_large(&mut self, sent: Sent) -> bool {
        if sent.probes {
            self.patience = self.patience.saturating_mul(2).min(*PATIENCE.end());
            return false;
        }
        let limit = self.limit.min((sent.bytes / 2).max(Self::SMALL));
        self.full = 0;
        std::mem::replace(&mut self.limit, limit) > limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: usize = *PATIENCE.start() as usize;

    /// Sends a request that is as large as it may be to a sink that takes so much; returns its size if it was refused.
    fn send(size: &mut Size, takes: usize) -> Option<usize> {
        let bytes = size.next();
        let sent = size.sent(bytes);
        if bytes > takes {
            size.too_large(sent);
            return Some(bytes);
        }
        size.taken(sent, true);
        None
    }

    /// Sends so many; returns the sizes that were refused.
    fn run(size: &mut Size, takes: usize, requests: usize) -> Vec<usize> {
        (0..requests).filter_map(|_| send(size, takes)).collect()
    }

    #[test]
    fn the_limit_of_the_sink_is_learned_by_halving() {
        let mut size = Size::new(1_000_000);
        for (bytes, limit) in [
            (600_000, 300_000),
            (800_000, 300_000),
            (10_000, Size::SMALL),
        ] {
            let sent = Sent {
                limit: size.limit(),
                bytes,
                probes: false,
            };
            assert_eq!(size.too_large(sent), bytes != 800_000);
            assert_eq!(size.limit(), limit);
        }
    }

    #[test]
    fn a_limit_that_was_raised_is_found_again() {
        let mut size = Size::new(1_000_000);
        run(&mut size, 100_000, 10);
        assert_eq!(size.limit(), 62_500);
        assert!(run(&mut size, 10_000_000, 14 * (FIRST + 1)).is_empty());
        assert_eq!(size.limit(), 1_000_000);
        // There is nothing beyond it.
        assert!(run(&mut size, 1_000_000, 10 * FIRST).is_empty());
    }

    #[test]
    fn one_that_was_not_costs_less_and_less() {
        let mut size = Size::new(1_000_000);
        run(&mut size, 100_000, 10);
        let refused = run(&mut size, 100_000, 100_000);
        // 78 KB, 98 KB, and then 122 KB again and again.
        assert_eq!(size.limit(), 97_656);
        assert!(refused.iter().all(|bytes| *bytes == 122_070));
        // Between two of them are 128, 256, 512, 1024, 2048 that are taken, and then each time 4096.
        assert_eq!(refused.len(), 7 + (100_000 - 8_259) / 4_097);
    }

    #[test]
    fn only_one_request_at_a_time_is_larger() {
        let mut size = Size::new(1_000_000);
        run(&mut size, 500_000, 1 + FIRST);
        assert_eq!((size.limit(), size.next()), (500_000, 625_000));
        let larger = size.sent(625_000);
        assert_eq!(size.next(), 500_000);
        // Those that go beside it leave its lesson to it.
        let beside = size.sent(500_000);
        size.taken(beside, true);
        assert_eq!(size.limit(), 500_000);
        size.taken(larger, true);
        assert_eq!(size.limit(), 625_000);
    }

    #[test]
    fn what_was_taken_is_the_limit_and_not_what_might_have_been() {
        let mut size = Size::new(1_000_000);
        run(&mut size, 500_000, 1 + FIRST);
        let larger = size.sent(505_000);
        size.taken(larger, false);
        assert_eq!(size.limit(), 505_000);
    }

    #[test]
    fn what_does_not_fill_a_request_asks_for_no_larger_one() {
        let mut size = Size::new(1_000_000);
        run(&mut size, 500_000, 1);
        for _ in 0..10 * FIRST {
            let sent = size.sent(400_000);
            size.taken(sent, false);
        }
        assert_eq!(size.next(), 500_000);
        // And a request that turns out small when a larger one is due leaves it so.
        run(&mut size, 500_000, FIRST);
        assert_eq!(size.next(), 625_000);
        let sent = size.sent(400_000);
        size.taken(sent, false);
        assert_eq!((size.limit(), size.next()), (500_000, 625_000));
    }

    #[test]
    fn what_was_sent_under_a_higher_limit_does_not_bring_it_back() {
        let mut size = Size::new(1_000_000);
        run(&mut size, 500_000, 1 + FIRST);
        let larger = size.sent(625_000);
        let refused = size.sent(500_000);
        assert!(size.too_large(refused));
        size.taken(larger, true);
        assert_eq!(size.limit(), 250_000);
    }

    proptest! {
        #[test]
        fn stays_between_the_least_and_the_most(
            most in Size::SMALL..2_000_000,
            steps in prop::collection::vec((0..4u8, 1..3_000_000usize), 1..2_000),
        ) {
            let mut size = Size::new(most);
            let mut under_way = Vec::new();
            for (kind, bytes) in steps {
                match kind {
                    0 => {
                        let bytes = size.next().min(bytes);
                        under_way.push(size.sent(bytes));
                    }
                    1 => { under_way.pop().map(|sent| size.too_large(sent)); }
                    // Enough of them that larger ones are due.
                    _ => for _ in 0..bytes % 100 {
                        let sent = size.sent(size.next());
                        size.taken(sent, true);
                    },
                }
                prop_assert!((Size::SMALL..=most).contains(&size.limit()));
                prop_assert!((size.limit()..=most).contains(&size.next()));
            }
        }
    }
}
