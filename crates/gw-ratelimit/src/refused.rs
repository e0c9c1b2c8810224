use std::any::Any;

use gw_core::{BoxError, Rejection};
use http::Response;

/// Has `tell` treat the answer that an error is going to be further out, if it is a refusal, boxed or not. Any other error stays
/// as it is.
///
/// Asked of its type, so that services may have errors of all types: a bound would shut out those that know nothing of refusals.
#[cold]
pub(crate) fn tell<E: 'static>(error: &mut E, tell: impl FnOnce(Response<()>) -> Response<()>) {
    let error: &mut dyn Any = error;
    let refused = if error.is::<BoxError>() {
        let boxed = error.downcast_mut::<BoxError>();
        boxed.and_then(|boxed| boxed.downcast_mut())
    } else {
        error.downcast_mut::<Rejection>()
    };
    if let Some(refused) = refused {
        refused.change_head(tell);
    }
}
