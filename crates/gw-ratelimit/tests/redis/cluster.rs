//! A cluster: all keys of a limiter are in one slot, and where that slot is, is found out.

use gw_ratelimit::{Limiter, Quota};
use gw_testkit::within;

use crate::server::Server;

const CLUSTER: &[&str] = &["--cluster-enabled", "yes"];

async fn ask(server: &Server, command: &str) -> redis::Value {
    let mut words = command.split(' ');
    let mut call = redis::cmd(words.next().unwrap());
    call.arg(words.collect::<Vec<_>>());
    call.query_async(&mut server.connect().await).await.unwrap()
}

async fn is_ready(server: &Server) -> bool {
    let redis::Value::BulkString(info) = ask(server, "CLUSTER INFO").await else {
        return false;
    };
    String::from_utf8_lossy(&info).contains("cluster_state:ok")
}

/// Two nodes that know each other; the second one has all slots.
async fn nodes() -> (Server, Server) {
    let (asked, holder) = (Server::with(CLUSTER), Server::with(CLUSTER));
    ask(&holder, "CLUSTER ADDSLOTSRANGE 0 16383").await;
    ask(&asked, &format!("CLUSTER MEET 127.0.0.1 {}", holder.port())).await;
    let met = async {
        while !is_ready(&asked).await || !is_ready(&holder).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), met)
        .await
        .expect("the nodes to know each other");
    (asked, holder)
}

async fn text(server: &Server, command: &str) -> String {
    redis::from_redis_value(ask(server, command).await).unwrap()
}

#[tokio::test]
async fn all_keys_are_in_one_slot_and_a_node_that_has_them_is_found() {
    let (asked, holder) = nodes().await;
    let limiter = Limiter::builder()
        .policy("one", Quota::per_hour(1).burst(40))
        .policy("two", Quota::per_hour(1).burst(40))
        .build_shared(&asked.store("test"))
        .unwrap();
    for key in 0..40 {
        let charges = ["one", "two"].map(|policy| {
            let policy = limiter.policy(policy).unwrap();
            limiter.charge(policy, &(key, policy), 1)
        });
        let decision = within("a decision", limiter.check_all(&charges)).await;
        assert!(decision.is_allowed() && decision.binding().is_some());
    }
    let store = limiter.store();
    assert_eq!((store.failed, store.by_store), (0, 40));
    let keys = holder.keys().await;
    assert_eq!(keys.len(), 80);
    let mut slots = Vec::new();
    for key in keys {
        let slot = ask(&holder, &format!("CLUSTER KEYSLOT {key}")).await;
        slots.push(format!("{slot:?}"));
    }
    slots.dedup();
    assert_eq!(slots.len(), 1, "{slots:?}");
}

/// Story: while a slot was moved from one node to another, each key that was not there any more, or not yet, was a failure. After
/// three of them Redis was not asked about any key, for as long as that took.
#[tokio::test]
async fn keys_are_asked_for_where_they_are_while_their_slot_moves() {
    let (target, source) = nodes().await;
    let limiter = Limiter::builder()
        .policy("one", Quota::per_hour(1).burst(3))
        .policy("two", Quota::per_hour(1).burst(3))
        .build_shared(&source.store("test"))
        .unwrap();
    let [one, two] = ["one", "two"].map(|policy| limiter.policy(policy).unwrap());
    let check = async |policy, key: &str| {
        let decision = within("a decision", limiter.check(policy, key, 1)).await;
        decision.is_allowed()
    };
    assert!(check(one, "ann").await);
    let [key] = &source.keys().await[..] else {
        panic!("one key")
    };
    let slot = text(&source, &format!("CLUSTER KEYSLOT {key}")).await;
    let [from, to] = [
        text(&source, "CLUSTER MYID").await,
        text(&target, "CLUSTER MYID").await,
    ];
    ask(&target, &format!("CLUSTER SETSLOT {slot} IMPORTING {from}")).await;
    ask(&source, &format!("CLUSTER SETSLOT {slot} MIGRATING {to}")).await;

    // What is there still, and what goes to the other node already.
    assert!(check(one, "ann").await);
    assert!(check(one, "bob").await && check(two, "bob").await);
    assert_eq!(
        (source.keys().await.len(), target.keys().await.len()),
        (1, 2)
    );
    let store = limiter.store();
    assert_eq!((store.failed, store.by_store), (0, 4));

    // Some of it here and some there: nobody can say, and all else is asked about as ever.
    let charges = [one, two].map(|policy| limiter.charge(policy, "ann", 1));
    for _ in 0..10 {
        within("a decision", limiter.check_all(&charges)).await;
    }
    let store = limiter.store();
    assert_eq!(
        (store.failed, store.by_rule, store.is_asked),
        (10, 10, true)
    );
    assert!(check(two, "eve").await);
    assert_eq!(limiter.store().by_store, 5);

    // It has moved.
    let port = target.port();
    ask(&source, &format!("MIGRATE 127.0.0.1 {port} {key} 0 5000")).await;
    for node in [&target, &source] {
        ask(node, &format!("CLUSTER SETSLOT {slot} NODE {to}")).await;
    }
    assert!(check(one, "bob").await && check(one, "ann").await && !check(one, "ann").await);
    let after = limiter.store();
    assert_eq!((after.failed, after.by_store), (10, 8));
}
