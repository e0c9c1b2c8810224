//! Limits that two gateways share in one Redis.
//!
//! A gateway waits 5 ms for Redis. On a machine that is busy with other things it may wait in vain, so what is asserted
//! leaves room for that on the strict side: a question without an answer may have cost a cell, and never gives one.

use std::sync::atomic::{AtomicU32, Ordering};

use gw_testkit::redis::{Server, free_port};
use gw_testkit::upstream::{Reply, Upstream, always};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant, timeout};

use crate::api_keys::{self, ask};
use crate::command::{PATIENCE, until};
use crate::gateway::{Gateway, all_to, check, config, route, upstream};
use crate::http::{is_refusal, page, retry_after};

/// Of which a gateway leases an eighth at a time.
const BURST: u64 = 24;

/// `[limits.devices]` in this store, by the field `x-device`; `more` continues the table.
fn devices(store: &str, more: &str) -> String {
    format!(
        "[limits.devices]\nkey = \"header:x-device\"\nrate = \"1/h\"\nburst = {BURST}\n\
         store = \"{store}\"\n{more}\n"
    )
}

/// Two gateways with this limit on each request, and the upstream behind them.
async fn two(store: &str, more: &str) -> ([Gateway; 2], Upstream) {
    let up = Upstream::start(always(Reply::ok())).await;
    let tables = devices(store, more) + &all_to(&up.url(), "limits = [\"devices\"]");
    let text = config("", &tables);
    let (one, other) = tokio::join!(Gateway::serve(&text), Gateway::serve(&text));
    ([one, other], up)
}

async fn status(gateway: &Gateway, device: &str) -> u16 {
    ask(gateway, "/", &format!("x-device: {device}\r\n"))
        .await
        .status()
}

/// The state of the store in `/limits`.
async fn store(gateway: &Gateway) -> Value {
    page(gateway.admin, "/limits").await["stores"][0].take()
}

/// A number in the stores of both.
async fn sum(gateways: &[Gateway; 2], pointer: &str) -> u64 {
    let mut sum = 0;
    for gateway in gateways {
        let store = store(gateway).await;
        sum += store.pointer(pointer).and_then(Value::as_u64).unwrap();
    }
    sum
}

/// How many questions have got no answer.
async fn failed(gateways: &[Gateway; 2]) -> u64 {
    sum(gateways, "/failed").await
}

/// Asks the gateways in turn, each with a field of its own, until both have refused for the limit, and returns how many
/// requests passed. In between they may answer that nobody can decide.
async fn passed(gateways: &[Gateway; 2], fields: [&str; 2]) -> u64 {
    let mut passed = 0;
    let mut refused = [false; 2];
    let asking = async {
        while refused != [true; 2] {
            for ((gateway, field), refused) in gateways.iter().zip(fields).zip(&mut refused) {
                match ask(gateway, "/", &format!("{field}\r\n")).await.status() {
                    200 => passed += 1,
                    429 => *refused = true,
                    503 => {}
                    other => panic!("{other}"),
                }
            }
        }
    };
    let ended = timeout(PATIENCE, asking).await;
    assert!(ended.is_ok(), "{refused:?} after {passed} requests");
    passed
}

/// Makes the gateway ask until Redis decides again.
async fn recovered(gateway: &Gateway) {
    until("Redis to decide again", || async {
        status(gateway, "prober").await;
        (store(gateway).await["state"] == "asked").then_some(())
    })
    .await;
}

async fn gave_up(gateway: &Gateway) {
    until("Redis not to be asked any more", || async {
        status(gateway, "prober").await;
        (store(gateway).await["state"] == "failing").then_some(())
    })
    .await;
}

