//! Rate limits.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Reply, Upstream, always};

use crate::gateway::{Gateway, all_to, config, route, upstream};
use crate::http::{get, is_refusal, page, retry_after};

#[tokio::test]
async fn over_the_limit_is_429_on_every_connection_and_other_routes_answer() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let mut tables = "[limits.few]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 3\n".to_owned();
    tables += &all_to(&upstream.url(), "");
    tables += &route("few", "/few", "up", "limits = [\"few\"]");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let mut left = Vec::new();
    // A connection each: a limit that starts afresh with each one would let all of them pass.
    for _ in 0..3 {
        let answer = get(gateway.traffic, "/few").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(
            answer
                .header("ratelimit-policy")
                .unwrap()
                .starts_with("\"few\";q=3;"),
            "{answer:?}"
        );
        left.push(
            answer
                .header("ratelimit")
                .unwrap()
                .split(';')
                .nth(1)
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(left, ["r=2", "r=1", "r=0"]);
    let mut client = Client::connect(gateway.traffic).await;
    for _ in 0..3 {
        client.get("/few").await;
        let answer = client.read_answer().await;
        is_refusal("over the limit", &answer, 429, "RATE_LIMIT_EXCEEDED");
        assert!(retry_after("over the limit", &answer) > 60);
        assert!(
            answer
                .header("ratelimit")
                .unwrap()
                .starts_with("\"few\";r=0;"),
            "{answer:?}"
        );
        assert!(answer.header("ratelimit-policy").is_some());
    }
    client.get("/other").await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("ratelimit"),
        None,
        "no limit, no field: {answer:?}"
    );
    assert_eq!(upstream.requests().len(), 4);

    let limits = page(gateway.admin, "/limits").await;
    let few = &limits["limits"][0];
    assert_eq!((&few["name"], &few["keys"]), (&"few".into(), &1.into()));
    assert_eq!((&few["allowed"], &few["limited"]), (&3.into(), &3.into()));
    gateway.is_idle().await;
}

#[tokio::test]
async fn who_has_nothing_left_is_not_asked_back_before_the_window_by_a_503_either() {
    let upstream = Upstream::start(always(Reply::status(503))).await;
    let mut tables = "[limits.few]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 1\n".to_owned();
    tables += &all_to(&upstream.url(), "limits = [\"few\"]");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let answer = get(gateway.traffic, "/").await;
    is_refusal("a bare 503", &answer, 503, "UPSTREAM_UNAVAILABLE");
    assert_eq!(answer.header("ratelimit"), Some("\"few\";r=0;t=3600"));
    assert!(retry_after("a bare 503", &answer) >= 3600);
}

/// Story: a refusal of the gateway's own told nobody of the limits. The open breaker asked to come back after some seconds, and who
/// did was then told to wait for an hour.
#[tokio::test]
async fn nor_by_a_breaker_that_is_open() {
    let upstream = Upstream::start(always(Reply::status(503))).await;
    let mut tables = "[limits.few]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 1\n".to_owned();
    tables += &self::upstream("up", &upstream.url());
    tables += "breaker = { consecutive = 1 }\n";
    tables += &route("opens", "/opens", "up", "");
    tables += &route("few", "/few", "up", "limits = [\"few\"]");
    let gateway = Gateway::serve(&config("", &tables)).await;
    assert_eq!(get(gateway.traffic, "/opens").await.status(), 503);
    let answer = get(gateway.traffic, "/few").await;
    is_refusal("open", &answer, 503, "CIRCUIT_OPEN");
    assert_eq!(answer.header("ratelimit"), Some("\"few\";r=0;t=3600"));
    assert!(retry_after("open", &answer) >= 3600);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_limit_in_shadow_lets_pass_and_counts() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let mut tables =
        "[limits.few]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 1\nmode = \"shadow\"\n".to_owned();
    tables += &all_to(&upstream.url(), "limits = [\"few\"]");
    let gateway = Gateway::serve(&config("", &tables)).await;
    for _ in 0..3 {
        assert_eq!(get(gateway.traffic, "/").await.status(), 200);
    }
    let limits = page(gateway.admin, "/limits").await;
    assert_eq!(limits["limits"][0]["would_limit"], 2, "{limits}");
}

#[tokio::test]
async fn a_scanner_meets_the_limit_before_it_learns_of_404() {
    let mut tables = "[limits.few]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 2\n".to_owned();
    tables += &upstream("up", "http://127.0.0.1:1");
    tables += &route("one", "/one", "up", "");
    let gateway = Gateway::serve(&config("default_limits = [\"few\"]", &tables)).await;
    for (n, (status, left)) in [(404, "r=1"), (404, "r=0"), (429, "r=0"), (429, "r=0")]
        .into_iter()
        .enumerate()
    {
        let answer = get(gateway.traffic, &format!("/scan/{n}")).await;
        assert_eq!(answer.status(), status);
        // Story: the 404 had no such field.
        let told = answer.header("ratelimit").unwrap_or_default();
        assert_eq!(told.split(';').nth(1), Some(left), "{answer:?}");
    }
}
