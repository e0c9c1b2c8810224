use http::Extensions;

use crate::charged::Charged;
use crate::fields::Around;

/// Copies what the layers of this crate leave in a request's extensions for those further in: for a layer between them that sends
/// a request more than once, and that does not copy all there is.
///
/// Without it a [`ChargeBodyLayer`](crate::ChargeBodyLayer) charges nothing for later attempts, and the fields of a limit within take
/// the place of those of the limit around them.
///
/// ```
/// # use http::Request;
/// # let (first, mut again) = (Request::new(()), Request::new(()));
/// gw_ratelimit::copy_extensions(first.extensions(), again.extensions_mut());
/// ```
pub fn copy_extensions(from: &Extensions, to: &mut Extensions) {
    if let Some(charged) = Charged::of(from) {
        to.insert(charged.clone());
    }
    if let Some(around) = from.get::<Around>() {
        to.insert(*around);
    }
}
