//! Listeners of a lane's own.

#[cfg(target_os = "linux")]
use std::collections::BTreeMap;
#[cfg(target_os = "linux")]
use std::fs;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::path::PathBuf;

use gw_testkit::Gate;
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, always, by_path};
use tokio::net::TcpStream;

use crate::command::until;
use crate::gateway::{Gateway, check, config, route, upstream};
use crate::http::{get, is_refusal, page};

/// A lane `logs` with two places and a listener, beside the default one; `server` continues `[server]`.
async fn start(server: &str, upstream: &Upstream) -> (Gateway, SocketAddr) {
    let tables = format!(
        "[lanes]\ntotal = 10\n[lanes.lane.core]\nguaranteed = 0.5\n\
         [lanes.lane.logs]\nguaranteed = 0.1\ncap = 0.2\nqueue = 0\nthreads = 1\nlisten = [\"127.0.0.1:0\"]\n\
         {}{}{}{}",
        self::upstream("up", &upstream.url()),
        route("logs", "/logs", "up", "lane = \"logs\""),
        route("logs-admin", "/logs/admin", "up", ""),
        route("core", "/core", "up", "")
    );
    let gateway = Gateway::serve(&config(server, &tables)).await;
    let lane = gateway.listener_of("logs");
    (gateway, lane)
}

#[tokio::test]
async fn only_the_lanes_routes_are_there() {
    let upstream = Upstream::start(always(Reply::ok().body("up"))).await;
    let (gateway, lane) = start("", &upstream).await;
    for (address, path, status) in [
        (lane, "/logs/x", 200),
        (lane, "/core", 404),
        // Another lane's route, though this lane's prefix would cover it.
        (lane, "/logs/admin", 404),
        (lane, "/nowhere", 404),
        (gateway.traffic, "/logs/x", 200),
        (gateway.traffic, "/core", 200),
        (gateway.traffic, "/logs/admin", 200),
    ] {
        let answer = get(address, path).await;
        assert_eq!(answer.status(), status, "{path} on {address}");
        if status == 404 {
            is_refusal(path, &answer, 404, "ROUTE_NOT_FOUND");
        }
    }
    gateway.is_idle().await;
    // Who asks for what is not there has a place of this lane as well.
    assert_eq!(gateway.lane("logs").await["admitted"], 5);
    assert_eq!(gateway.lane("core").await["admitted"], 2);
}

#[tokio::test]
async fn operators_see_it() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let (gateway, lane) = start("", &upstream).await;
    let mut client = Client::connect(lane).await;
    client.get("/logs").await;
    assert_eq!(client.read_answer().await.status(), 200);
    gateway.is_idle().await;
    let logs = gateway.lane("logs").await;
    let expected = serde_json::json!({
        "addresses": [lane.to_string()], "active": 1, "accepted": 1,
    });
    assert_eq!(logs["listener"], expected);
    assert_eq!(
        (&logs["threads"], &logs["nice"], &logs["criticality"]),
        (&1.into(), &0.into(), &"critical".into())
    );
    let core = gateway.lane("core").await;
    assert!(
        ["listener", "threads", "nice"].map(|key| core[key].is_null()) == [true; 3],
        "{core}"
    );
    let index = page(gateway.admin, "/").await;
    let connections = &index["connections"];
    assert_eq!(connections["active"], 1, "{index}");
    assert_eq!(connections["listeners"]["lane:logs"]["accepted"], 1);
    // Story: whom a bound had refused or closed was nowhere to be seen.
    assert_eq!(connections["listeners"]["lane:logs"]["closed"]["full"], 0);
    let metrics = get(gateway.admin, "/metrics").await;
    for sample in [
        "gateway_active_connections{listener=\"server\"} 0",
        "gateway_active_connections{listener=\"lane:logs\"} 1",
        "gateway_closed_connections_total{listener=\"server\",reason=\"per_ip_limit\"} 0",
        "gateway_accept_errors_total{listener=\"lane:logs\"} 0",
    ] {
        let found = metrics.text().lines().any(|line| line == sample);
        assert!(found, "{sample} in\n{}", metrics.text());
    }
}

