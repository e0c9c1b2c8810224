//! Permits and slots come back, however a request ends.

use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Framing, Reply, Upstream, by_path};

use crate::gateway::{Gateway, all_to, config, without_breakers};
use crate::http::{get, page};

#[tokio::test]
async fn after_every_kind_of_end_all_places_are_free() {
    let upstream = Upstream::start(by_path(
        [
            ("/ok", Reply::ok().body("ok")),
            (
                "/chunks",
                Reply::ok().chunks(["a", "b"]).trailer("x-sum", "1"),
            ),
            ("/500", Reply::status(500).body("secret")),
            ("/reset", Reply::ok().body("0123456789").reset(At::Body(4))),
            (
                "/cut",
                Reply::ok()
                    .body("0123")
                    .framing(Framing::Length(10))
                    .close(),
            ),
            ("/garbage", Reply::raw("garbage\r\n\r\n")),
            ("/hang", Reply::ok().stall(At::Start)),
            ("/pause", Reply::ok().body("0123456789").stall(At::Body(4))),
            ("/upgrade", Reply::upgrade("echo")),
        ],
        Reply::ok(),
    ))
    .await;
    for lane in ["", "threads = 1"] {
        let mut tables = "[limits.all]\nkey = \"global\"\nrate = \"1/h\"\nburst = 64\n".to_owned();
        tables += &format!(
            "[lanes]\ntotal = 8\n[lanes.lane.core]\nguaranteed = 1.0\nqueue = 0\n{lane}\n"
        );
        tables += &all_to(
            &upstream.url(),
            "limits = [\"all\"]\nmax_body_bytes = \"16B\"\n\
             timeouts = { request = \"2s\", first_byte = \"200ms\", idle = \"200ms\" }",
        );
        let gateway = Gateway::serve(&config(
            "body_idle_timeout = \"200ms\"",
            &without_breakers(&tables),
        ))
        .await;
        let address = gateway.traffic;
        for path in [
            "/ok", "/chunks", "/500", "/reset", "/cut", "/garbage", "/hang", "/pause", "/%00",
        ] {
            get(address, path).await;
        }
        for request in [
            "HEAD /ok HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n0\r\n\r\n",
        ] {
            let mut client = Client::connect(address).await;
            client.send(request).await;
            client
                .read_answer_to(request.split(' ').next().unwrap())
                .await;
        }
        for path in ["/hang", "/pause", "/upgrade"] {
            // Leaves without a word as soon as the gateway is at it.
            let mut client = Client::connect(address).await;
            let before = upstream.requests().len();
            client
                .send(&format!(
                    "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
                ))
                .await;
            upstream.arrived(before + 1).await;
            client.reset();
        }
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            tasks.spawn(get(address, "/ok"));
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        gateway.is_idle().await;

        let lanes = page(gateway.admin, "/lanes").await;
        assert_eq!(lanes["in_flight"], 0, "{lanes}");
        let metrics = get(gateway.admin, "/metrics").await;
        let in_flight = "gateway_lane_in_flight{lane=\"core\"} 0";
        assert!(
            metrics.text().lines().any(|line| line == in_flight),
            "{}",
            metrics.text()
        );
        let limits = page(gateway.admin, "/limits").await;
        assert!(
            limits["limits"][0]["limited"].as_u64() > Some(0),
            "{limits}"
        );
    }
}
