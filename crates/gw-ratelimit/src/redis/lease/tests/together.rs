//! Instances together, at one store.

use proptest::prelude::*;

use super::*;

/// A request that was let pass, or the part of it that was paid at once.
struct Admitted {
    now: u64,
    cost: u32,
    paid: Paid,
}

/// Redis, and instances whose questions take their time on the way there and back.
struct World {
    gcra: Gcra,
    most: u32,
    /// The store's clock is ahead of all others.
    ahead: u64,
    tat: u64,
    origin: Origin,
    leases: Vec<Lease>,
    /// In their order, but for those that were given back.
    admitted: Vec<Admitted>,
    over: u64,
}

impl World {
    fn new(gcra: Gcra, most: u32, instances: usize) -> Self {
        Self {
            gcra,
            most,
            ahead: 1_000 * SECOND,
            tat: 0,
            origin: Origin::default(),
            leases: vec![Lease::default(); instances],
            admitted: Vec::new(),
            over: 0,
        }
    }

    /// Looks how far all that was admitted is above the burst, in cells, rounded up: what a leaky bucket says that knows of nothing
    /// that was given back.
    fn admit(&mut self, now: u64, cost: u32, paid: Paid) {
        self.admitted.push(Admitted { now, cost, paid });
        let fill = |tat: u64, one: &Admitted| tat.max(one.now) + self.gcra.cost(one.cost);
        let tat = self.admitted.iter().fold(0, fill);
        let over = tat.saturating_sub(now + self.gcra.tolerance());
        self.over = self.over.max(over.div_ceil(self.gcra.interval()));
    }

    fn count(&self) -> u32 {
        self.admitted.iter().map(|one| one.cost).sum()
    }

    /// One request that begins at `now`; the store decides `there` later and the answer is back `back` after that.
    fn request(&mut self, instance: usize, cost: u32, now: u64, there: u64, back: u64) {
        let Self { gcra, most, .. } = *self;
        let algorithm = Algorithm::Gcra(gcra);
        let lease = &mut self.leases[instance];
        match lease.decide(&gcra, cost, now) {
            Verdict::Allow { .. } => {}
            _ => return,
        }
        let spent = lease.spend(&gcra, cost, now);
        let [first, spare] = spent.receipts(&gcra);
        let lacking = cost - spent.cells();
        let leased = Paid::new(&algorithm, &[first, spare, Receipt::default()]);
        if lacking == 0 {
            return self.admit(now, cost, leased);
        }
        let extra = lease.extra(&gcra, most, now);
        let clock = self.read_at(now + there);
        let (verdict, more) = grant(&gcra, self.tat, clock, lacking, extra);
        let allowed = match verdict {
            Verdict::Allow { state } => {
                self.tat = state;
                true
            }
            Verdict::Deny { .. } | Verdict::DenyForever { .. } => false,
        };
        let grant = self.grant(clock, more, !allowed);
        let lease = &mut self.leases[instance];
        let asked = Asked {
            cost: lacking,
            extra,
            sent: now,
        };
        lease.told(&gcra, asked, grant, now + there + back);
        if allowed {
            let seen = Seen::Rate {
                debt: grant.debt,
                leased: more,
                origin: grant.origin,
            };
            self.admit(now, cost - lacking, leased);
            let mut own = Paid::default();
            own.add(algorithm, Receipt::of(&algorithm, &seen, clock, lacking));
            self.admit(now + there, lacking, own);
        } else {
            lease.put_back(spent);
        }
    }

    /// The store's clock. Its key is new if it has no debt.
    fn read_at(&mut self, now: u64) -> u64 {
        let clock = now + self.ahead;
        if self.tat <= clock {
            self.origin = Origin {
                born: clock,
                refunded: 0,
            };
        }
        clock
    }

    fn grant(&self, clock: u64, leased: u32, limited: bool) -> Grant {
        Grant {
            debt: self.tat.saturating_sub(clock),
            leased,
            clock,
            limited,
            origin: self.origin,
        }
    }

    fn give_back(&mut self, instance: usize, now: u64) {
        if let Some(cells) = self.leases[instance].take_unspent(now)
            && self.tat == cells.end
        {
            self.tat = cells.start;
        }
    }

