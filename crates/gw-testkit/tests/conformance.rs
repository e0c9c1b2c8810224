//! The suite passes layers that keep the contract, and catches those that break it in the usual ways.
#![cfg(feature = "conformance")]
#![allow(clippy::expect_used, reason = "assertions")]

#[path = "conformance/limited.rs"]
mod limited;

use gw_testkit::conformance::{self, Admits, GwBody};
use tower_layer::Identity;

use self::limited::{Fault, LimitedLayer};

type Body = gw_core::Body;

mod a_layer_that_does_nothing {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_| Identity::new(),
    }
}

mod a_layer_that_keeps_the_contract {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::InFlight(2),
        layer: |on_reject| LimitedLayer::new(2, on_reject),
    }
}

/// Story: the import was an error, for the macro had one of that name.
mod a_type_that_is_imported_by_its_name {
    use gw_testkit::conformance::Admits;
    use tower_layer::Identity;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_| Identity::new(),
    }
}

/// Story: each test of a layer that never answered took thirty seconds to say so.
mod a_clock_that_is_paused_but_where_sockets_are {
    use gw_core::{Respond, RespondWith};

    use super::*;

    /// The tests with sockets have the plain renderer.
    trait Clock {
        const PAUSED: bool;
    }

    impl Clock for Respond {
        const PAUSED: bool = false;
    }

    impl<F> Clock for RespondWith<F> {
        const PAUSED: bool = true;
    }

    fn checked<R: Clock>(_: R) -> Identity {
        // The clock panics that is told to be what it is already.
        if R::PAUSED {
            tokio::time::resume();
            tokio::time::pause();
        } else {
            tokio::time::pause();
            tokio::time::resume();
        }
        Identity::new()
    }

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| checked(on_reject),
    }
}

mod a_clock_that_runs {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        clock: running,
        layer: |_| {
            tokio::time::pause();
            tokio::time::resume();
            Identity::new()
        },
    }
}

/// One test for each way of breaking the contract: the named part of the suite must fail.
macro_rules! caught {
    ($($name:ident: $fault:ident by $case:ident, saying $message:literal;)+) => {
        $(
            #[tokio::test(start_paused = true)]
            #[should_panic(expected = $message)]
            async fn $name() {
                let layer = LimitedLayer::new(2, gw_core::Respond::new()).with(Fault::$fault);
                conformance::$case::<_, GwBody, _, Body>(layer, Admits::InFlight(2)).await;
            }
        )+
    };
}

caught! {
    state_made_for_each_connection: StatePerService by sixteen_layers_share_one_limit,
        saying "2 calls in flight";
    a_refused_request_that_is_passed_on: PassesRefused by touches_nothing_when_it_refuses,
        saying "in vain for a refusal";
    a_refusal_that_never_comes: NeverRefuses by sixteen_layers_share_one_limit,
        saying "in vain for the refused calls";
    readiness_that_never_comes: NeverReady by sixteen_layers_share_one_limit,
        saying "in vain for the layer to be ready";
    an_answer_that_never_comes: NeverAnswers by keeps_bodies_as_they_are,
        saying "in vain for the layer's answer";
    permits_taken_in_poll_ready: TakesWhenReady by holds_nothing_when_idle,
        saying "2 calls in flight";
    readiness_that_is_made_up: AlwaysReady by forwards_readiness,
        saying "ready before the inner service";
    failed_readiness_that_is_hidden: ReadyDespiteErrors by forwards_readiness,
        saying "which was not polled ready";
    failed_readiness_that_is_kept_back: PendingForErrors by forwards_readiness,
        saying "in vain for what the layer makes of failed readiness";
    a_call_on_the_clone: CallsTheClone by forwards_readiness,
        saying "which was not polled ready";
    a_permit_lost_with_the_future: LosesOnDrop by gives_back_once,
        saying "2 calls in flight";
    a_permit_lost_with_an_error: LosesOnError by gives_back_once,
        saying "2 calls in flight";
    a_permit_given_back_twice: GivesBackTwice by gives_back_once,
        saying "in vain for a refusal";
    a_permit_given_back_at_the_head: GivesBackAtHead by holds_until_the_body_ends,
        saying "in vain for a refusal";
    a_permit_kept_past_the_last_frame: KeepsPastTheEnd by gives_back_at_the_last_frame,
        saying "2 calls in flight";
    a_permit_kept_past_the_trailers: KeepsPastTrailers by gives_back_at_the_last_frame,
        saying "2 calls in flight";
    a_frame_that_is_lost: LosesAFrame by keeps_bodies_as_they_are,
        saying "a frame is lost";
    a_frame_that_is_lost_before_an_error: LosesAFrame by keeps_errors_of_bodies,
        saying "a frame is lost";
    a_frame_that_is_lost_in_compression: LosesAFrame by works_inside_compression,
        saying "what was compressed is not the body";
    an_error_that_is_an_end: EndsWhereItFails by keeps_errors_of_bodies,
        saying "the body's error is lost";
    an_empty_body_that_streams: StreamsEmpty by works_inside_compression,
        saying "an empty body became a stream";
    a_hidden_end_of_stream: HidesTheEnd by keeps_bodies_as_they_are,
        saying "the size hint is lost";
    an_end_of_stream_that_is_the_one_of_the_head: RemembersTheEnd by keeps_bodies_as_they_are,
        saying "the end of the stream is lost";
    a_size_hint_that_is_the_one_of_the_head: RemembersTheSize by keeps_bodies_as_they_are,
        saying "the size hint is lost";
    a_size_hint_without_its_bounds: ForgetsTheBounds by keeps_bounds_of_the_size,
        saying "the bounds of the size are lost";
}

/// The same for what needs sockets, and so a clock that runs: these fail at once.
macro_rules! caught_by_sockets {
    ($($name:ident: $fault:ident by $case:ident, saying $message:literal;)+) => {
        $(
            #[tokio::test]
            #[should_panic(expected = $message)]
            async fn $name() {
                let layer = LimitedLayer::new(2, gw_core::Respond::new()).with(Fault::$fault);
                conformance::$case(layer, Admits::InFlight(2)).await;
            }
        )+
    };
}

caught_by_sockets! {
    state_made_for_each_of_real_connections: StatePerService by holds_through_axum_serve,
        saying "what is not admitted is refused";
    a_permit_given_back_with_the_upgrade: GivesBackAtUpgrade by keeps_upgraded_connections,
        saying "given back before the connection closed";
    a_permit_lost_with_the_connection: LosesUpgraded by keeps_upgraded_connections,
        saying "not given back once";
    an_upgrade_that_is_taken_away: TakesTheUpgrade by keeps_upgraded_connections,
        saying "the connection ended";
}
