//! The contract of every layer.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use gw_breaker::{BreakerConfig, BreakerLayer, JudgeAt, Window};

gw_testkit::conformance! {
    admits: Admits::All,
    layer: |on_reject| BreakerLayer::builder("upstream").build().unwrap().on_reject(on_reject),
}

/// With all that a call can be looked at for.
mod all_policies {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| {
            let window = Window::Time(Duration::from_secs(10));
            let config = BreakerConfig::new().window(window).slow_rate(0.5, Duration::from_secs(60));
            let layer = BreakerLayer::builder("upstream").config(config).build().unwrap();
            layer.judge_at(JudgeAt::Head).on_reject(on_reject)
        },
    }
}

mod keyed {
    use gw_breaker::key::Global;

    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| {
            BreakerLayer::builder("upstream").per_key(Global).build().unwrap().on_reject(on_reject)
        },
    }
}

/// It stands inside of a breaker, and refuses nothing itself.
mod upload {
    use gw_breaker::upload::{RequestBody, UploadLayer};
    use gw_testkit::gw_core::Body;

    gw_testkit::conformance! {
        admits: Admits::All,
        request_body: RequestBody<Body>,
        layer: |_on_reject| UploadLayer,
    }
}

/// The macro asks that a layer is not ready while the inner service is not. That holds for a breaker that is closed; one
/// that is not answers without asking, so what else it must keep is tested one by one.
mod not_closed {
    use gw_breaker::{BreakerHandle, HalfOpen, OpenTime, State};
    use gw_testkit::conformance::{self, Admits, AnyBody, FullBody};
    use gw_testkit::gw_core::RespondWith;
    use tokio::time::Instant;

    use super::*;

    type Renderer = RespondWith<<FullBody as AnyBody>::Body>;

    fn layer(
        config: BreakerConfig,
    ) -> (
        BreakerLayer<gw_breaker::Single, gw_breaker::ContentClassifier, Renderer>,
        BreakerHandle,
    ) {
        let layer = BreakerLayer::builder("upstream")
            .config(config)
            .build()
            .unwrap();
        let handle = layer.handle();
        (layer.on_reject(RespondWith::new(FullBody::whole)), handle)
    }

    /// A breaker whose open time is over, so that two probes may pass.
    fn probing() -> BreakerLayer<gw_breaker::Single, gw_breaker::ContentClassifier, Renderer> {
        let moment = Duration::from_millis(1);
        let config = BreakerConfig::new()
            .consecutive_failures(1)
            .open_time(OpenTime::exponential(moment, moment))
            .half_open(
                HalfOpen::probes(2)
                    .successes(31)
                    .max_wait(Duration::from_secs(3600)),
            );
        let (layer, handle) = layer(config);
        let past = Instant::now();
        let admission = handle.breaker().admit(past).unwrap();
        admission.record(gw_breaker::Ended::with(gw_breaker::Outcome::Failure), past);
        assert_eq!(handle.snapshot().state, State::Open);
        layer
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_one_refuses_whatever_is_applied() {
        for _ in 0..2 {
            let (layer, handle) = layer(BreakerConfig::new());
            handle.force_open();
            conformance::sixteen_layers_share_one_limit::<_, FullBody, _, gw_testkit::gw_core::Body>(layer.clone(), Admits::Total(0)).await;
            conformance::touches_nothing_when_it_refuses::<_, FullBody, _, gw_testkit::gw_core::Body>(layer.clone(), Admits::Total(0)).await;
            conformance::holds_nothing_when_idle::<_, FullBody, _, gw_testkit::gw_core::Body>(
                layer,
                Admits::Total(0),
            )
            .await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_open_one_shares_its_probes_among_all() {
        let two = Admits::InFlight(2);
        let open_time_is_over = || tokio::time::advance(Duration::from_millis(5));
        let layer = probing();
        open_time_is_over().await;
        conformance::sixteen_layers_share_one_limit::<_, FullBody, _, gw_testkit::gw_core::Body>(
            layer, two,
        )
        .await;
        let layer = probing();
        open_time_is_over().await;
        conformance::touches_nothing_when_it_refuses::<_, FullBody, _, gw_testkit::gw_core::Body>(
            layer, two,
        )
        .await;
        let layer = probing();
        open_time_is_over().await;
        conformance::holds_nothing_when_idle::<_, FullBody, _, gw_testkit::gw_core::Body>(
            layer, two,
        )
        .await;
    }
}
