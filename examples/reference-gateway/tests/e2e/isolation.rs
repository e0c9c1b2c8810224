//! A lane that is saturated in every way there is, and another whose every request is answered meanwhile.

use std::net::SocketAddr;

use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, by_path};

use crate::command::until;
use crate::gateway::{Gateway, config, route, upstream};
use crate::http::{get, is_refusal};

/// Places of the lane `logs`.
const PLACES: usize = 2;

/// Requests of the lane `auth` in each case.
const LOGINS: usize = 50;

/// A lane `logs` with threads and a listener of its own, where both upstreams are the same process. Timers are longer
/// than any test: what hangs, hangs.
async fn start(server: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start(by_path(
        [
            (
                "/logs/endless",
                Reply::ok()
                    .body("begun, and never ended")
                    .stall(At::Body(5)),
            ),
            ("/logs/hang", Reply::ok().stall(At::Start)),
        ],
        Reply::ok().body("welcome"),
    ))
    .await;
    let server = format!(
        "{server}\nbody_idle_timeout = \"10m\"\nmin_body_rate = \"0B\"\nheader_timeout = \"10m\""
    );
    let tables = format!(
        "[lanes]\ntotal = 10\n[lanes.lane.auth]\nguaranteed = 0.5\n\
         [lanes.lane.logs]\nguaranteed = 0.1\ncap = 0.2\nqueue = 0\nthreads = 1\nlisten = [\"127.0.0.1:0\"]\n{}{}{}",
        self::upstream("up", &upstream.url()),
        route("login", "/auth", "up", "lane = \"auth\""),
        route(
            "logs",
            "/logs",
            "up",
            "lane = \"logs\"\ntimeouts = { request = \"10m\", first_byte = \"10m\", idle = \"10m\" }"
        )
    );
    let gateway = Gateway::serve(&config(&server, &tables)).await;
    (gateway, upstream)
}

/// All logins are answered, on one connection and on new ones.
async fn all_log_in(gateway: &Gateway) {
    let before = gateway.lane("auth").await["admitted"].as_u64().unwrap();
    let mut client = Client::connect(gateway.traffic).await;
    for login in 0..LOGINS {
        if login.is_multiple_of(10) {
            client = Client::connect(gateway.traffic).await;
        }
        client.get("/auth/login").await;
        let answer = client.read_answer().await;
        assert_eq!(
            (answer.status(), answer.text()),
            (200, "welcome"),
            "{login}"
        );
    }
    let auth = gateway.lane("auth").await;
    let refused: u64 = counts(&auth["rejected"]).sum();
    assert_eq!(refused, 0, "{auth}");
    assert_eq!(auth["admitted"].as_u64().unwrap() - before, LOGINS as u64);
}

fn counts(rejected: &serde_json::Value) -> impl Iterator<Item = u64> {
    let counts = rejected.as_object().unwrap().values();
    counts.map(|count| count.as_u64().unwrap())
}

/// With the lane full, everything else there is refused; once its clients have left, nothing is held.
async fn is_full_until_they_leave(
    gateway: Gateway,
    entrances: [SocketAddr; 2],
    clients: Vec<Client>,
) {
    gateway.lane_holds("logs", PLACES as u64).await;
    for entrance in entrances {
        let answer = get(entrance, "/logs/more").await;
        is_refusal("one more", &answer, 503, "OVERLOADED");
    }
    all_log_in(&gateway).await;
    let logs = gateway.lane("logs").await;
    assert_eq!(logs["in_flight"], PLACES, "{logs}");
    assert_eq!(logs["rejected"]["lane_full"], 2, "{logs}");
    clients.into_iter().for_each(Client::reset);
    gateway.is_idle().await;
    assert_eq!(get(entrances[0], "/logs/more").await.text(), "welcome");
}

async fn asking(entrances: [SocketAddr; 2], request: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for entrance in entrances {
        let mut client = Client::connect(entrance).await;
        client.send(request).await;
        clients.push(client);
    }
    clients
}

fn entrances(gateway: &Gateway) -> [SocketAddr; 2] {
    [gateway.traffic, gateway.listener_of("logs")]
}

#[tokio::test]
async fn bodies_that_never_end() {
    let (gateway, _upstream) = start("").await;
    let entrances = entrances(&gateway);
    let request = "GET /logs/endless HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut clients = asking(entrances, request).await;
    for client in &mut clients {
        assert_eq!(client.read_head().await.status(), 200);
    }
    is_full_until_they_leave(gateway, entrances, clients).await;
}

#[tokio::test]
async fn answers_that_never_come() {
    let (gateway, _upstream) = start("").await;
    let entrances = entrances(&gateway);
    let clients = asking(entrances, "GET /logs/hang HTTP/1.1\r\nhost: a\r\n\r\n").await;
    is_full_until_they_leave(gateway, entrances, clients).await;
}

#[tokio::test]
async fn uploads_that_never_end() {
    let (gateway, _upstream) = start("").await;
    let entrances = entrances(&gateway);
    let request = "POST /logs HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nbegun";
    let clients = asking(entrances, request).await;
    is_full_until_they_leave(gateway, entrances, clients).await;
}

/// Far more requests than there are places: each is answered, by a refusal or by the upstream, and nobody else notices.
#[tokio::test]
async fn a_flood() {
    const FLOOD: usize = 2_000;
    let (gateway, _upstream) = start("").await;
    let entrances = entrances(&gateway);
    let held = asking(entrances, "GET /logs/hang HTTP/1.1\r\nhost: a\r\n\r\n").await;
    gateway.lane_holds("logs", PLACES as u64).await;
    let flood = tokio::spawn(async move {
        let mut clients = Vec::new();
        for entrance in entrances {
            clients.push(Client::connect(entrance).await);
        }
        for request in 0..FLOOD {
            let client = &mut clients[request % 2];
            client.get("/logs/more").await;
            assert_eq!(client.read_answer().await.status(), 503);
        }
    });
    all_log_in(&gateway).await;
    flood.await.unwrap();
    let logs = gateway.lane("logs").await;
    assert_eq!(
        counts(&logs["rejected"]).sum::<u64>(),
        FLOOD as u64,
        "{logs}"
    );
    held.into_iter().for_each(Client::reset);
    gateway.is_idle().await;
}

/// More connections to the lane's listener than the server takes, all of them kept open.
#[tokio::test]
async fn idle_connections_beyond_the_cap() {
    const CAP: usize = 64;
    let (gateway, _upstream) = start(&format!("max_connections = {CAP}")).await;
    let listener = gateway.listener_of("logs");
    let mut login = Client::connect(gateway.traffic).await;
    let mut idle = Vec::new();
    for _ in 0..=CAP {
        let mut client = Client::connect(listener).await;
        client.get("/logs/x").await;
        assert_eq!(client.read_answer().await.status(), 200);
        idle.push(client);
    }
    all_log_in(&gateway).await;
    // Neither a connection that was there before was closed for theirs, ..
    login.get("/auth/login").await;
    assert_eq!(login.read_answer().await.text(), "welcome");
    // .. nor are they more than they may be: near the cap those longest idle give way.
    until("the lane's connections to be within the cap", || async {
        let logs = gateway.lane("logs").await;
        let active = logs["listener"]["active"].as_u64().unwrap();
        (active < CAP as u64 && active > CAP as u64 / 2).then_some(())
    })
    .await;
    assert!(idle.remove(0).read_rest().await.bytes.is_empty());
    gateway.is_idle().await;
}