/// Story: two gateways behind one balancer each let a client's whole quota through.
#[tokio::test]
async fn together_they_let_through_what_one_would() {
    let redis = Server::start();
    for mode in ["enforce", "leased"] {
        let more = format!("mode = \"{mode}\"\non_store_error = \"closed\"");
        let (gateways, up) = two(&redis.url(), &more).await;
        // Another device for each mode: Redis has kept what the first one owes.
        let device = format!("x-device: {mode}");
        let passed = passed(&gateways, [&device; 2]).await;
        let lost = failed(&gateways).await * if mode == "leased" { BURST } else { 1 };
        assert!(
            passed <= BURST && passed + lost >= BURST,
            "{mode}: {passed} passed, {lost} may be lost"
        );
        assert_eq!(up.requests().len() as u64, passed);
        if mode == "leased" {
            assert!(sum(&gateways, "/decided/lease").await > 0);
        }
        // The other gateway of each pair has the same to say.
        for gateway in &gateways {
            let page = page(gateway.admin, "/limits").await;
            let limit = &page["limits"][0];
            for (key, value) in [
                ("name", Value::from("devices")),
                ("stage", "pre_auth_limit".into()),
                ("shared", true.into()),
                ("mode", "enforce".into()),
            ] {
                assert_eq!(limit[key], value, "{key}: {page}");
            }
            assert_eq!(limit["quota"]["burst"], BURST);
            let store = &page["stores"][0];
            for (key, value) in [
                ("stage", Value::from("pre_auth_limit")),
                ("leased", (mode == "leased").into()),
                ("on_store_error", "closed".into()),
                ("limits", vec!["devices"].into()),
            ] {
                assert_eq!(store[key], value, "{key}: {page}");
            }
            assert!(store["asked"].as_u64().unwrap() > 0, "{page}");
            assert!(!page.to_string().contains("redis://"), "{page}");
        }
    }
}

/// Story: a gateway that was replaced took the cells that it had leased along, and the others refused them until they had
/// run off.
#[tokio::test]
async fn a_gateway_that_stops_gives_back_what_it_has_leased() {
    let redis = Server::start();
    let up = Upstream::start(always(Reply::ok())).await;
    let more = "mode = \"leased\"\non_store_error = \"closed\"";
    let tables = devices(&redis.url(), more) + &all_to(&up.url(), "limits = [\"devices\"]");
    let text = config("drain_delay = \"0s\"", &tables);
    let [mut one, other] = [Gateway::serve(&text).await, Gateway::serve(&text).await];
    let unanswered = async |gateway: &Gateway| store(gateway).await["failed"].as_u64().unwrap();
    let before = [unanswered(&one).await, unanswered(&other).await];
    let mut first = 0;
    // The second request leases a cell, and the fourth one two, which are left. A fifth would fetch ahead: nobody could tell
    // when that has come, or failed; and a request that does not wait for it is charged behind it, so that it cannot be given
    // back.
    for _ in 0..4 {
        first += u64::from(status(&one, "tablet").await == 200);
    }
    let first_lost = unanswered(&one).await - before[0];
    one.signal("TERM").await;
    assert_eq!(one.ended().await.0, Some(0));
    let (mut passed, mut lost) = (first, 0);
    // A request may be refused while cells that were fetched ahead are on their way: they are there for a later one.
    let asking = async {
        loop {
            match status(&other, "tablet").await {
                200 => passed += 1,
                429 => {
                    lost = BURST * (first_lost + unanswered(&other).await - before[1]);
                    if passed + lost >= BURST {
                        break;
                    }
                }
                other => assert_eq!(other, 503),
            }
        }
    };
    let ended = timeout(PATIENCE, asking).await;
    assert!(ended.is_ok(), "{first} of {passed}, {lost} may be lost");
    for _ in 0..BURST {
        passed += u64::from(status(&other, "tablet").await == 200);
    }
    assert!(passed <= BURST, "{first} of {passed}");
}

/// The connections that Redis has, but for the one that asks for them.
async fn connections(redis: &Server) -> usize {
    let mut socket = TcpStream::connect(("127.0.0.1", redis.port()))
        .await
        .unwrap();
    socket.write_all(b"CLIENT LIST\r\nQUIT\r\n").await.unwrap();
    let mut listed = String::new();
    socket.read_to_string(&mut listed).await.unwrap();
    listed.lines().filter(|line| line.contains("addr=")).count() - 1
}

