//! What is held back under pressure, the guard against amplification, and the modes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod intake_support;

use gw_core::key::{ClientIp, Header};
use gw_logingest::intake::{Classifier, ClientKey, OnInvalid};
use gw_logingest::queue::{AppendError, Durability, Queue as _, QueueState, Want};
use gw_logingest::{Class, LogIngest, MemoryQueue, Mode, Pressure};
use http::{HeaderName, Request};
use intake_support::*;
use serde_json::json;

const OWN: &str = "upload_failure";

/// One event of each class.
fn mixed() -> String {
    let events = [
        of_kind("audit", "audit"),
        event("error", "error"),
        event("info", "normal"),
        event("debug", "debug"),
        of_kind(OWN, "own"),
    ];
    format!("[{}]", events.join(","))
}

#[tokio::test(start_paused = true)]
async fn watermarks() {
    use Class::{Audit, Debug, Error, Normal, Own};
    let all = vec![Audit, Error, Normal, Debug, Own];
    for (percent, healthy, state, stored, suppressed, limits) in [
        (0, true, QueueState::Serving, all.clone(), 0, "0::client"),
        (49, true, QueueState::Serving, all.clone(), 0, "0::client"),
        (
            0,
            false,
            QueueState::Serving,
            vec![Audit, Error, Normal, Debug],
            1,
            "60:self:all",
        ),
        (
            0,
            true,
            QueueState::Failing,
            vec![Audit, Error, Normal, Debug],
            1,
            "60:self:all",
        ),
        (
            50,
            true,
            QueueState::Serving,
            vec![Audit, Error, Normal, Debug],
            1,
            "60:self:all",
        ),
        (
            70,
            true,
            QueueState::Serving,
            vec![Audit, Error, Normal],
            2,
            "60:self:all,60:debug:all",
        ),
        (
            94,
            true,
            QueueState::Serving,
            vec![Audit, Error, Normal],
            2,
            "60:self:all,60:debug:all",
        ),
    ] {
        let queue = FakeQueue::new();
        queue.fill(percent);
        queue.state(state);
        let pressure = Pressure::new();
        pressure.set_sink_healthy(healthy);
        let ingest = builder(&queue).pressure(pressure).build().unwrap();
        let answer = send(&ingest, post(mixed())).await;
        assert_eq!(answer.status, 202, "{percent}");
        assert_eq!(queue.classes(), stored, "{percent}");
        assert_eq!(answer.json["suppressed"], suppressed, "{percent}");
        assert_eq!(answer.json["accepted"], stored.len(), "{percent}");
        assert_eq!(answer.header("x-gw-log-limits"), limits, "{percent}");
        let counts = ingest.handle().snapshot().counts;
        assert_eq!((counts.received, counts.imbalance()), (5, 0), "{percent}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_last_mark_only_audit_records_pass() {
    let queue = FakeQueue::new();
    queue.fill(95);
    queue.drain_rate(0.5);
    let ingest = builder(&queue).build().unwrap();
    let answer = send(&ingest, post(mixed())).await;
    assert_eq!((answer.status, answer.code()), (503, "OVERLOADED"));
    assert_eq!(answer.detail("reason"), "audit_only");
    let wait = answer.header("retry-after");
    // One byte above the mark, at half a byte in a second.
    assert!((2..=4).contains(&wait.parse::<u32>().unwrap()), "{wait}");
    assert_eq!(
        answer.header("x-gw-log-limits"),
        format!("60:self:all,60:debug:all,{wait}:error;normal;debug;self:all")
    );
    assert!(queue.batches().is_empty());

    let records = format!("[{},{}]", of_kind("audit", "a"), of_kind(OWN, "own"));
    let answer = send(&ingest, post(records)).await;
    assert_eq!(
        (answer.status, &answer.json["suppressed"]),
        (202, &json!(1))
    );
    assert_eq!(queue.classes(), [Class::Audit]);
    // Only what is to be suppressed anyway: success.
    let answer = send(&ingest, post(of_kind(OWN, "own"))).await;
    assert_eq!(
        (answer.status, &answer.json["receipt"]),
        (202, &json!(null))
    );

    let strict = builder(&queue)
        .classifier(Classifier::new().trust_audit(false))
        .build()
        .unwrap();
    assert_eq!(send(&strict, post(of_kind("audit", "a"))).await.status, 503);
    assert_eq!(send(&strict, post(of_kind(OWN, "own"))).await.status, 202);
}

#[tokio::test(start_paused = true)]
async fn shadow_decides_and_lets_pass_and_off_does_nothing() {
    let queue = FakeQueue::new();
    queue.fill(96);
    let ingest = builder(&queue).mode(Mode::Shadow).build().unwrap();
    let handle = ingest.handle();
    for mode in [Mode::Shadow, Mode::Off] {
        handle.set_mode(mode);
        for _ in 0..3 {
            let answer = send(&ingest, post(mixed())).await;
            assert_eq!(
                (answer.status, &answer.json["accepted"]),
                (202, &json!(5)),
                "{mode:?}"
            );
            assert_eq!(answer.header("x-gw-log-limits"), "0::client", "{mode:?}");
        }
        assert_eq!((handle.mode(), handle.snapshot().mode), (mode, mode));
    }
    assert_eq!(queue.events().len(), 30);
    handle.set_mode(Mode::Enforce);
    assert_eq!(send(&ingest, post(mixed())).await.status, 503);
    assert_eq!(handle.snapshot().counts.imbalance(), 0);
}

/// Story: each failed upload left one report, which travelled with the next batch. With the guard, the reports of a
/// client stay at one a minute, and their number is told by one event.
#[tokio::test(start_paused = true)]
async fn reports_about_failed_uploads_do_not_breed() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let batch = || format!("[{},{}]", event("info", "real"), of_kind(OWN, "own"));
    for _ in 0..30 {
        assert_eq!(send(&ingest, post(batch())).await.status, 202);
        tokio::time::advance(seconds(1)).await;
    }
    let own = |queue: &FakeQueue| {
        queue
            .classes()
            .iter()
            .filter(|&&class| class == Class::Own)
            .count()
    };
    assert_eq!((own(&queue), queue.events().len()), (1, 31));
    tokio::time::advance(seconds(30)).await;
    let answer = send(&ingest, post(batch())).await;
    assert_eq!(
        (&answer.json["accepted"], &answer.json["suppressed"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(own(&queue), 2);
    let (class, told) = queue.events().pop().unwrap();
    assert_eq!((class, &told["fields"]["count"]), (Class::Own, &json!(30)));
    let counts = ingest.handle().snapshot().counts;
    assert_eq!(
        (
            counts.received,
            counts.accepted,
            counts.collapsed,
            counts.imbalance()
        ),
        (62, 32, 30, 0)
    );
    assert_eq!(
        queue.events().len() as u64,
        counts.accepted + counts.reports
    );
}

#[tokio::test(start_paused = true)]
async fn one_percent_of_the_real_events_may_be_reports() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let mut events: Vec<String> = (0..500).map(|n| event("info", &n.to_string())).collect();
    events.extend((0..9).map(|_| of_kind(OWN, "own")));
    let answer = send(&ingest, post(format!("[{}]", events.join(",")))).await;
    assert_eq!(
        (&answer.json["accepted"], &answer.json["suppressed"]),
        (&json!(505), &json!(4))
    );
}

/// A refused batch comes again: what the guard granted it must still be there.
#[tokio::test(start_paused = true)]
async fn a_refused_batch_costs_the_guard_nothing() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let body = || {
        post(format!(
            "[{},{}]",
            event("info", "real"),
            of_kind(OWN, "own")
        ))
    };
    queue.append_by(Append::Refuse(AppendError::Full {
        retry_after: seconds(1),
    }));
    for _ in 0..3 {
        assert_eq!(send(&ingest, body()).await.status, 503);
    }
    queue.append_by(Append::Store(Durability::Host));
    assert_eq!(send(&ingest, body()).await.json["accepted"], 2);
    assert_eq!(queue.messages(), ["real", "own"]);
}

#[tokio::test(start_paused = true)]
async fn reports_of_a_client_that_hangs_up_count_as_taken() {
    // Story: the disk is slow, clients give up after a second and report that. Each of these batches is stored all the
    // same, so their reports must count.
    let queue = FakeQueue::new();
    let gate = gw_testkit::Gate::new();
    queue.append_by(Append::Wait(gate.clone()));
    let ingest = builder(&queue).build().unwrap();
    let storing = tokio::spawn({
        let ingest = ingest.clone();
        async move { send(&ingest, post(of_kind(OWN, "first"))).await }
    });
    gate.reached(1).await;
    storing.abort();
    assert!(storing.await.unwrap_err().is_cancelled());
    queue.append_by(Append::Store(Durability::Host));
    let answer = send(&ingest, post(of_kind(OWN, "second"))).await;
    assert_eq!(
        (answer.status, &answer.json["suppressed"]),
        (202, &json!(1))
    );
    assert!(queue.batches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn own_traffic_is_known_by_each_sign() {
    let mention = event("error", "POST /api/logs answered 503");
    let logger = format!(
        r#"{{"trace_id":"{TRACE}","service":"s","level":"info","message":"m","logger":"gw_logingest::client"}}"#
    );
    let mut marked = post(event("info", "marked"));
    marked
        .headers_mut()
        .insert("x-gw-log-self", "1".parse().unwrap());
    for request in [
        post(of_kind(OWN, "own")),
        post(mention),
        post(logger),
        marked,
    ] {
        let queue = FakeQueue::new();
        let ingest = builder(&queue)
            .classifier(Classifier::new().path("/api/logs"))
            .build()
            .unwrap();
        send(&ingest, request).await;
        assert_eq!(queue.classes(), [Class::Own]);
    }
}

/// Story: wrapped events are of the level `info` and of no kind or logger of their own, so reports among them, such as those
/// of clients that know of no trace, counted as events like others.
#[tokio::test(start_paused = true)]
async fn own_traffic_is_known_among_wrapped_events_as_well() {
    for (line, class) in [
        ("ERROR POST https://gw/api/logs answered 503", Class::Own),
        (
            r#"{"level":"error","message":"POST https:\/\/gw\/api\/logs: 503"}"#,
            Class::Own,
        ),
        (
            r#"{"kind":"upload_failure","message":"gave up"}"#,
            Class::Own,
        ),
        (
            r#"{"logger":"gw_logingest::client","message":"gave up"}"#,
            Class::Own,
        ),
        ("ERROR at /srv/api/logs/a.ts:1", Class::Normal),
        (r#"{"kind":"order","message":"gave up"}"#, Class::Normal),
    ] {
        let queue = FakeQueue::new();
        let ingest = builder(&queue)
            .classifier(Classifier::new().path("/api/logs"))
            .on_invalid(OnInvalid::Wrap {
                service: "raw".into(),
            })
            .build()
            .unwrap();
        send(&ingest, ndjson(line.to_owned())).await;
        assert_eq!(queue.classes(), [class], "{line}");
        assert_eq!(queue.events()[0].1["kind"], "unparsed");
    }
}

#[tokio::test(start_paused = true)]
async fn circles_are_cut() {
    for (hops, stored) in [
        ("0", 1),
        ("2", 1),
        ("3", 0),
        ("99999999999999999999", 0),
        ("nonsense", 1),
    ] {
        let queue = FakeQueue::new();
        let mut request = post(array(1));
        request
            .headers_mut()
            .insert("x-gw-log-hops", hops.parse().unwrap());
        let answer = send(&builder(&queue).build().unwrap(), request).await;
        assert_eq!(
            (answer.status, queue.batches().len()),
            (202, stored),
            "{hops}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn batches_are_booked_under_their_client() {
    const NAME: HeaderName = HeaderName::from_static("x-client");
    let queue = FakeQueue::new();
    let ingest = builder(&queue)
        .clients([
            ClientKey::Header(Header::new(NAME)),
            ClientKey::Ip(ClientIp::new()),
        ])
        .build()
        .unwrap();
    let from = |name: &str| -> Request<gw_core::Body> {
        let mut request = post(array(1));
        request.headers_mut().insert(NAME, name.parse().unwrap());
        request
    };
    for n in 0..40 {
        send(&ingest, from(&format!("device-{n}"))).await;
    }
    send(&ingest, post(array(1))).await;
    let clients: Vec<String> = queue
        .batches()
        .iter()
        .map(|batch| batch.client().to_string())
        .collect();
    assert_eq!(clients[31], "header:device-31");
    // An address cannot make up more clients than 32.
    assert!(clients[32..].iter().all(|client| client == "ip:192.0.2.1"));
}

/// Story: only what was there before a batch was looked at, so that one of 60 KB took what was left of a megabyte, and the next
/// audit record was refused.
#[tokio::test(start_paused = true)]
async fn a_batch_leaves_the_reserve_to_audit_records() {
    let queue = MemoryQueue::builder()
        .max_bytes(1 << 20)
        .client_share(1000.0)
        .build()
        .unwrap();
    let ingest = LogIngest::builder(queue.clone()).build().unwrap();
    let of_length = |length: usize| post(event("info", &"x".repeat(length)));
    for _ in 0..47 {
        assert_eq!(send(&ingest, of_length(20_480)).await.status, 202);
    }
    let share = queue.status().bytes as f64 / queue.status().capacity as f64;
    assert!((0.93..0.95).contains(&share), "{share}");

    let answer = send(&ingest, of_length(60_000)).await;
    assert_eq!((answer.status, answer.code()), (503, "OVERLOADED"));
    assert_eq!(answer.detail("reason"), "audit_only");
    assert!(
        answer
            .header("x-gw-log-limits")
            .ends_with(":error;normal;debug;self:all")
    );
    let record = of_kind("audit", &"x".repeat(50_000));
    assert_eq!(send(&ingest, post(record)).await.status, 202);
}

/// A batch that never fits below the mark is taken once nothing is left to wait for.
#[tokio::test(start_paused = true)]
async fn an_empty_queue_takes_what_there_is_room_for() {
    let queue = MemoryQueue::builder()
        .max_bytes(100_000)
        .client_share(1000.0)
        .build()
        .unwrap();
    let ingest = LogIngest::builder(queue.clone()).build().unwrap();
    let large = || post(event("info", &"x".repeat(96_000)));
    assert_eq!(
        send(&ingest, post(event("info", "small"))).await.status,
        202
    );
    let answer = send(&ingest, large()).await;
    assert_eq!(answer.detail("reason"), "audit_only");
    for leased in queue
        .lease(Want {
            bytes: 1,
            events: 1,
        })
        .await
    {
        leased.acknowledge();
    }
    assert_eq!(send(&ingest, large()).await.status, 202);
}

/// Story: reports that were collapsed while all was well were told of in the middle of the outage, by an event of the class
/// that was suppressed.
#[tokio::test(start_paused = true)]
async fn what_was_collapsed_is_told_once_reports_are_taken_again() {
    let queue = FakeQueue::new();
    let pressure = Pressure::new();
    let ingest = builder(&queue).pressure(pressure.clone()).build().unwrap();
    let reports = [of_kind(OWN, "a"), of_kind(OWN, "b"), of_kind(OWN, "c")];
    let answer = send(&ingest, post(format!("[{}]", reports.join(",")))).await;
    assert_eq!(answer.json["suppressed"], 2);
    pressure.set_sink_healthy(false);
    tokio::time::advance(seconds(60)).await;
    send(&ingest, post(event("info", "real"))).await;
    queue.fill(95);
    send(&ingest, post(of_kind("audit", "audit"))).await;
    assert_eq!(queue.classes(), [Class::Own, Class::Normal, Class::Audit]);

    pressure.set_sink_healthy(true);
    queue.fill(0);
    send(&ingest, post(event("info", "real"))).await;
    let (class, told) = queue.events().pop().unwrap();
    assert_eq!((class, &told["fields"]["count"]), (Class::Own, &json!(2)));
    let counts = ingest.handle().snapshot().counts;
    assert_eq!((counts.collapsed, counts.imbalance()), (2, 0));
}

/// Story: a report whose upload began while reports were taken was stored although the queue had filled up to the reserve.
#[tokio::test(start_paused = true)]
async fn reports_are_suppressed_by_how_things_stand_at_their_end() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let (body, handle) = gw_testkit::body::ScriptedBody::script()
        .data(format!("[{},", of_kind(OWN, "early")))
        .hold()
        .data(of_kind(OWN, "late") + "]")
        .build();
    let sending = tokio::spawn({
        let ingest = ingest.clone();
        async move { send(&ingest, request("application/json", body)).await }
    });
    handle.held().await;
    queue.fill(95);
    handle.resume();
    let answer = sending.await.unwrap();
    assert_eq!(
        (answer.status, &answer.json["suppressed"]),
        (202, &json!(2))
    );
    assert!(queue.batches().is_empty());
    let counts = ingest.handle().snapshot().counts;
    assert_eq!((counts.suppressed, counts.imbalance()), (2, 0));
}

/// Story: the marks were read at the head only, so uploads that began below the mark and took long filled the reserve.
#[tokio::test(start_paused = true)]
async fn a_queue_that_fills_while_the_body_arrives() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let (body, handle) = gw_testkit::body::ScriptedBody::script()
        .data("[")
        .hold()
        .data(event("info", "late") + "]")
        .build();
    let sending =
        tokio::spawn(async move { send(&ingest, request("application/json", body)).await });
    handle.held().await;
    queue.fill(95);
    handle.resume();
    let answer = sending.await.unwrap();
    assert_eq!(
        (answer.status, answer.detail("reason")),
        (503, &json!("audit_only"))
    );
    assert!(queue.batches().is_empty());
}
