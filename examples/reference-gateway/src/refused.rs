//! Refusals of the admin and the health listener, which no pipeline stands behind: the same envelope as anywhere else.

use std::convert::Infallible;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use gw_core::on_reject::Caller;
use gw_core::{OnReject, RejectContext, Rejection, Respond};
use gw_pipeline::codes;

/// The answer to who is refused. Nobody speaks gRPC with these listeners, whatever the request says of its content.
pub(crate) fn answer(
    respond: &Respond,
    rejection: Rejection,
    mut context: RejectContext,
) -> Response {
    if context.caller == Caller::Grpc {
        context.caller = Caller::Http;
    }
    let Ok(answer) = OnReject::<_, Infallible>::reject(respond, rejection, &context);
    answer
}

/// Says in the envelope what the router says without a body: that a page is not there, or that nobody may change it.
pub(crate) async fn say(State(respond): State<Respond>, request: Request, next: Next) -> Response {
    let context = RejectContext::of(&request);
    let response = next.run(request).await;
    let code = match response.status() {
        StatusCode::NOT_FOUND => &codes::ROUTE_NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED => &codes::METHOD_NOT_ALLOWED,
        _ => return response,
    };
    answer(&respond, Rejection::new(code), context)
}