/// Story: the first request connected. That took longer than it may wait, and so did the next ones, so that a gateway began with
/// what it does without Redis.
#[tokio::test]
async fn a_gateway_that_is_ready_is_connected() {
    let redis = Server::start();
    let (gateways, _up) = two(&redis.url(), "").await;
    assert_eq!(connections(&redis).await, 2);
    assert_eq!(sum(&gateways, "/asked").await, 0);
}

/// One that takes connections and says nothing is the worst case.
#[tokio::test]
async fn a_gateway_starts_without_redis() {
    let redis = Server::start();
    redis.freeze();
    let (gateways, _up) = two(&redis.url(), "").await;
    for gateway in &gateways {
        assert_eq!(status(gateway, "d").await, 200);
    }
    redis.thaw();
    for gateway in &gateways {
        recovered(gateway).await;
    }
}

/// Story: the gateway waited for its stores first, for 2 seconds.
#[tokio::test]
async fn a_stop_is_heard_while_stores_are_awaited() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = format!("redis://{}", silent.local_addr().unwrap());
    let tables = devices(&store, "") + &all_to("http://127.0.0.1:9", "limits = [\"devices\"]");
    let mut gateway = Gateway::announced(&config("drain_delay = \"0s\"", &tables), &[]).await;
    gateway.signal("TERM").await;
    let asked = Instant::now();
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(asked.elapsed() < Duration::from_millis(1500), "{said}");
}

/// A consumer with two keys, at two gateways: one quota.
#[tokio::test]
async fn consumers_are_counted_together_too() {
    let redis = Server::start();
    let up = Upstream::start(always(Reply::ok())).await;
    let mut tables =
        devices(&redis.url(), "on_store_error = \"closed\"").replace("header:x-device", "consumer");
    tables += &api_keys::partners(&up.url());
    tables += &api_keys::shut("all", "/", "consumer_limits = [\"devices\"]");
    let text = config("", &tables);
    let gateways = [api_keys::serve(&text).await, api_keys::serve(&text).await];
    for (keys, callers) in [
        (["acme-key-1", "acme-key-2"], 1),
        (["zeta-key", "zeta-key"], 2),
    ] {
        let fields = keys.map(|key| format!("x-api-key: {key}"));
        let passed = passed(&gateways, fields.each_ref().map(String::as_str)).await;
        let lost = failed(&gateways).await;
        assert!(
            passed <= BURST && passed + lost >= BURST,
            "{keys:?}: {passed}, {lost}"
        );
        assert!(up.requests().len() as u64 <= callers * BURST);
    }
    let page = page(gateways[0].admin, "/limits").await;
    assert_eq!(page["limits"][0]["stage"], "post_auth_limit");
}

/// Story: while a route was added, the gateways that had it already counted each route behind it apart from those that had not.
#[tokio::test]
async fn a_route_is_counted_together_wherever_it_stands_in_the_files() {
    let redis = Server::start();
    let up = Upstream::start(always(Reply::ok())).await;
    let limit = devices(&redis.url(), "on_store_error = \"closed\"");
    let tables = limit.replace("header:x-device", "route") + &upstream("up", &up.url());
    let routes = ["", &route("new", "/new", "up", "")].map(|more| {
        let all = route("all", "/", "up", "limits = [\"devices\"]");
        config("", &format!("{tables}{more}{all}"))
    });
    let gateways = [
        Gateway::serve(&routes[0]).await,
        Gateway::serve(&routes[1]).await,
    ];
    let passed = passed(&gateways, ["accept: */*"; 2]).await;
    let lost = failed(&gateways).await;
    assert!(
        passed <= BURST && passed + lost >= BURST,
        "{passed} passed, {lost} may be lost"
    );
}

