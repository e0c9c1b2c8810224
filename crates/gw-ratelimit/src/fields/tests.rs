use std::sync::Arc;
use std::time::Duration;

use gw_core::Mode;
use http::StatusCode;
use tokio::time::Instant;

use super::*;
use crate::quota::Quota;

fn limiter(policies: &[(&str, Quota, Mode)]) -> Arc<Limiter> {
    let builder = policies
        .iter()
        .fold(Limiter::builder(), |builder, (name, quota, mode)| {
            builder.policy_in(*name, *quota, *mode)
        });
    Arc::new(builder.build().unwrap())
}

/// What an answer tells after a request that cost so many cells of each policy.
fn advert(limiter: &Arc<Limiter>, headers: Headers, costs: &[(&str, u32)]) -> Option<Advert> {
    // Ahead of the clock, and the same each time.
    let now = Instant::now() + Duration::from_secs(3_600);
    advert_at(limiter, headers, costs, now)
}

fn advert_at(
    limiter: &Arc<Limiter>,
    headers: Headers,
    costs: &[(&str, u32)],
    now: Instant,
) -> Option<Advert> {
    let charges: Vec<_> = costs
        .iter()
        .map(|(name, cost)| limiter.charge(limiter.policy(name).unwrap(), "k", *cost))
        .collect();
    let decision = limiter.check_all(&charges, now);
    let (standings, binding) = (decision.standings(), decision.binding());
    let mut advert = None;
    let now = limiter.nanos(now);
    Advert::put(&mut advert, standings, binding, headers, limiter, now);
    advert
}

fn response() -> Response<()> {
    Response::new(())
}

