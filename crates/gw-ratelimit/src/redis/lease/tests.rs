use proptest::prelude::*;

use super::*;
use crate::algorithm::Algorithm;
use crate::quota::Quota;
use crate::redis::receipt::Paid;
use crate::redis::script::Seen;

const SECOND: u64 = 1_000_000_000;

fn gcra(rate: u32, burst: u32) -> Gcra {
    Gcra::new(Quota::per_second(rate).burst(burst)).unwrap()
}

/// An answer at time 0 of the store's clock, with the key's debt in seconds.
fn granted(debt: u64, leased: u32) -> Grant {
    Grant {
        debt: debt * SECOND,
        leased,
        clock: 0,
        limited: false,
        origin: Origin::default(),
    }
}

fn refused(debt: u64) -> Grant {
    Grant {
        limited: true,
        ..granted(debt, 0)
    }
}

/// A request that lacks one cell.
const fn asked(extra: u32, sent: u64) -> Asked {
    Asked {
        cost: 1,
        extra,
        sent,
    }
}

/// Who pays nothing.
const fn looked(sent: u64) -> Asked {
    Asked {
        cost: 0,
        extra: 0,
        sent,
    }
}

/// One that was told at one second what [`granted`] says.
fn told(gcra: &Gcra, debt: u64, leased: u32) -> Lease {
    let mut lease = Lease::default();
    lease.told(gcra, asked(leased, SECOND), granted(debt, leased), SECOND);
    lease
}

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

/// Story: an answer to who only looks counted as one to who pays. Cells were asked for as if the last ones had been used up, and
/// those that nobody spent were kept.
#[test]
fn answers_to_who_pays_nothing_lease_nothing_and_keep_nothing() {
    let gcra = gcra(10, 80);
    let mut lease = Lease::default();
    let look = |lease: &mut Lease, now| lease.told(&gcra, looked(now), granted(0, 0), now);
    let mut wanted = Vec::new();
    for tenth in 10..310 {
        let now = tenth * SECOND / 10;
        look(&mut lease, now);
        if tenth % 50 == 0 {
            let extra = lease.extra(&gcra, 20, now);
            lease.told(&gcra, asked(extra, now), granted(1, extra), now);
            wanted.push(extra);
        }
    }
    assert_eq!(wanted, [0; 6]);

    let mut lease = told(&gcra, 5, 5);
    look(&mut lease, 2 * SECOND);
    assert!(!lease.is_stale(2 * SECOND) && lease.is_fresh(3 * SECOND));
    assert!(lease.is_stale(2 * SECOND + 1));
}

#[test]
fn a_refusal_is_remembered_until_its_wait_is_over() {
    let gcra = gcra(1, 2);
    let mut lease = Lease::default();
    lease.told(&gcra, asked(0, SECOND), granted(2, 0), SECOND + 5);
    let wait = |now| match lease.decide(&gcra, 1, now) {
        Verdict::Deny { wait, .. } => wait,
        Verdict::Allow { .. } | Verdict::DenyForever { .. } => 0,
    };
    assert_eq!(wait(SECOND), SECOND);
    assert_eq!(wait(2 * SECOND - 1), 1);
    assert_eq!(wait(2 * SECOND), 0);
}