    /// Takes back what a request paid, as the script does, and tells all instances of it.
    fn refund(&mut self, which: usize, now: u64, there: u64, back: u64) {
        let mut one = self.admitted.remove(which);
        let clock = self.read_at(now + there);
        for (_, receipt, cells) in one.paid.take(u32::MAX) {
            if receipt.born != self.origin.born {
                continue;
            }
            let cost = self.gcra.cost(cells);
            let since = self.origin.refunded.saturating_sub(receipt.refunded);
            let began = receipt.after - cost;
            let run_off = (clock + since.min(receipt.stood_on)).saturating_sub(began);
            self.tat -= cost.saturating_sub(run_off);
            self.origin.refunded += cost;
        }
        let (gcra, grant) = (self.gcra, self.grant(clock, 0, false));
        for lease in &mut self.leases {
            lease.told(&gcra, looked(now), grant, now + there + back);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Requests {
        instance: usize,
        times: usize,
        cost: u32,
        there: f64,
        back: f64,
    },
    GiveBack {
        instance: usize,
    },
    Refunds {
        /// How many were admitted after the first of them.
        after: usize,
        times: usize,
        there: f64,
        back: f64,
    },
}

/// Steps and how long they come after the one before, in cells' costs.
fn steps() -> impl Strategy<Value = Vec<(f64, Step)>> {
    let pause = prop_oneof![6 => Just(0.0), 3 => 0.0..2.0, 2 => 0.0..40.0, 1 => 0.0..200.0];
    let way = || prop_oneof![3 => Just(0.0), 1 => 0.0..3.0];
    let times = || prop_oneof![1 => Just(1usize), 1 => 1..60usize];
    let cost = prop_oneof![5 => Just(1u32), 1 => 0..6u32];
    let requests = (0..4usize, times(), cost, way(), way()).prop_map(
        |(instance, times, cost, there, back)| Step::Requests {
            instance,
            times,
            cost,
            there,
            back,
        },
    );
    let give_back = (0..4usize).prop_map(|instance| Step::GiveBack { instance });
    let refunds =
        (0..8usize, times(), way(), way()).prop_map(|(after, times, there, back)| Step::Refunds {
            after,
            times,
            there,
            back,
        });
    let step = prop_oneof![9 => requests, 1 => give_back, 3 => refunds];
    prop::collection::vec((pause, step), 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is leased, spent late, put back, given back and taken back: what passes would have passed one exact bucket.
    #[test]
    fn instances_together_never_admit_what_one_bucket_refuses(
        rate in 1..2_000u32,
        burst in prop_oneof![1 => 1..200u32, 1 => 10..60u32],
        most in 1..100u32,
        steps in steps(),
    ) {
        let gcra = gcra(rate, burst);
        let mut world = World::new(gcra, most, 4);
        let mut now = SECOND;
        let nanos = |cells: f64| (cells * gcra.interval() as f64) as u64;
        for (pause, step) in steps {
            now += nanos(pause);
            match step {
                // One after the other: the next begins when this one is answered.
                Step::Requests { instance, times, cost, there, back } => for _ in 0..times {
                    world.request(instance, cost, now, nanos(there), nanos(back));
                    now += nanos(there) + nanos(back);
                },
                Step::GiveBack { instance } => world.give_back(instance, now),
                Step::Refunds { after, times, there, back } => for _ in 0..times {
                    let Some(which) = world.admitted.len().checked_sub(after + 1) else {
                        break;
                    };
                    world.refund(which, now, nanos(there), nanos(back));
                    now += nanos(there) + nanos(back);
                },
            }
            prop_assert_eq!(world.over, 0);
        }
    }
}

/// Story: what an instance held stayed where it was when debt below it was given back. It was spent long after the store had no
/// debt any more, and on top of a whole burst.
#[test]
fn cells_do_not_outlast_debt_that_was_given_back() {
    let mut world = World::new(gcra(100, 200), 20, 1);
    while world.leases[0].available(SECOND) < 20 {
        world.request(0, 1, SECOND, 0, 0);
    }
    while let Some(last) = world.admitted.len().checked_sub(1) {
        world.refund(last, SECOND, 0, 0);
    }
    // The debt that is left has run off. What was before them would not have yet.
    let later = SECOND + SECOND / 4;
    assert_eq!(world.leases[0].available(later), 0);
    for _ in 0..300 {
        world.request(0, 1, later, 0, 0);
    }
    assert_eq!((world.count(), world.over), (200, 0));
}

#[test]
fn cells_of_a_key_that_was_freed_are_gone_once_that_is_told() {
    let gcra = gcra(1, 10);
    let mut lease = told(&gcra, 5, 5);
    let freed = Grant {
        origin: Origin {
            born: 7,
            refunded: 0,
        },
        ..granted(1, 0)
    };
    lease.told(&gcra, looked(SECOND), freed, SECOND);
    assert_eq!(lease.available(SECOND), 0);
}

#[test]
fn who_comes_once_holds_nothing() {
    let gcra = gcra(10, 10);
    let mut world = World::new(gcra, 8, 10);
    // A client whose requests each go to another instance has its whole burst.
    for instance in 0..10 {
        world.request(instance, 1, SECOND, 0, 0);
    }
    assert_eq!(world.count(), 10);
}

#[test]
fn leases_grow_while_they_are_used_up() {
    let gcra = gcra(1_000, 1_000);
    let mut world = World::new(gcra, 8, 1);
    let mut held = Vec::new();
    for _ in 0..20 {
        world.request(0, 1, SECOND, 0, 0);
        held.push(world.leases[0].available(SECOND));
    }
    assert_eq!(held[..9], [0, 1, 0, 2, 1, 0, 4, 3, 2]);
    assert_eq!(world.leases[0].size, 8);
    // After a pause, less is asked for.
    let later = 100 * SECOND;
    assert_eq!(world.leases[0].extra(&gcra, 8, later), 2);
}