fn values(response: &Response<()>, name: &HeaderName) -> Vec<String> {
    let values = response.headers().get_all(name).iter();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_draft_fields() {
    let limiter = limiter(&[
        ("per_ip", Quota::per_second(100).burst(200), Mode::Enforce),
        ("watched", Quota::per_second(1), Mode::Shadow),
        (
            "daily",
            Quota::per(Duration::from_secs(86_400), 1_000).burst(500),
            Mode::Enforce,
        ),
    ]);
    let mut response = response();
    let costs = [("per_ip", 1), ("watched", 1), ("daily", 500)];
    advert(&limiter, Headers::Draft11, &costs)
        .unwrap()
        .write(&mut response);
    assert_eq!(
        values(&response, &RATE_LIMIT_POLICY),
        [r#""per_ip";q=200;w=2, "daily";q=500;w=43200"#]
    );
    // 199 cells are worth 1.99 seconds; the next cell of the other policy comes after 86.4.
    assert_eq!(
        values(&response, &RATE_LIMIT),
        [r#""per_ip";r=199;t=2, "daily";r=0;t=87"#]
    );
    assert_eq!(response.headers().len(), 2);
}

#[test]
fn the_legacy_fields_speak_of_the_binding_policy() {
    let limiter = limiter(&[
        ("wide", Quota::per_second(100), Mode::Enforce),
        ("narrow", Quota::per_minute(60).burst(10), Mode::Enforce),
    ]);
    let mut response = response();
    let costs = [("wide", 1), ("narrow", 4)];
    advert(&limiter, Headers::Legacy, &costs)
        .unwrap()
        .write(&mut response);
    assert_eq!(values(&response, &LEGACY_LIMIT), ["10"]);
    assert_eq!(values(&response, &LEGACY_REMAINING), ["6"]);
    assert_eq!(values(&response, &LEGACY_RESET), ["4"]);
    assert_eq!(response.headers().len(), 3);
}

#[test]
fn nothing_is_told_of_what_is_not_enforced() {
    let limiter = limiter(&[("p", Quota::per_second(1), Mode::Shadow)]);
    assert!(advert(&limiter, Headers::Draft11, &[("p", 1)]).is_none());
    assert!(advert(&limiter, Headers::None, &[("p", 1)]).is_none());
}

#[test]
fn an_upstreams_fields_are_replaced_and_another_layers_kept() {
    let outer = limiter(&[("outer", Quota::per_second(10), Mode::Enforce)]);
    let inner = limiter(&[("inner", Quota::per_second(5), Mode::Enforce)]);
    let mut response = response();
    for name in [RATE_LIMIT, RATE_LIMIT_POLICY, LEGACY_REMAINING] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static("1"));
    }
    let both = Headers::Draft11AndLegacy;
    // As on the way of a request: the outer layer leaves its mark, and the inner one finds it.
    let mut request = Extensions::new();
    let mut outermost = advert(&outer, both, &[("outer", 0)]).unwrap();
    outermost.mark(&mut request);
    let mut first = advert(&inner, both, &[("inner", 1)]).unwrap();
    first.mark(&mut request);
    assert!(first.within_another && !outermost.within_another);
    first.write(&mut response);
    assert_eq!(values(&response, &RATE_LIMIT), [r#""inner";r=4;t=1"#]);
    assert_eq!(values(&response, &LEGACY_REMAINING), ["4"]);
    advert(&outer, both, &[("outer", 1)])
        .unwrap()
        .write(&mut response);
    assert_eq!(
        values(&response, &RATE_LIMIT),
        [r#""inner";r=4;t=1"#, r#""outer";r=9;t=1"#]
    );
    assert_eq!(values(&response, &RATE_LIMIT_POLICY).len(), 2);
    // The smaller number stays.
    assert_eq!(values(&response, &LEGACY_REMAINING), ["4"]);
    advert(&outer, both, &[("outer", 7)])
        .unwrap()
        .write(&mut response);
    assert_eq!(values(&response, &LEGACY_REMAINING), ["2"]);
}

#[test]
fn what_is_written_down_of_quotas_follows_changes() {
    let limiter = limiter(&[
        ("a", Quota::per_second(1), Mode::Enforce),
        ("b", Quota::per_second(2), Mode::Enforce),
    ]);
    let told = |costs: &[(&str, u32)]| {
        let mut response = response();
        advert(&limiter, Headers::Draft11, costs)
            .unwrap()
            .write(&mut response);
        values(&response, &RATE_LIMIT_POLICY)
    };
    let both: &[_] = &[("a", 0), ("b", 0)];
    assert_eq!(told(both), [r#""a";q=1;w=1, "b";q=2;w=1"#]);
    // One of them only: it is not what was written down.
    assert_eq!(told(&[("b", 0)]), [r#""b";q=2;w=1"#]);
    let b = limiter.policy("b").unwrap();
    let changed = limiter.change_quota(b, Quota::per_minute(60).burst(30), Instant::now());
    changed.unwrap();
    assert_eq!(told(both), [r#""a";q=1;w=1, "b";q=30;w=30"#]);
    limiter.change_mode(b, Mode::Shadow);
    assert_eq!(told(both), [r#""a";q=1;w=1"#]);
}

#[test]
fn a_redirect_is_not_held_up() {
    let limiter = limiter(&[("p", Quota::per_minute(1), Mode::Enforce)]);
    let mut advert = advert(&limiter, Headers::Draft11, &[("p", 1)]).unwrap();
    let mut response = response();
    *response.status_mut() = StatusCode::FOUND;
    advert.write(&mut response);
    assert!(values(&response, &RATE_LIMIT).is_empty());
    assert_eq!(values(&response, &RATE_LIMIT_POLICY), [r#""p";q=1;w=60"#]);
}

/// Story: what further in said to come back after a second was passed on beside `r=0;t=60`, and a client goes by the former
/// (draft, section 6).
#[test]
fn whoever_has_nothing_left_is_not_asked_to_come_back_before() {
    let limiter = limiter(&[
        ("minutely", Quota::per_minute(1), Mode::Enforce),
        ("hourly", Quota::per_hour(2).burst(2), Mode::Enforce),
    ]);
    let told = |costs: &[(&str, u32)], status, fields: [Option<&'static str>; 2]| {
        let mut response = response();
        *response.status_mut() = status;
        for (name, value) in [RETRY_AFTER, PUSHBACK].into_iter().zip(fields) {
            let value = value.map(HeaderValue::from_static);
            response
                .headers_mut()
                .extend(value.map(|value| (name, value)));
        }
        let mut advert = advert(&limiter, Headers::Draft11, costs).unwrap();
        advert.write(&mut response);
        let fields = [&RETRY_AFTER, &PUSHBACK].map(|name| values(&response, name).pop());
        for policy in ["minutely", "hourly"] {
            limiter.handle().reset(policy, "k");
        }
        fields
    };
    let (busy, found) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::FOUND);
    let minute: &[_] = &[("minutely", 1)];
    let [after, pushback] = told(minute, busy, [Some("1"), Some("1000")]);
    let after: u32 = after.unwrap().parse().unwrap();
    assert!((60..=72).contains(&after), "{after}");
    assert_eq!(pushback, Some((u64::from(after) * 1_000).to_string()));
    // The one that leaves nothing for longest.
    let both: &[_] = &[("minutely", 1), ("hourly", 2)];
    let [after, pushback] = told(both, busy, [Some("59"), None]);
    let after: u32 = after.unwrap().parse().unwrap();
    assert!((1_800..=2_160).contains(&after), "{after}");
    assert_eq!(pushback, None);
    // What is later stays, as does what is no number of seconds, or asks not to come back.
    for fields in [
        [Some("60"), Some("60000")],
        [Some("3600"), Some("-1")],
        [Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some("soon")],
        [None, None],
    ] {
        let kept = told(minute, busy, fields);
        assert_eq!(kept, fields.map(|field| field.map(str::to_owned)));
    }
    // Who has something left may come back; and a redirect tells nothing of limits.
    let fields = [Some("1"), Some("1000")];
    let same = fields.map(|field| field.map(str::to_owned));
    assert_eq!(told(&[("hourly", 1)], busy, fields), same);
    assert_eq!(told(minute, found, fields), same);
}

/// Story: a window of a minute was held against a wait that an upstream asked for half a minute later, and the client was sent away for
/// longer than either.
#[tokio::test(start_paused = true)]
async fn of_a_window_only_what_is_left_when_the_answer_comes_is_waited_for() {
    let limiter = limiter(&[("p", Quota::per_minute(1), Mode::Enforce)]);
    for (passed, field, pushback, kept) in [
        (30, "30", "30000", true),
        (30, "29", "29999", false),
        (60, "0", "0", true),
        (90, "1", "1", true),
    ] {
        limiter.handle().reset("p", "k");
        let costs = [("p", 1)];
        let mut advert = advert_at(&limiter, Headers::Draft11, &costs, Instant::now()).unwrap();
        tokio::time::advance(Duration::from_secs(passed)).await;
        let mut response = response();
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(field));
        headers.insert(PUSHBACK, HeaderValue::from_static(pushback));
        advert.write(&mut response);
        let told = [&RETRY_AFTER, &PUSHBACK].map(|name| values(&response, name).remove(0));
        if kept {
            assert_eq!(told, [field, pushback], "after {passed} s");
            continue;
        }
        let told = told.map(|value| value.parse::<u32>().unwrap());
        assert!((30..=36).contains(&told[0]), "{told:?}");
        assert_eq!(told[1], 1_000 * told[0]);
    }
}

/// Story: what stands further out, and answers a 503 that says nothing of the kind, asked the client back after a second or two.
#[test]
fn whoever_stands_further_out_learns_when_the_window_ends() {
    let limiter = limiter(&[("p", Quota::per_minute(1), Mode::Enforce)]);
    let left = |answer: Response<()>| {
        let mut answer = answer;
        let mut advert = advert(&limiter, Headers::Draft11, &[("p", 1)]).unwrap();
        advert.write(&mut answer);
        limiter.handle().reset("p", "k");
        let after = answer.headers().get(RETRY_AFTER).cloned();
        (NotBefore::of(answer.extensions()), after)
    };
    let answer = |status: u16, after: Option<u32>| {
        let mut response = Response::builder().status(status);
        if let Some(after) = after {
            response = response.header(RETRY_AFTER, after);
        }
        response.body(()).unwrap()
    };
    let refused = |hint: Option<u64>| {
        let mut rejection = Rejection::new(&crate::error::RATE_LIMIT_EXCEEDED);
        if let Some(hint) = hint {
            rejection = rejection.retry_after(RetryAfter::at_least(Duration::from_secs(hint)));
        }
        // To a gRPC caller.
        let mut response = answer(200, None);
        response.extensions_mut().insert(rejection);
        response
    };
    for open in [
        answer(429, None),
        answer(503, None),
        answer(504, None),
        answer(502, Some(59)),
        refused(None),
        refused(Some(59)),
    ] {
        let (left, _) = left(open);
        assert!((60..=72).contains(&left.unwrap().seconds()), "{left:?}");
    }
    // What is raised here and what is left say the same.
    let (raised, field) = left(answer(503, Some(1)));
    assert_eq!(raised.map(RetryAfter::header_value), field);
    // Late enough, so that nobody has to change it.
    for after in [60, 61, 3_600] {
        let (bound, field) = left(answer(503, Some(after)));
        assert_eq!(bound.map(RetryAfter::seconds), Some(60));
        assert_eq!(field, Some(after.into()));
    }
    // Nobody asks back, or it is said already.
    for plain in [answer(200, None), answer(502, None), refused(Some(60))] {
        assert_eq!(left(plain), (None, None));
    }
}

#[test]
fn long_lists_go_over_several_lines() {
    let names: Vec<String> = (0..20).map(|n| format!("{n:0>64}")).collect();
    let quota = Quota::per_hour(1).burst(80_000);
    let policies: Vec<_> = names
        .iter()
        .map(|n| (n.as_str(), quota, Mode::Enforce))
        .collect();
    let limiter = limiter(&policies);
    let costs: Vec<_> = names.iter().map(|n| (n.as_str(), 1)).collect();
    let mut response = response();
    advert(&limiter, Headers::Draft11, &costs)
        .unwrap()
        .write(&mut response);
    for name in [&RATE_LIMIT, &RATE_LIMIT_POLICY] {
        let lines = values(&response, name);
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|line| line.len() <= Line::SIZE));
        let members: Vec<&str> = lines.iter().flat_map(|line| line.split(", ")).collect();
        assert_eq!(members.len(), 20);
        assert!(
            members
                .iter()
                .zip(&names)
                .all(|(m, n)| m.starts_with(&format!("\"{n}\";")))
        );
    }
}
