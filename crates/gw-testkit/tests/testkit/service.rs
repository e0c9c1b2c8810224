//! The controlled service, called rightly and wrongly.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gw_testkit::service::{ControlledService, ServiceError, ServiceHandle};
use gw_testkit::within;
use http::{Request, Response};
use http_body_util::Full;
use tower_service::Service;

type Controlled = ControlledService<&'static str, &'static str>;
type Handle = ServiceHandle<&'static str, &'static str, ServiceError>;

fn controlled() -> (Controlled, Handle) {
    ControlledService::new()
}

fn poll_ready(service: &mut Controlled) -> Poll<Result<(), ServiceError>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn answers_are_released_one_by_one_in_any_order() {
    let (mut service, handle) = controlled();
    let mut answers = Vec::new();
    for request in ["first", "second"] {
        assert!(poll_ready(&mut service).is_ready());
        answers.push(tokio::spawn(service.call(Request::new(request))));
    }
    let first = handle.next_call().await;
    let second = handle.next_call().await;
    assert_eq!(
        (*first.request().body(), *second.request().body()),
        ("first", "second")
    );
    assert_eq!((handle.calls(), handle.in_flight()), (2, 2));

    second.fail(ServiceError::new("no"));
    let error = within("the answer", answers.pop().unwrap())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.to_string(), "no");
    assert_eq!(handle.in_flight(), 1);

    let (request, responder) = first.into_parts();
    responder.respond(Response::new(request.into_body()));
    let response = within("the answer", answers.pop().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.into_body(), "first");
    assert_eq!(
        (
            handle.in_flight(),
            handle.peak_in_flight(),
            handle.abandoned()
        ),
        (0, 2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_test_s_and_wakes_those_who_wait() {
    let (service, handle) = controlled();
    handle.set_not_ready();
    let waiting = [service.clone(), service].map(|mut service| {
        tokio::spawn(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
            service.instance()
        })
    });
    tokio::task::yield_now().await;
    assert!(
        handle
            .instances()
            .iter()
            .all(|instance| instance.ready_polls == 1 && !instance.ready)
    );
    handle.set_ready();
    for (task, instance) in waiting.into_iter().zip([1, 0]) {
        assert_eq!(within("readiness", task).await.unwrap(), instance);
    }
    assert!(
        handle
            .instances()
            .iter()
            .all(|instance| instance.ready_polls == 2)
    );
}

#[tokio::test(start_paused = true)]
async fn readiness_can_fail_also_for_those_who_wait() {
    let (mut service, handle) = controlled();
    handle.set_not_ready();
    let waiting = tokio::spawn(async move { poll_fn(|cx| service.poll_ready(cx)).await });
    tokio::task::yield_now().await;
    handle.fail_ready(|| ServiceError::new("finished"));
    assert_eq!(
        within("the error", waiting).await.unwrap(),
        Err(ServiceError::new("finished"))
    );
    assert!(!handle.instances()[0].ready);
}

#[test]
fn a_call_without_readiness_panics_and_is_recorded() {
    let (mut service, handle) = controlled();
    let called = catch_unwind(AssertUnwindSafe(|| service.call(Request::new("early"))));
    let message = called.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("instance 0 of a ControlledService, which was not polled ready"),
        "{message}"
    );
    let violations = handle.violations();
    assert_eq!(violations.len(), 1);
    assert_eq!(
        (violations[0].instance, violations[0].earlier_calls),
        (0, 0)
    );
    assert_eq!(handle.in_flight(), 0);
}

#[test]
fn readiness_is_used_up_by_one_call() {
    let (mut service, handle) = controlled();
    assert!(poll_ready(&mut service).is_ready());
    assert!(poll_ready(&mut service).is_ready());
    let _first = service.call(Request::new("first"));
    let again = catch_unwind(AssertUnwindSafe(|| service.call(Request::new("second"))));
    assert!(again.is_err());
    assert_eq!(handle.violations()[0].earlier_calls, 1);
}

#[test]
fn readiness_is_lost_when_a_later_poll_is_pending() {
    let (mut service, handle) = controlled();
    assert!(poll_ready(&mut service).is_ready());
    handle.set_not_ready();
    assert!(handle.instances()[0].ready);
    assert!(poll_ready(&mut service).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| service.call(Request::new("late")))).is_err());
}

#[test]
fn a_clone_is_not_ready_because_its_original_was() {
    let (mut service, handle) = controlled();
    assert!(poll_ready(&mut service).is_ready());
    let mut copy = service.clone();
    assert_eq!((service.instance(), copy.instance()), (0, 1));
    assert!(catch_unwind(AssertUnwindSafe(|| copy.call(Request::new("stolen")))).is_err());
    let _future = service.call(Request::new("rightful"));
    drop(copy);
    let instances = handle.instances();
    assert_eq!(
        (
            instances[0].calls,
            instances[0].cloned_from,
            instances[0].dropped
        ),
        (1, None, false)
    );
    assert_eq!(
        (
            instances[1].calls,
            instances[1].cloned_from,
            instances[1].dropped
        ),
        (1, Some(0), true)
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_is_seen_from_both_sides() {
    let (mut service, handle) = controlled();
    assert!(poll_ready(&mut service).is_ready());
    let answer = tokio::spawn(service.call(Request::new("x")));
    let mut call = handle.next_call().await;
    assert!(!call.is_abandoned());
    answer.abort();
    call.abandoned().await;
    handle.flying(0).await;
    assert_eq!(handle.abandoned(), 1);
    let answered = catch_unwind(AssertUnwindSafe(|| call.respond(Response::new("late"))));
    assert!(answered.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_future_panics_when_told_to_and_when_forgotten() {
    let (mut service, handle) = controlled();
    for (forget, message) in [(false, "told to"), (true, "without an answer")] {
        assert!(poll_ready(&mut service).is_ready());
        let answer = tokio::spawn(service.call(Request::new("x")));
        let call = handle.next_call().await;
        if forget {
            drop(call);
        } else {
            call.panic("told to");
        }
        let panicked = within("the panic", answer).await.unwrap_err().into_panic();
        let text = panicked.downcast_ref::<String>().cloned();
        let text = text.or_else(|| {
            panicked
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        });
        assert!(text.as_ref().unwrap().contains(message), "{text:?}");
        assert_eq!((handle.in_flight(), handle.abandoned()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn automatic_answers_fit_an_infallible_service_over_any_body() {
    let (mut service, handle) = ControlledService::<Full<Bytes>, Full<Bytes>, Infallible>::new();
    handle.answer_with(|request| Ok(Response::new(request.into_body())));
    for _ in 0..3 {
        within("readiness", poll_fn(|cx| service.poll_ready(cx)))
            .await
            .unwrap();
        let answer = service.call(Request::new(Full::from("x")));
        assert_eq!(handle.in_flight(), 1);
        within("the answer", answer).await.unwrap();
    }
    assert_eq!(
        (handle.calls(), handle.in_flight(), handle.peak_in_flight()),
        (3, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "in vain for a call of the service")]
async fn waiting_for_a_call_that_never_comes_fails_loudly() {
    let (_service, handle) = controlled();
    let _call = handle.next_call().await;
}
