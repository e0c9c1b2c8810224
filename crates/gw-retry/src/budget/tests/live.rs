//! What is changed while requests run.

use super::*;

/// Takes out and sends what there is.
fn send_all(budget: &Budget, now: Instant) -> usize {
    let all = std::iter::from_fn(|| budget.withdraw(now));
    all.map(|mut ticket| ticket.sent()).count()
}

#[tokio::test(start_paused = true)]
async fn another_ratio_is_for_what_comes_and_what_was_spent_stays_spent() {
    let budget = Budget::builder("orders").ratio(0.2).min_per_second(0);
    let budget = budget.build().unwrap();
    let requests = |count| (0..count).for_each(|_| drop(budget.deposit(Instant::now())));
    requests(20);
    assert_eq!(send_all(&budget, Instant::now()), 4);
    budget.set_ratio(0.5).unwrap();
    assert_eq!(budget.available(Instant::now()), 0);
    requests(20);
    assert_eq!(budget.snapshot().ratio, Some(0.5));
    assert_eq!(budget.snapshot().available, 10);
    assert_eq!(send_all(&budget, Instant::now()), 10);
    budget.set_ratio(0.0).unwrap();
    requests(20);
    assert_eq!(send_all(&budget, Instant::now()), 0);
    assert!(budget.is_zero());
    // A ttl later as well: neither what was brought nor what was spent is left.
    tokio::time::advance(11 * SECOND).await;
    assert_eq!(budget.snapshot().available, 0);
}

#[tokio::test(start_paused = true)]
async fn another_minimum_begins_where_the_old_one_stands() {
    let budget = Budget::builder("orders").ratio(0.0).min_per_second(10);
    let budget = budget.build().unwrap();
    assert_eq!(send_all(&budget, Instant::now()), 10);
    budget.set_min_per_second(100).unwrap();
    assert_eq!(send_all(&budget, Instant::now()), 0);
    tokio::time::advance(SECOND / 10).await;
    assert_eq!(send_all(&budget, Instant::now()), 10);
    // A ticket from before is given back after a change, once.
    tokio::time::advance(SECOND).await;
    let ticket = budget.withdraw(Instant::now()).unwrap();
    budget.set_min_per_second(0).unwrap();
    assert!(budget.is_zero());
    assert_eq!(budget.snapshot().min_per_second, Some(0));
    assert_eq!(send_all(&budget, Instant::now()), 0);
    drop(ticket);
    budget.set_min_per_second(3).unwrap();
    assert_eq!(send_all(&budget, Instant::now()), 3);
}

#[tokio::test(start_paused = true)]
async fn another_share_counts_what_is_on_its_way() {
    let budget = Budget::builder("orders").share_of_active(0.0, 2);
    let budget = budget.build().unwrap();
    let now = Instant::now();
    let _requests: Vec<_> = (0..10).map(|_| budget.deposit(now)).collect();
    let _on_their_way = [budget.withdraw(now).unwrap(), budget.withdraw(now).unwrap()];
    budget.set_share_of_active(0.3, 0).unwrap();
    assert_eq!(budget.snapshot().share_of_active, Some((0.3, 0)));
    assert_eq!(budget.available(now), 1);
    budget.set_share_of_active(0.0, 1).unwrap();
    assert!(budget.withdraw(now).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_changes_nothing() {
    let by_ratio = Budget::builder("orders").build().unwrap();
    let active = Budget::builder("orders").share_of_active(0.2, 3);
    let active = active.build().unwrap();
    let before = (by_ratio.snapshot(), active.snapshot());
    for ratio in [f64::NAN, -0.1, 10.1] {
        assert_eq!(by_ratio.set_ratio(ratio).unwrap_err().field(), "ratio");
        let error = active.set_share_of_active(ratio, 1).unwrap_err();
        assert_eq!(error.field(), "share_of_active");
    }
    let error = by_ratio.set_share_of_active(0.2, 3).unwrap_err();
    assert_eq!(error.field(), "share_of_active");
    assert_eq!(active.set_ratio(0.2).unwrap_err().field(), "ratio");
    let error = active.set_min_per_second(1).unwrap_err();
    assert_eq!(error.field(), "min_per_second");
    assert_eq!((by_ratio.snapshot(), active.snapshot()), before);
}