/// The niceness of threads, by their names.
#[cfg(target_os = "linux")]
fn niceness(process: u32) -> BTreeMap<String, i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // One that ends meanwhile is not of interest.
    let read = |thread: PathBuf| {
        let name = fs::read_to_string(thread.join("comm")).ok()?;
        let stat = fs::read_to_string(thread.join("stat")).ok()?;
        // proc(5): the 19th field. The second one, in parentheses, may have spaces.
        let nice = stat.rsplit_once(") ")?.1.split(' ').nth(16)?;
        Some((name.trim_end().to_owned(), nice.parse().ok()?))
    };
    threads
        .filter_map(|thread| read(thread.unwrap().path()))
        .collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_threads_are_as_nice_as_the_lanes() {
    let listening = "threads = 1\nlisten = [\"127.0.0.1:0\"]\n";
    let tables = format!(
        "[lanes]\ntotal = 10\n\
         [lanes.lane.a]\nguaranteed = 0.1\ncriticality = \"critical-plus\"\n{listening}\
         [lanes.lane.b]\nguaranteed = 0.1\ncriticality = \"sheddable\"\n{listening}\
         [lanes.lane.c]\nguaranteed = 0.1\ncriticality = \"sheddable\"\nnice = 3\n{listening}{}",
        crate::gateway::all_to("http://127.0.0.1:1", "")
    );
    let gateway = Gateway::serve(&config("threads = 1", &tables)).await;
    // Each thread sees to its own, and may only just have begun.
    until("threads to be as nice as configured", || async {
        let found = niceness(gateway.pid());
        let own = found.get("gw-traffic-0")?;
        let expected = [("a", 0), ("b", 10), ("c", 3)].map(|(lane, nice)| {
            let nice = Some((own + nice).min(19));
            ["lane", "conn"].map(|kind| (format!("gw-{kind}-{lane}-0"), nice))
        });
        let as_expected = |(name, nice): &(String, _)| found.get(name).copied() == *nice;
        expected.iter().flatten().all(as_expected).then_some(())
    })
    .await;
    let nice = &gateway.lane("b").await["nice"];
    assert_eq!(nice, 10, "as operators see it");
}

#[tokio::test]
async fn what_is_under_way_finishes_when_the_gateway_stops() {
    let gate = Gate::new();
    let held = Reply::ok().body("late").hold(At::Start, &gate);
    let upstream = Upstream::start(by_path([("/logs/held", held)], Reply::ok())).await;
    let server = "drain_delay = \"0s\"\nshutdown_grace = \"1m\"";
    let (mut gateway, lane) = start(server, &upstream).await;
    let mut client = Client::connect(lane).await;
    client.get("/logs/held").await;
    upstream.arrived(1).await;
    gateway.signal("TERM").await;
    gateway.listener_closed().await;
    until("the lane's listener to close", || async move {
        TcpStream::connect(lane).await.is_err().then_some(())
    })
    .await;
    gate.open();
    let answer = client.read_answer().await;
    assert_eq!((answer.status(), answer.text()), (200, "late"));
    assert_eq!(answer.header("connection"), Some("close"));
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("every request was finished"), "{said}");
}

#[tokio::test]
async fn what_is_cut_on_it_is_counted() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let server = "drain_delay = \"0s\"\nshutdown_grace = \"100ms\"";
    let (mut gateway, lane) = start(server, &upstream).await;
    let mut client = Client::connect(lane).await;
    client.get("/logs").await;
    upstream.arrived(1).await;
    gateway.signal("TERM").await;
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("1 requests on 1 connections were cut"),
        "{said}"
    );
}

#[tokio::test]
async fn the_servers_limits_hold_there_and_for_each_listener_alone() {
    let upstream = Upstream::start(always(Reply::ok().body("up"))).await;
    let server = "max_connections = 2\nheader_timeout = \"1s\"";
    let (gateway, lane) = start(server, &upstream).await;
    let mut elsewhere = Client::connect(gateway.traffic).await;
    elsewhere.get("/core").await;
    assert_eq!(elsewhere.read_answer().await.status(), 200);

    // A client that takes its time over its head is told so, and its connection is closed.
    let mut half = Client::connect(lane).await;
    half.send("GET /logs HTTP/1.1\r\nhos").await;
    assert_eq!(half.read_answer().await.status(), 408);
    assert!(half.read_rest().await.bytes.is_empty());

    // Two keep their connections; a third one takes the place of the first, and of nobody on another listener.
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(lane).await;
        client.get("/logs").await;
        assert_eq!(client.read_answer().await.status(), 200);
        idle.push(client);
    }
    assert!(idle.remove(0).read_rest().await.bytes.is_empty());
    until("it to be gone", || async {
        let logs = gateway.lane("logs").await;
        (logs["listener"]["active"] == 2).then_some(())
    })
    .await;
    elsewhere.get("/core").await;
    assert_eq!(elsewhere.read_answer().await.text(), "up");
}

#[tokio::test]
async fn a_listener_of_a_lane_without_routes_is_noted() {
    let tables = format!(
        "[lanes.lane.idle]\nguaranteed = 0.1\nthreads = 1\nlisten = [\"127.0.0.1:0\"]\n{}",
        crate::gateway::all_to("http://127.0.0.1:1", "")
    );
    let said = check(&config("", &tables)).await;
    said.succeeded();
    assert!(
        said.err
            .contains("lanes.lane.idle.listen: no route is in this lane"),
        "{}",
        said.err
    );
}