/// While Redis is stopped each gateway counts for itself, and knows what Redis had decided; once it is back they count
/// together again. Nobody sees an error in between.
#[tokio::test]
async fn while_redis_is_stopped_each_counts_for_itself() {
    let mut redis = Server::start();
    let (gateways, _up) = two(&redis.url(), "").await;
    let mut before = 0;
    for _ in 0..3 {
        before += u64::from(status(&gateways[0], "d").await == 200);
    }
    assert_eq!(before, 3);
    redis.stop();
    for (gateway, spent) in gateways.iter().zip([3, 0]) {
        let mut alone = 0;
        for _ in 0..2 * BURST {
            match status(gateway, "d").await {
                200 => alone += 1,
                429 => {}
                other => panic!("{other}"),
            }
        }
        assert_eq!(
            alone + spent,
            BURST,
            "its own quota, less what Redis had let through"
        );
        gave_up(gateway).await;
        let answer = ask(gateway, "/", "x-device: d\r\n").await;
        is_refusal("over the quota", &answer, 429, "RATE_LIMIT_EXCEEDED");
        retry_after("over the quota", &answer);
        let store = store(gateway).await;
        assert!(
            store["decided"]["on_store_error"].as_u64().unwrap() >= 2 * BURST,
            "{store}"
        );
        assert_eq!(store["on_store_error"], "local");
    }
    redis.start_again();
    for gateway in &gateways {
        recovered(gateway).await;
    }
    // Somebody whom nobody knows yet. What is still decided without Redis is decided by each alone.
    let alone = || sum(&gateways, "/decided/on_store_error");
    let before = alone().await;
    let passed = passed(&gateways, ["x-device: new"; 2]).await;
    let alone = alone().await - before;
    assert!(
        passed <= BURST + alone,
        "{passed} passed, {alone} without Redis"
    );
}

