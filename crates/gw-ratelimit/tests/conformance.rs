//! The contract that every gw layer keeps, as the shared suite tests it.
#![allow(clippy::unwrap_used, reason = "a test")]

use gw_ratelimit::key::ClientIp;
use gw_ratelimit::{Policy, Quota, RateLimitLayer};

mod that_refuses {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::Total(2),
        layer: |on_reject| RateLimitLayer::builder()
            .policy(Policy::new("per_ip", Quota::per_hour(1).burst(2)).key(ClientIp::new()))
            .policy(Policy::new("total", Quota::per_hour(1).burst(50)))
            .build()
            .unwrap()
            .on_reject(on_reject),
    }
}

mod that_lets_all_pass {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| RateLimitLayer::builder()
            .policy(Policy::new("per_ip", Quota::per_second(1_000_000)).key(ClientIp::new()))
            .build()
            .unwrap()
            .on_reject(on_reject),
    }
}

mod that_charges_bodies {
    use std::num::NonZeroU32;

    use gw_ratelimit::ChargeBodyLayer;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_| ChargeBodyLayer::new("p", NonZeroU32::MIN),
    }
}

mod that_refuses_and_charges_bodies {
    use std::num::NonZeroU32;

    use gw_ratelimit::{Adjust, ChargeBodyLayer, ChargedBody, OnReject, RejectContext, Rejection};
    use http::Response;
    use tower::Layer;

    use super::*;

    /// The limit around the layer that charges the bodies.
    #[derive(Clone)]
    struct Both<L>(L);

    impl<S, L: Layer<<ChargeBodyLayer as Layer<S>>::Service>> Layer<S> for Both<L> {
        type Service = L::Service;

        fn layer(&self, inner: S) -> L::Service {
            const BYTE: NonZeroU32 = NonZeroU32::MIN;
            self.0.layer(ChargeBodyLayer::new("p", BYTE).layer(inner))
        }
    }

    /// A renderer's answers as those of a layer with charged bodies.
    #[derive(Clone)]
    struct Charging<R>(R);

    impl<R: OnReject<Response<B>, E>, B, E> OnReject<Response<ChargedBody<B>>, E> for Charging<R> {
        type Error = R::Error;

        fn reject(
            &self,
            rejection: Rejection,
            context: &RejectContext,
        ) -> Result<Response<ChargedBody<B>>, R::Error> {
            let answer = self.0.reject(rejection, context)?;
            Ok(answer.map(ChargedBody::new))
        }

        fn inner(error: E) -> R::Error {
            R::inner(error)
        }
    }

    gw_testkit::conformance! {
        admits: Admits::Total(2),
        layer: |on_reject| Both(
            RateLimitLayer::builder()
                .policy(
                    Policy::new("p", Quota::per_hour(1).burst(2))
                        .key(ClientIp::new())
                        .late_charges()
                        .charge_response(|_| Adjust::Nothing),
                )
                .build()
                .unwrap()
                .on_reject(Charging(on_reject))
        ),
    }
}
