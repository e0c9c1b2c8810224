//! The slots of a pipeline and their order.

/// Names a slot.
pub trait Slot {
    /// The slot's name, as the builder's method is called.
    const NAME: &'static str;
}

/// States that `Self` stands before `Next` in a pipeline.
#[diagnostic::on_unimplemented(
    message = "`{Next}` cannot be placed after `{Self}`: the order of a gw pipeline is fixed",
    label = "`{Next}` must stand before `{Self}`, and each slot is filled once",
    note = "the order is Observe, RequestId, RouteResolve, IpFilter, PreAuthLimit, Admit, Authenticate, \
            PostAuthLimit, Authorize, Validate, Transform, Forward; slots may be left out",
    note = "the cheapest rejection comes first, and a stage may rely on what the stages before it established"
)]
pub trait Before<Next> {}

/// The start of a pipeline, before every slot.
#[derive(Debug, Clone, Copy)]
pub enum Start {}

macro_rules! slots {
    ($($(#[$doc:meta])* $slot:ident = $name:literal;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub enum $slot {}

            impl Slot for $slot {
                const NAME: &'static str = $name;
            }
        )+

        order!(Start $($slot)+);
    };
}

/// Implements [`Before`] for each pair of the list in which the left one stands first.
macro_rules! order {
    ($first:ident) => {};
    ($first:ident $($later:ident)+) => {
        $(
            // Without this, an error lists every allowed pair instead of the sentence above.
            #[diagnostic::do_not_recommend]
            impl Before<$later> for $first {}
        )+
        order!($($later)+);
    };
}

slots! {
    /// Sees everything: access log, metrics, traces.
    Observe = "observe";
    /// Gives the request its id.
    RequestId = "request_id";
    /// Finds the route; a pure look-up.
    RouteResolve = "route_resolve";
    /// Establishes the client's address and lets it pass or not.
    IpFilter = "ip_filter";
    /// Limits by what is known of anyone: address, route.
    PreAuthLimit = "pre_auth_limit";
    /// Admits to the lane. A counter, so it comes before cryptography.
    Admit = "admit";
    /// Establishes who calls.
    Authenticate = "authenticate";
    /// Limits by who calls.
    PostAuthLimit = "post_auth_limit";
    /// Decides whether the caller may.
    Authorize = "authorize";
    /// Checks the request's content.
    Validate = "validate";
    /// Changes the request or the answer, in the same way for all routes.
    Transform = "transform";
    /// The service that answers: an upstream, or a local one.
    Forward = "forward";
}
