//! The contract that every gw layer meets, as tests that a layer's crate calls with one macro.
//!
//! [`conformance!`](crate::conformance!) makes the tests from an expression for the layer. They prove that
//!
//! - sixteen applications of the layer share one limit, by hand and through `axum::serve` with sixteen connections;
//! - readiness is only forwarded: idle services hold nothing, a pending inner service makes a pending layer, and the
//!   error of one that does not get ready is passed on or answered;
//! - the instance that is called is the one that was polled ready, and a refused request touches no inner service;
//! - what was given is given back once, however the exchange ends, or the connection that it has become;
//! - bodies keep their data, trailers, errors, size hint and end of stream, for several body types and inside compression;
//! - layer, service and future are `Send` (and the first two `Sync` and `Clone`), and the layer fits an axum router.

mod bodies;
mod endings;
mod fidelity;
mod limit;
mod readiness;
mod served;
mod subject;
mod upgrades;

pub use self::bodies::{AnyBody, AxumBody, BoxedBody, FullBody, GwBody, TonicBody};
pub use self::endings::{gives_back_at_the_last_frame, gives_back_once, holds_until_the_body_ends};
pub use self::fidelity::{
    keeps_bodies_as_they_are, keeps_bounds_of_the_size, keeps_errors_of_bodies,
    works_inside_compression,
};
pub use self::limit::{sixteen_layers_share_one_limit, touches_nothing_when_it_refuses};
pub use self::readiness::{forwards_readiness, holds_nothing_when_idle, is_send_and_clone};
pub use self::served::holds_through_axum_serve;
pub use self::subject::{Admits, Inner, Layered, Outcome};
pub use self::upgrades::keeps_upgraded_connections;

/// What [`conformance!`](crate::conformance!) brings into scope: by a glob, so that an import of the same name is no second one.
#[doc(hidden)]
pub mod in_scope {
    pub use super::Admits;
}

/// Makes the conformance tests of a layer.
///
/// `admits` says how many requests of one client the layer lets pass; `request_body` names the request body that the
/// layer passes on, if it is another one than it receives; `layer` builds it with the renderer it is given,
/// and is evaluated anew for each test. The layer must refuse at once what it does not admit: no queue.
///
/// The clock is paused but in the tests with sockets, so that what does not come is missed at once. A layer that waits for sockets
/// or threads of its own, which nobody here sees at work, says `clock: running`, and its failures take thirty seconds.
///
/// ```text
/// gw_testkit::conformance! {
///     admits: Admits::InFlight(2),
///     layer: |on_reject| MyLayer::builder(2).on_reject(on_reject).build().unwrap(),
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    (
        admits: $admits:expr,
        $(request_body: $request_body:ty,)?
        layer: |$on_reject:pat_param| $layer:expr $(,)?
    ) => {
        $crate::conformance_of! {
            $admits, [$($request_body)?], start_paused = true, |$on_reject| $layer
        }
    };
    (
        admits: $admits:expr,
        $(request_body: $request_body:ty,)?
        clock: running,
        layer: |$on_reject:pat_param| $layer:expr $(,)?
    ) => {
        $crate::conformance_of! {
            $admits, [$($request_body)?], start_paused = false, |$on_reject| $layer
        }
    };
}

/// [`conformance!`](crate::conformance!) with all that it can be told.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_of {
    ($admits:expr, [], start_paused = $paused:tt, |$on_reject:pat_param| $layer:expr) => {
        $crate::conformance_of! {
            $admits, [$crate::gw_core::Body], start_paused = $paused, |$on_reject| $layer
        }
    };
    (
        $admits:expr, [$request_body:ty], start_paused = $paused:tt, |$on_reject:pat_param| $layer:expr
    ) => {
        #[allow(
            unused_imports,
            reason = "`admits` may name the type by its path, or by an import"
        )]
        use $crate::conformance::in_scope::*;

        $crate::conformance_for! {
            axum_body, AxumBody, $admits, $request_body, $paused, |$on_reject| $layer
        }
        $crate::conformance_for! {
            gw_body, GwBody, $admits, $request_body, $paused, |$on_reject| $layer
        }
        $crate::conformance_for! {
            full_body, FullBody, $admits, $request_body, $paused, |$on_reject| $layer
        }
        $crate::conformance_for! {
            boxed_body, BoxedBody, $admits, $request_body, $paused, |$on_reject| $layer
        }
        $crate::conformance_for! {
            tonic_body, TonicBody, $admits, $request_body, $paused, |$on_reject| $layer
        }

        #[tokio::test]
        async fn holds_through_axum_serve() {
            let $on_reject = $crate::gw_core::Respond::new();
            $crate::conformance::holds_through_axum_serve($layer, $admits).await;
        }

        #[tokio::test]
        async fn keeps_upgraded_connections() {
            let $on_reject = $crate::gw_core::Respond::new();
            $crate::conformance::keeps_upgraded_connections($layer, $admits).await;
        }
    };
}

/// The part of [`conformance!`](crate::conformance!) that is the same for each body type.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_for {
    (
        $name:ident, $body:ident, $admits:expr, $request_body:ty, $paused:tt,
        |$on_reject:pat_param| $layer:expr
    ) => {
        mod $name {
            use super::*;
            use $crate::conformance::{AnyBody, $body as TestedBody};

            macro_rules! case {
                ($case:ident) => {
                    #[tokio::test(start_paused = $paused)]
                    async fn $case() {
                        let $on_reject =
                            $crate::gw_core::RespondWith::new(<TestedBody as AnyBody>::whole);
                        $crate::conformance::$case::<_, TestedBody, _, $request_body>(
                            $layer, $admits,
                        )
                        .await;
                    }
                };
            }

            case!(sixteen_layers_share_one_limit);
            case!(touches_nothing_when_it_refuses);
            case!(forwards_readiness);
            case!(holds_nothing_when_idle);
            case!(is_send_and_clone);
            case!(gives_back_once);
            case!(gives_back_at_the_last_frame);
            case!(holds_until_the_body_ends);
            case!(keeps_bodies_as_they_are);
            case!(keeps_errors_of_bodies);
            case!(keeps_bounds_of_the_size);
            case!(works_inside_compression);
        }
    };
}
