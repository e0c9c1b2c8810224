mod live;

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn zero(budget: BudgetBuilder) -> bool {
    budget.build().unwrap().is_zero()
}

#[tokio::test(start_paused = true)]
async fn a_fifth_but_ten_a_second() {
    let budget = Budget::builder("orders").build().unwrap();
    let now = Instant::now();
    assert_eq!(budget.available(now), 10);
    for _ in 0..75 {
        drop(budget.deposit(now));
    }
    assert_eq!(budget.available(now), 15);
    let mut tickets: Vec<Ticket> = (0..99).map_while(|_| budget.withdraw(now)).collect();
    assert_eq!(tickets.len(), 15);
    tickets.iter_mut().for_each(Ticket::sent);
    drop(tickets);
    // Ten a second there always are, and one after the other they come back.
    assert!(budget.withdraw(now + 99 * MILLI).is_none());
    let mut next = budget.withdraw(now + 100 * MILLI).unwrap();
    next.sent();
    assert!(budget.withdraw(now + 100 * MILLI).is_none());
    assert_eq!(budget.available(now + 9 * SECOND), 10);
    // What the requests brought is over then, and so is what was taken of it.
    assert_eq!(budget.available(now + 11 * SECOND), 10);
}

#[tokio::test(start_paused = true)]
async fn everything_fails_at_once() {
    // Story: 200 calls within half a second, all in vain, sent 140 more. What there always is was there on top of the fifth, and
    // ten seconds of it at once.
    let budget = Budget::builder("orders").build().unwrap();
    let start = Instant::now();
    let mut sent = 0;
    for call in 0..200 {
        let now = start + call * SECOND / 400;
        drop(budget.deposit(now));
        // Each attempt fails, and each call would try a third time.
        while sent < 2 * (call + 1)
            && let Some(mut ticket) = budget.withdraw(now)
        {
            ticket.sent();
            sent += 1;
        }
    }
    assert_eq!(sent, 40);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_comes_back_once() {
    let budget = Budget::builder("orders").ratio(1.0).min_per_second(0);
    let budget = budget.build().unwrap();
    let now = Instant::now();
    drop(budget.deposit(now));
    let ticket = budget.withdraw(now).unwrap();
    assert!(budget.withdraw(now).is_none());
    drop(ticket);
    assert_eq!(budget.available(now), 1);
    // Taken, forgotten with its slot, and given back after that: it is not there twice.
    let ticket = budget.withdraw(now).unwrap();
    let later = now + 11 * SECOND;
    assert_eq!(budget.available(later), 0);
    drop(ticket);
    assert_eq!(budget.available(later), 0);
}

#[tokio::test(start_paused = true)]
async fn of_the_least_too_what_was_not_sent_comes_back_once() {
    let budget = Budget::builder("orders").ratio(0.0).min_per_second(1);
    let budget = budget.build().unwrap();
    let ticket = budget.withdraw(Instant::now()).unwrap();
    tokio::time::advance(SECOND / 2).await;
    assert!(budget.withdraw(Instant::now()).is_none());
    drop(ticket);
    let ticket = budget.withdraw(Instant::now()).unwrap();
    // After its time it has come back by itself.
    tokio::time::advance(SECOND).await;
    let mut other = budget.withdraw(Instant::now()).unwrap();
    other.sent();
    drop(ticket);
    assert!(budget.withdraw(Instant::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_first_gives_back_as_well() {
    let budget = Budget::builder("orders").ratio(0.0).min_per_second(2);
    let budget = budget.build().unwrap();
    let now = Instant::now();
    let (first, mut second) = (budget.withdraw(now).unwrap(), budget.withdraw(now).unwrap());
    second.sent();
    drop(first);
    assert!(budget.withdraw(now).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_share_of_what_is_on_its_way() {
    let budget = Budget::builder("orders").share_of_active(0.25, 1);
    let budget = budget.build().unwrap();
    let now = Instant::now();
    assert_eq!(budget.available(now), 1);
    let requests: Vec<Deposit> = (0..9).map(|_| budget.deposit(now)).collect();
    let mut first = budget.withdraw(now).unwrap();
    let second = budget.withdraw(now).unwrap();
    assert!(budget.withdraw(now).is_none());
    // Spent for as long as it is on its way, whether it was sent or not.
    first.sent();
    drop(first);
    assert_eq!(budget.available(now), 1);
    drop(second);
    assert_eq!(budget.available(now), 2);
    drop(requests);
    assert_eq!(budget.available(now), 1);
}

#[tokio::test(start_paused = true)]
async fn both_must_agree_and_a_refusal_costs_nothing() {
    let budget = Budget::builder("orders").ratio(1.0).min_per_second(0);
    let budget = budget.share_of_active(0.0, 1).build().unwrap();
    let now = Instant::now();
    let requests = [budget.deposit(now), budget.deposit(now)];
    let one = budget.withdraw(now).unwrap();
    assert!(budget.withdraw(now).is_none());
    drop(one);
    let mut one = budget.withdraw(now).unwrap();
    one.sent();
    drop(one);
    // The ratio was charged once and not by the refusal.
    let mut one = budget.withdraw(now).unwrap();
    one.sent();
    drop(one);
    assert!(budget.withdraw(now).is_none());
    drop(requests);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_costs_nothing_of_the_least_either() {
    let budget = Budget::builder("orders").ratio(0.0).min_per_second(2);
    let budget = budget.share_of_active(0.0, 1).build().unwrap();
    let now = Instant::now();
    let mut one = budget.withdraw(now).unwrap();
    one.sent();
    assert!(budget.withdraw(now).is_none());
    drop(one);
    let mut other = budget.withdraw(now).unwrap();
    other.sent();
    drop(other);
    // And one that the ratio refuses leaves the share as it was.
    assert!(budget.withdraw(now).is_none());
    assert!(budget.withdraw(now + SECOND).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_zero_budget_is_known_as_one() {
    let builder = || Budget::builder("orders");
    assert!(zero(builder().ratio(0.0).min_per_second(0)));
    assert!(zero(builder().share_of_active(0.0, 0)));
    assert!(zero(builder().ratio(0.2).share_of_active(0.0, 0)));
    assert!(!zero(builder()));
    assert!(!zero(builder().ratio(0.0)));
    assert!(!zero(builder().ratio(0.001).min_per_second(0)));
    assert!(!zero(builder().share_of_active(0.0, 1)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be() {
    let builder = || Budget::builder("orders");
    let field = |builder: BudgetBuilder| builder.build().unwrap_err().field().to_owned();
    for ratio in [f64::NAN, f64::INFINITY, -0.1, 10.1] {
        assert_eq!(field(builder().ratio(ratio)), "ratio");
        assert_eq!(
            field(builder().share_of_active(ratio, 1)),
            "share_of_active"
        );
    }
    for ttl in [Duration::ZERO, 4000 * SECOND, Duration::MAX] {
        assert_eq!(field(builder().ttl(ttl)), "ttl");
    }
    // Story: they were neither checked nor used.
    let active = || builder().share_of_active(0.2, 3);
    assert_eq!(field(active().ttl(10 * SECOND)), "ttl");
    assert_eq!(field(active().min_per_second(100)), "min_per_second");
    assert!(active().build().is_ok());
    assert!(active().ratio(0.2).min_per_second(100).build().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_largest_numbers_do_not_wrap() {
    let budget = RatioBudget::new(10.0, 3600 * SECOND, u32::MAX).unwrap();
    let now = Instant::now();
    for _ in 0..1000 {
        budget.deposit(now);
    }
    assert_eq!(budget.available(now), 1_000_000_000);
    assert!(
        budget
            .withdraw(now + Duration::from_secs(1 << 40))
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn many_requests_ask_for_the_time_now_and_then() {
    let budget = RatioBudget::new(0.2, 10 * SECOND, 0).unwrap();
    let start = budget.slot_start(0);
    let looks = Cell::new(0);
    let send = |at: Instant, requests: u32| {
        for _ in 0..requests {
            budget.count_by(|| {
                looks.set(looks.get() + 1);
                at
            });
        }
    };
    send(start, 600);
    assert_eq!(looks.take(), 600);
    // One in 21.
    send(start, 10_000);
    assert!((450..=600).contains(&looks.take()));
    assert_eq!(budget.available(start), 2_120);
    // Whoever comes after a pause finds nothing of before, and the first of them may be forgotten with it: four retries' worth.
    send(start, 400);
    let later = start + 11 * SECOND;
    send(later, 400);
    let there = budget.available(later);
    assert!((75..=80).contains(&there), "{there}");
    // As many as before, each second: all that the last ten have brought is there.
    for second in 12..32 {
        send(start + second * SECOND, 10_000);
    }
    let there = budget.available(start + 31 * SECOND);
    assert!((19_990..=20_000).contains(&there), "{there}");
}

#[tokio::test(start_paused = true)]
async fn what_came_between_two_looks_is_taken_back_where_it_is() {
    let budget = RatioBudget::new(1.0, 10 * SECOND, 0).unwrap();
    let start = budget.slot_start(0);
    (0..135).for_each(|_| budget.deposit(start));
    let between = budget.count_by(|| panic!("a look"));
    budget.take_back(between);
    assert_eq!(budget.available(start + 5 * SECOND), 135);
    // Nothing of it is left when that is over.
    let later = start + 10 * SECOND;
    budget.deposit(later);
    assert_eq!(budget.available(later), 1);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Deposit(u8),
    Withdraw,
    WithdrawAndGiveBack,
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..20u8).prop_map(Step::Deposit),
        Just(Step::Withdraw),
        Just(Step::Withdraw),
        Just(Step::WithdrawAndGiveBack),
        (1..3000u16).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..400)
}

/// What it should do, written down as it is said: what requests bring and retries take, in slots of which the last ten count; and
/// how much is missing of what there always is, in nanoseconds.
#[derive(Default)]
struct Model {
    events: VecDeque<(u64, i64)>,
    missing: u128,
    at: Duration,
}

impl Model {
    fn add(&mut self, slot: u64, amount: i64) {
        self.events.push_back((slot, amount));
    }

    fn balance(&mut self, slot: u64) -> i64 {
        self.events.retain(|(at, _)| at + 10 > slot);
        self.events.iter().map(|(_, amount)| amount).sum()
    }

    /// Whether a retry is let through, and counts.
    fn retry(&mut self, slot: u64, now: Duration, min: u128) -> bool {
        let came_back = (now - mem::replace(&mut self.at, now)).as_nanos();
        self.missing = self.missing.saturating_sub(came_back);
        let interval = 1_000_000_000_u128.div_ceil(min.max(1));
        let after = self.missing + interval;
        let is_paid = self.balance(slot) >= 1_000_000;
        let is_among_the_least = after <= min * interval;
        if is_paid || is_among_the_least {
            self.missing = after.min(min * interval);
            self.add(slot, -1_000_000);
            return true;
        }
        false
    }
}

proptest! {
    #[test]
    fn as_the_model_says(steps in steps(), permille in 0..2000u32, min in 0..3u32) {
        let ratio = f64::from(permille) / 1000.0;
        let budget = RatioBudget::new(ratio, 10 * SECOND, min).unwrap();
        let (start, mut waited) = (budget.slot_start(0), Duration::ZERO);
        let mut model = Model::default();
        let income = i64::from(permille) * 1000;
        let (mut deposits, mut withdrawals) = (0i64, 0i64);
        for step in steps {
            let now = start + waited;
            let slot = u64::try_from(waited.as_millis()).unwrap() / 1000;
            match step {
                Step::Deposit(count) => for _ in 0..count {
                    budget.deposit(now);
                    model.add(slot, income);
                    deposits += 1;
                },
                Step::Withdraw => {
                    let allowed = model.retry(slot, waited, min.into());
                    prop_assert_eq!(budget.withdraw(now).is_some(), allowed);
                    withdrawals += i64::from(allowed);
                }
                Step::WithdrawAndGiveBack => {
                    let before = budget.available(now);
                    let taken = budget.withdraw(now);
                    prop_assert_eq!(taken.is_some(), before > 0);
                    if let Some(taken) = taken {
                        budget.give_back(taken, now);
                    }
                    prop_assert_eq!(budget.available(now), before);
                }
                Step::Wait(millis) => waited += Duration::from_millis(millis.into()),
            }
        }
        // What requests bring is spent once, and what there always is comes back at its rate.
        let always = (i64::try_from(waited.as_secs()).unwrap() + 2) * i64::from(min);
        prop_assert!(withdrawals * 1_000_000 <= deposits * income + always * 1_000_000);
    }

    /// One that asks for the time now and then, beside one that asks with each request.
    #[test]
    fn to_ask_for_the_time_now_and_then_lets_no_more_through(
        steps in prop::collection::vec((1..900u32, prop::option::of(0..40), 0..2500u64), 1..60),
        permille in 1..2000u32,
    ) {
        let ratio = f64::from(permille) / 1000.0;
        let budget = || RatioBudget::new(ratio, 10 * SECOND, 0).unwrap();
        let (exact, sparing) = (budget(), budget());
        let (starts, mut waited) = ([exact.slot_start(0), sparing.slot_start(0)], Duration::ZERO);
        for (requests, retries, millis) in steps {
            waited += Duration::from_millis(millis);
            let now = starts.map(|start| start + waited);
            for _ in 0..requests {
                exact.deposit(now[0]);
                sparing.count_by(|| now[1]);
            }
            // To ask puts what has arrived where it belongs.
            let Some(retries) = retries else { continue };
            let there = [exact.available(now[0]), sparing.available(now[1])];
            prop_assert!(there[1] <= there[0], "{} of {}", there[1], there[0]);
            for _ in 0..retries {
                if sparing.withdraw(now[1]).is_some() {
                    prop_assert!(exact.withdraw(now[0]).is_some());
                }
            }
        }
    }
}
