//! Clients that are waited for.

use gw_bulkhead::limit::{Aimd, Limit};
use gw_bulkhead::{BulkheadLayer, Deadline, LaneConfig};
use gw_core::record::Record;
use http::StatusCode;
use tokio::time::{Instant, advance};
use tower::Layer as _;

use super::support::{call, inner, poll, request};
use super::{ANSWERED, SECOND, adaptive, layer, seen, status};

/// Story: see `the_time_in_which_the_client_is_waited_for_is_not_counted`.
#[tokio::test(start_paused = true)]
async fn who_sends_slowly_is_no_slow_answer_and_no_timeout() {
    let observed = |record: &Record| {
        let mut request = request();
        request.extensions_mut().insert(record.clone());
        let due = Deadline::at(Instant::now() + SECOND);
        request.extensions_mut().insert(due);
        request
    };
    let lane = || LaneConfig::new("core");
    for (lane, is_cut) in [(lane(), false), (lane().max_hold(SECOND), true)] {
        let layer = layer(lane);
        let handle = layer.handle();
        let (service, inner) = inner();
        let mut service = layer.layer(service);
        // Nine tenths of the time are the client's.
        let mut send = async |answer: Option<StatusCode>| {
            let record = Record::default();
            record.update(|exchange| exchange.upload_wait_begins(Instant::now()));
            let mut future = call(&mut service, observed(&record)).await;
            assert!(poll(&mut future).is_pending());
            advance(SECOND * 9 / 10).await;
            record.update(|exchange| exchange.upload_wait_ends(Instant::now()));
            let call = inner.next_call().await;
            match answer {
                // By the lane's own time, or by a timer outside.
                None if is_cut => assert_eq!(future.await.unwrap().status(), 504),
                None => advance(SECOND / 10).await,
                Some(code) => {
                    advance(SECOND / 20).await;
                    call.respond(status(code));
                    assert_eq!(future.await.unwrap().status(), code);
                }
            }
        };
        for _ in 0..10 {
            send(Some(StatusCode::OK)).await;
        }
        assert_eq!(seen(&handle), ANSWERED);
        let latency = adaptive(&handle).report.latency.unwrap();
        assert!((49..=50).contains(&latency.as_millis()), "{latency:?}");
        for _ in 0..10 {
            send(Some(StatusCode::GATEWAY_TIMEOUT)).await;
            send(None).await;
        }
        assert_eq!(seen(&handle), ANSWERED);
    }
}

/// Story: calls that stream, each of which is answered while the client is still sending, were not counted; ten that the service
/// refused were all that a window had in it, and the limit went down though thousands went well.
#[tokio::test(start_paused = true)]
async fn answers_while_the_client_is_still_sending_count_beside_drops() {
    let limit = Limit::adaptive(Aimd::default()).max(100).initial(50);
    let lane = LaneConfig::new("core").guaranteed(1.0);
    let layer = BulkheadLayer::builder(limit).lane(lane).build().unwrap();
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    for number in 1..=2_000 {
        let record = Record::default();
        record.update(|exchange| exchange.upload_wait_begins(Instant::now()));
        let mut request = request();
        request.extensions_mut().insert(record);
        let mut future = call(&mut service, request).await;
        assert!(poll(&mut future).is_pending());
        advance(SECOND / 10).await;
        let code = match number % 200 {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        inner.next_call().await.respond(status(code));
        assert_eq!(future.await.unwrap().status(), code);
    }
    assert_eq!(seen(&handle), (1, 0, 10, 50));
}
