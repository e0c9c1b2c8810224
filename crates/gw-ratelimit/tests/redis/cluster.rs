//! A cluster: all keys of a limiter are in one slot, and where that slot is, is found out.

use gw_ratelimit::redis::Leases;
use gw_ratelimit::{Limiter, Quota};
use gw_testkit::within;

use crate::late::{admitted, build, left, per_client, told};
use crate::server::{Server, stand_still, until};

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

/// The slot of all keys begins to move: what slot it is, and the name of the node that it moves to.
async fn begin_to_move(source: &Server, target: &Server) -> (String, String) {
    let key = &source.keys().await[0];
    let slot = text(source, &format!("CLUSTER KEYSLOT {key}")).await;
    let [from, to] = [
        text(source, "CLUSTER MYID").await,
        text(target, "CLUSTER MYID").await,
    ];
    ask(target, &format!("CLUSTER SETSLOT {slot} IMPORTING {from}")).await;
    ask(source, &format!("CLUSTER SETSLOT {slot} MIGRATING {to}")).await;
    (slot, to)
}

async fn migrate(source: &Server, target: &Server, key: &str) {
    let port = target.port();
    ask(source, &format!("MIGRATE 127.0.0.1 {port} {key} 0 5000")).await;
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
    let (slot, to) = begin_to_move(&source, &target).await;

    // What is there still, and what goes to the other node already.
    assert!(check(one, "ann").await);
    assert!(check(one, "bob").await && check(two, "bob").await);
    assert_eq!(
        (source.keys().await.len(), target.keys().await.len()),
        (1, 2)
    );
    let store = limiter.store();
    assert_eq!((store.failed, store.by_store), (0, 4));

    // Some of it here and some there, or nowhere yet: nobody can say, and all else is asked about as ever.
    for key in ["ann", "new"] {
        let charges = [one, two].map(|policy| limiter.charge(policy, key, 1));
        for _ in 0..5 {
            within("a decision", limiter.check_all(&charges)).await;
        }
    }
    let store = limiter.store();
    assert_eq!(
        (store.failed, store.by_rule, store.is_asked),
        (10, 10, true)
    );
    assert!(check(two, "eve").await);
    assert_eq!(limiter.store().by_store, 5);

    // It has moved.
    migrate(&source, &target, key).await;
    for node in [&target, &source] {
        ask(node, &format!("CLUSTER SETSLOT {slot} NODE {to}")).await;
    }
    assert!(check(one, "bob").await && check(one, "ann").await && !check(one, "ann").await);
    let after = limiter.store();
    assert_eq!((after.failed, after.by_store), (10, 8));
}

/// Story: what was told many at once was lost while a slot moved, as some keys were here and some there.
#[tokio::test]
async fn late_charges_are_told_one_by_one_while_their_slot_moves() {
    let (target, source) = nodes().await;
    let limits = build(per_client(100).late_charges(), &source.store("test"));
    let mut charged = Vec::new();
    for who in ["ann", "bob", "eve"] {
        charged.push(admitted(&limits, who).await);
    }
    begin_to_move(&source, &target).await;
    migrate(&source, &target, &source.keys().await[0]).await;
    let asked = limits.limiter().store().asked;
    for (charged, cells) in charged.iter().zip(5..) {
        assert_eq!(charged.charge("p", cells), Some(cells));
    }
    told(limits.limiter()).await;
    let store = limits.limiter().store();
    assert_eq!((store.failed, store.late_lost), (0, 0));
    assert_eq!(store.asked, asked + 4, "all at once, and then each");
    for (who, cells) in ["ann", "bob", "eve"].into_iter().zip(5..) {
        assert_eq!(left(limits.limiter(), who).await, 99 - cells);
    }
}

/// Story: and so was what is given back.
#[tokio::test]
async fn leases_are_given_back_one_by_one_while_their_slot_moves() {
    let (target, source) = nodes().await;
    let still = stand_still();
    let limiter = Limiter::builder()
        .policy("p", Quota::per_hour(1).burst(100))
        .build_shared(&source.store("test").leases(Leases::up_to(20)))
        .unwrap();
    let policy = limiter.policy("p").unwrap();
    let leased = async |leases: usize, key: &str| {
        until("a lease", async || {
            within("a decision", limiter.check(policy, key, 1)).await;
            limiter.store().leases == leases
        })
        .await;
    };
    leased(1, "ann").await;
    leased(2, "bob").await;
    begin_to_move(&source, &target).await;
    migrate(&source, &target, &source.keys().await[0]).await;
    still.go_on();
    assert!(limiter.close(gw_testkit::PATIENCE).await >= 2);
    assert_eq!(limiter.store().failed, 0);
}