#[test]
fn who_refused_is_not_asked_again_at_once() {
    let gcra = gcra(1_000, 100);
    let mut lease = Lease::default();
    let full = Grant {
        debt: gcra.tolerance(),
        ..refused(0)
    };
    lease.told(&gcra, asked(4, SECOND), full, SECOND);
    // A cell is back after a millisecond.
    let verdict = lease.decide(&gcra, 1, SECOND + SECOND / 1_000);
    let pause = Lease::PAUSE.as_nanos() as u64;
    let Verdict::Deny { wait, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(wait, pause - SECOND / 1_000);
    let verdict = lease.decide(&gcra, 1, SECOND + pause);
    assert!(matches!(verdict, Verdict::Allow { .. }));
}

#[test]
fn cells_are_lost_when_they_begin() {
    let gcra = gcra(1, 10);
    let lease = told(&gcra, 5, 5);
    let held: Vec<_> = (1..8)
        .map(|second| lease.available(second * SECOND))
        .collect();
    assert_eq!(held, [5, 4, 3, 2, 1, 0, 0]);
    assert_eq!(lease.available(SECOND + 1), 4);
}

#[test]
fn what_is_put_back_is_not_there_twice() {
    let gcra = gcra(1, 10);
    let mut lease = told(&gcra, 5, 5);
    let one = lease.spend(&gcra, 2, SECOND);
    lease.put_back(one);
    assert_eq!(lease.available(SECOND), 5);
    // With another one's cells taken behind them, they are lost.
    let one = lease.spend(&gcra, 2, SECOND);
    let other = lease.spend(&gcra, 1, SECOND);
    lease.put_back(one);
    assert_eq!(lease.available(SECOND), 2);
    lease.put_back(other);
    assert_eq!(lease.available(SECOND), 3);
}

/// Story: what had been given back still counted as debt here. For a second, requests were refused that the store had room for.
#[test]
fn what_was_given_back_is_not_owed_here_either() {
    let gcra = gcra(1, 20);
    let mut lease = told(&gcra, 15, 5);
    let left = lease.balance(SECOND);
    let given = lease.take_unspent(SECOND);
    assert_eq!(given.map(|cells| cells.end - cells.start), Some(5 * SECOND));
    assert_eq!(lease.balance(SECOND), left);
    let verdict = lease.decide(&gcra, 10, SECOND);
    assert!(matches!(verdict, Verdict::Allow { .. }), "{verdict:?}");
    let verdict = lease.decide(&gcra, 11, SECOND);
    assert!(matches!(verdict, Verdict::Deny { .. }), "{verdict:?}");
}

#[test]
fn cells_of_an_old_quota_are_not_spent_under_a_new_one() {
    let (old, new) = (gcra(1, 10), gcra(10, 10));
    let mut lease = told(&old, 5, 5);
    assert_eq!(lease.spend(&new, 1, SECOND).cells(), 0);
    assert_eq!(lease.available(SECOND), 0);
}

#[test]
fn cells_of_a_larger_burst_are_not_spent_under_a_smaller_one() {
    let (old, new) = (gcra(1, 10), gcra(1, 2));
    let mut lease = told(&old, 8, 5);
    // They begin three seconds from now at the earliest: the smaller burst reaches no further than two.
    assert!(matches!(
        lease.decide(&new, 1, SECOND),
        Verdict::Deny { .. }
    ));
    assert_eq!(lease.spend(&new, 1, SECOND).cells(), 0);
    // As time goes on it reaches some of them, and never more at once than it is.
    let later = 4 * SECOND;
    assert!(matches!(
        lease.decide(&new, 2, later),
        Verdict::Allow { .. }
    ));
    assert_eq!(lease.spend(&new, 5, later).cells(), 2);
    assert_eq!(lease.spend(&new, 1, later).cells(), 0);
    // Nor are they lost to who has the larger one.
    assert_eq!(lease.spend(&old, 5, later).cells(), 3);
}

#[test]
fn a_refusal_for_long_is_asked_for_again_now_and_then() {
    let gcra = gcra(1, 7_200);
    let mut lease = Lease::default();
    lease.told(&gcra, asked(0, SECOND), refused(7_200), SECOND);
    let is_known = |lease: &Lease, now| {
        let verdict = lease.decide(&gcra, 3_600, now);
        matches!(verdict, Verdict::Deny { .. })
    };
    let memory = Lease::MEMORY.as_nanos() as u64;
    assert!(is_known(&lease, SECOND + memory));
    // The key may have been freed elsewhere meanwhile.
    assert!(!is_known(&lease, SECOND + memory + 1));
    lease.told(&gcra, asked(0, 3 * SECOND), refused(7_200), 3 * SECOND);
    assert!(is_known(&lease, 3 * SECOND));
}

#[test]
fn spent_cells_are_charged_where_they_lie() {
    let gcra = gcra(1, 10);
    let mut lease = Lease::default();
    let grant = |debt, refunded| Grant {
        clock: 1_000 * SECOND,
        origin: Origin { born: 9, refunded },
        ..granted(debt, 2)
    };
    lease.told(&gcra, asked(2, SECOND), grant(3, 0), SECOND);
    // One cell before them is taken back, and so they move.
    lease.told(&gcra, asked(2, SECOND), grant(4, SECOND), SECOND);
    let spent = lease.spend(&gcra, 3, SECOND);
    let told = spent.receipts(&gcra);
    for (receipt, (after, cells, stood_on)) in told.into_iter().zip([(1_002, 2, 0), (1_003, 1, 2)])
    {
        assert_eq!((receipt.after, receipt.cells), (after * SECOND, cells));
        assert_eq!(receipt.stood_on, stood_on * SECOND);
        assert_eq!((receipt.born, receipt.refunded), (9, SECOND));
    }
}

/// Story: each spend of a lease stood on what the lease stood on and no more. Of what was taken back below the later ones the rest
/// did not count, and cells whose time was over were given back with them.
#[test]
fn cells_of_one_lease_stand_on_those_before_them() {
    let gcra = gcra(1, 100);
    let mut lease = told(&gcra, 9, 8);
    let mut stood_on = |now| {
        let [receipt, _] = lease.spend(&gcra, 2, now).receipts(&gcra);
        receipt.stood_on / SECOND
    };
    assert_eq!([SECOND, SECOND, 2 * SECOND].map(&mut stood_on), [1, 3, 5]);
    // What ran off unspent was there as well.
    assert_eq!(stood_on(9 * SECOND), 8);
}
