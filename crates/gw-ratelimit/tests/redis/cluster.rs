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

#[tokio::test]
async fn all_keys_are_in_one_slot_and_a_node_that_has_them_is_found() {
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
