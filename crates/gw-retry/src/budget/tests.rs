use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn zero(budget: BudgetBuilder) -> bool {
    budget.build().unwrap().is_zero()
}

#[tokio::test(start_paused = true)]
async fn a_fifth_and_ten_a_second() {
    let budget = Budget::builder("orders").build().unwrap();
    let now = Instant::now();
    assert_eq!(budget.available(now), 100);
    for _ in 0..50 {
        drop(budget.deposit(now));
    }
    assert_eq!(budget.available(now), 110);
    let mut tickets: Vec<Ticket> = (0..110).map_while(|_| budget.withdraw(now)).collect();
    assert_eq!(tickets.len(), 110);
    assert!(budget.withdraw(now).is_none());
    tickets.iter_mut().for_each(Ticket::sent);
    drop(tickets);
    assert!(budget.withdraw(now).is_none());
    // All of it was spent in one slot, and comes back with it; what the requests brought is over then.
    assert!(budget.withdraw(now + 9 * SECOND).is_none());
    assert_eq!(budget.available(now + 11 * SECOND), 100);
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
}

#[tokio::test(start_paused = true)]
async fn the_largest_numbers_do_not_wrap() {
    let budget = RatioBudget::new(10.0, 3600 * SECOND, u32::MAX).unwrap();
    let now = Instant::now();
    for _ in 0..1000 {
        budget.deposit(now);
    }
    assert!(budget.available(now) > 1_000_000_000);
    assert!(
        budget
            .withdraw(now + Duration::from_secs(1 << 40))
            .is_some()
    );
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

/// What it should do, written down as it is said: events in slots, of which the last ten count.
#[derive(Default)]
struct Model {
    events: VecDeque<(u64, i64)>,
}

impl Model {
    fn add(&mut self, slot: u64, amount: i64) {
        self.events.push_back((slot, amount));
    }

    fn balance(&mut self, slot: u64) -> i64 {
        self.events.retain(|(at, _)| at + 10 > slot);
        self.events.iter().map(|(_, amount)| amount).sum()
    }
}

proptest! {
    #[test]
    fn as_the_model_says(steps in steps(), permille in 0..2000u32, min in 0..3u32) {
        let ratio = f64::from(permille) / 1000.0;
        let budget = RatioBudget::new(ratio, 10 * SECOND, min).unwrap();
        let (start, mut waited) = (Instant::now(), Duration::ZERO);
        let mut model = Model::default();
        let reserve = i64::from(min) * 10_000_000;
        let income = i64::from(permille) * 1000;
        let (mut deposits, mut withdrawals) = (0i64, 0i64);
        for step in steps {
            // The middle of a millisecond, so that no slot begins between the start here and the one in there.
            let now = start + waited;
            let slot = u64::try_from(waited.as_millis()).unwrap() / 1000;
            match step {
                Step::Deposit(count) => for _ in 0..count {
                    budget.deposit(now);
                    model.add(slot, income);
                    deposits += 1;
                },
                Step::Withdraw | Step::WithdrawAndGiveBack => {
                    let allowed = model.balance(slot) + reserve >= 1_000_000;
                    let taken = budget.withdraw(now);
                    prop_assert_eq!(taken.is_some(), allowed);
                    if let Some(taken) = taken {
                        if matches!(step, Step::WithdrawAndGiveBack) {
                            budget.give_back(taken);
                        } else {
                            model.add(slot, -1_000_000);
                            withdrawals += 1;
                        }
                    }
                }
                // Off the borders of slots: the two clocks began some nanoseconds apart.
                Step::Wait(millis) => waited = Duration::from_millis(waited.as_millis() as u64 / 10 * 10 + u64::from(millis) / 10 * 10 + 5),
            }
        }
        // What requests bring is spent once, and the reserve once in each ttl.
        let stretches = i64::try_from(waited.as_secs() / 10).unwrap() + 1;
        prop_assert!(withdrawals * 1_000_000 <= deposits * income + reserve * stretches);
    }
}
