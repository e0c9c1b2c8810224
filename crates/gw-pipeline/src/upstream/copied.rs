use gw_core::context::{Deadline, UpstreamName};
use gw_core::record::Record;
use http::Extensions;

use super::hop_by_hop::Named;
use crate::inbound::ClientFault;
use crate::timeouts::{PassErrorBodies, Timeouts};

/// Copies what an [`Upstream`](super::Upstream) reads of a request's extensions: for layers in its
/// [slots](super::stack) that send a request more than once, and that do not copy all there is.
///
/// All of it may be there twice. Which of the answers goes to the client decides what becomes of the client's connection,
/// should it be a 101.
pub fn copy_extensions(from: &Extensions, to: &mut Extensions) {
    copy::<UpstreamName>(from, to);
    copy::<Deadline>(from, to);
    copy::<Timeouts>(from, to);
    copy::<PassErrorBodies>(from, to);
    copy::<ClientFault>(from, to);
    copy::<Named>(from, to);
    copy::<Record>(from, to);
}

fn copy<T: Clone + Send + Sync + 'static>(from: &Extensions, to: &mut Extensions) {
    if let Some(value) = from.get::<T>() {
        to.insert(value.clone());
    }
}