/// A frozen server takes connections and questions, and answers none. That costs a few requests some milliseconds; when
/// it goes on it still knows who owes what.
#[tokio::test]
async fn while_redis_is_frozen_requests_are_answered_and_debts_are_kept() {
    let redis = Server::start();
    let (gateways, _up) = two(&redis.url(), "").await;
    passed(&gateways, ["x-device: debtor"; 2]).await;
    redis.freeze();
    for gateway in &gateways {
        gave_up(gateway).await;
        let store = store(gateway).await;
        let (asked, decided) = (&store["asked"], store["decided"]["on_store_error"].as_u64());
        assert!(
            decided.unwrap() > 0 && asked.as_u64().unwrap() > 0,
            "{store}"
        );
        assert!([200, 429].contains(&status(gateway, "anybody").await));
    }
    redis.thaw();
    for gateway in &gateways {
        recovered(gateway).await;
        // A burst takes hours to come back.
        until("the debt to be known", || async {
            (status(gateway, "debtor").await == 429).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn without_redis_the_rule_decides() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    for (rule, expected) in [("open", 200), ("closed", 503)] {
        let (gateways, up) = two(&url, &format!("on_store_error = \"{rule}\"")).await;
        for _ in 0..2 * BURST {
            let answer = ask(&gateways[0], "/", "x-device: d\r\n").await;
            assert_eq!(answer.status(), expected, "{rule}: {answer:?}");
            assert_eq!(answer.header("ratelimit"), None, "{rule}");
            if expected == 503 {
                is_refusal(rule, &answer, 503, "LIMITS_UNAVAILABLE");
            }
        }
        let reached = if rule == "open" { 2 * BURST } else { 0 };
        assert_eq!(up.requests().len() as u64, reached, "{rule}");
        let store = store(&gateways[0]).await;
        assert_eq!(
            (&store["state"], &store["on_store_error"]),
            (&"failing".into(), &rule.into())
        );
        assert_eq!(store["decided"]["on_store_error"], 2 * BURST);
        let text = crate::http::get(gateways[0].admin, "/metrics").await;
        let sample = format!("mode=\"{rule}\"");
        let sample = |line: &&str| line.contains("rate_limit_store_mode") && line.contains(&sample);
        let found = text.text().lines().find(sample).map(str::to_owned);
        assert!(
            found.is_some_and(|line| line.ends_with(" 1")),
            "{}",
            text.text()
        );
    }
}

/// Story: two limits had stores of one name. When the one's Redis was down and the other's answered, the metrics said that
/// Redis decides.
#[tokio::test]
async fn metrics_tell_stores_apart() {
    let redis = Server::start();
    let up = Upstream::start(always(Reply::ok())).await;
    let gone = format!("redis://127.0.0.1:{}", free_port());
    let mut tables = devices(&gone, "") + &devices(&redis.url(), "").replace("devices", "others");
    tables += &all_to(&up.url(), "limits = [\"devices\", \"others\"]");
    let gateway = Gateway::serve(&config("", &tables)).await;
    gave_up(&gateway).await;
    // Asked after the one that is gone, so that it is the last one to say something.
    let name = "pre_auth_limit:local:2";
    let asked = AtomicU32::new(0);
    until("the other one to decide", || async {
        // Another device each time: one alone might use up its burst before.
        let device = asked.fetch_add(1, Ordering::Relaxed).to_string();
        status(&gateway, &device).await;
        let stores = page(gateway.admin, "/limits").await["stores"].take();
        assert_eq!(stores[0]["name"], "pre_auth_limit:local");
        assert_eq!(stores[1]["name"], name);
        (stores[1]["decided"]["store"] != 0).then_some(())
    })
    .await;
    let text = crate::http::get(gateway.admin, "/metrics").await;
    let decides = |store: &str, mode: &str| {
        let sample =
            format!("gateway_rate_limit_store_mode{{store=\"{store}\",mode=\"{mode}\"}} 1");
        text.text().lines().any(|line| line == sample)
    };
    assert!(decides("pre_auth_limit:local", "local_fallback"));
    assert!(decides(name, "store"), "{}", text.text());
}

/// A local limit is asked first: what it refuses costs nothing in Redis.
#[tokio::test]
async fn what_needs_no_network_is_asked_first() {
    let redis = Server::start();
    let up = Upstream::start(always(Reply::ok())).await;
    let mut tables = "[limits.address]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 2\n".to_owned();
    tables += &devices(&redis.url(), "");
    tables += &all_to(&up.url(), "limits = [\"devices\", \"address\"]");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(status(&gateway, "d").await);
    }
    assert_eq!(statuses, [200, 200, 429, 429, 429]);
    let page = page(gateway.admin, "/limits").await;
    let by_name = |name: &str| {
        let limits = page["limits"].as_array().unwrap().iter();
        limits.clone().find(|limit| limit["name"] == name).unwrap()
    };
    assert_eq!(by_name("address")["shared"], false);
    assert_eq!(by_name("address")["limited"], 3);
    assert_eq!(by_name("devices")["allowed"], 2);
    assert_eq!(by_name("devices")["limited"], 0);
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_refused_at_its_place() {
    for (url, told) in [
        ("rediss://127.0.0.1:6379/#insecure", "rediss://"),
        ("redis://127.0.0.1:port", "redis://"),
    ] {
        let tables = devices(url, "") + &all_to("http://127.0.0.1:1", "limits = [\"devices\"]");
        let said = check(&config("", &tables)).await;
        let err = said.refused();
        let fault = err
            .lines()
            .find(|line| line.contains(": limits.devices.store: "));
        assert!(
            fault.is_some_and(|line| line.contains(told)),
            "{url}: {err}"
        );
    }
    for url in ["redis://127.0.0.1:6379", "rediss://redis.example:6380"] {
        let tables = devices(url, "mode = \"leased\"");
        let tables = tables + &all_to("http://127.0.0.1:1", "limits = [\"devices\"]");
        let said = check(&config("", &tables)).await;
        said.succeeded();
        assert!(!said.err.contains("limits"), "{}", said.err);
    }
}
