//! What of a request goes along to its later attempts.

use std::fmt;
use std::sync::Arc;

use gw_core::Code;
use gw_core::awaited::Awaited;
use gw_core::context::{
    ClientAddr, Criticality, Deadline, Identity, Lane, PeerAddr, RequestId, RouteMatch,
    TraceContext, UpstreamName,
};
use gw_core::key::peer_addr;
use gw_core::record::Record;
use http::Extensions;

use crate::timeout::AttemptTimeouts;

/// Copies further extensions of a request to its later attempts.
///
/// Only the types of `gw_core` go along by themselves: what else is in the extensions need not bear to be there twice.
/// hyper's `OnUpgrade` is a connection that can be taken over once; but of a request that has one nothing is copied, since it is
/// not sent again (see `Head::keep`).
pub(crate) type CopyExtensions = Arc<dyn Fn(&Extensions, &mut Extensions) + Send + Sync>;

/// What is noted of a refusal: the stage, why, and what it was about the upstream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Refusal {
    refused_by: Option<&'static str>,
    code: Option<&'static Code>,
    cause: Option<&'static str>,
}

macro_rules! known {
    ($($field:ident: $type:ty,)*) => {
        /// The values themselves and not a map of them: nearly all requests are sent once, and this does not allocate.
        pub(crate) struct Known {
            $($field: Option<$type>,)*
            peer: Option<PeerAddr>,
            more: Option<Extensions>,
        }

        impl Known {
            /// Writes what is known of a request straight into its place: it is large. Nothing is, where there is no gateway around.
            #[inline]
            pub(crate) fn learn(to: &mut Option<Self>, from: &Extensions, copy: &Option<CopyExtensions>) {
                if !from.is_empty() {
                    *to = Some(Self::of(from, copy.as_ref()));
                }
            }

            #[inline(never)]
            fn of(from: &Extensions, copy: Option<&CopyExtensions>) -> Self {
                Self {
                    $($field: from.get::<$type>().cloned(),)*
                    // Wherever the server has put it: keys made of addresses are read in later attempts, too.
                    peer: peer_addr(from).ok().map(PeerAddr),
                    more: copy.map(|copy| {
                        let mut more = Extensions::new();
                        copy(from, &mut more);
                        // Of one attempt each: a second one must not write into that of the first.
                        more.remove::<Awaited>();
                        more
                    }),
                }
            }

            /// The extensions of an attempt.
            pub(crate) fn extensions(&self) -> Extensions {
                let mut to = self.more.clone().unwrap_or_default();
                if let Some(peer) = self.peer {
                    to.insert(peer);
                }
                $(if let Some(value) = &self.$field {
                    to.insert(value.clone());
                })*
                to
            }
        }
    };
}

known! {
    record: Record,
    deadline: Deadline,
    route: RouteMatch,
    upstream: UpstreamName,
    identity: Identity,
    client: ClientAddr,
    request_id: RequestId,
    trace: TraceContext,
    lane: Lane,
    criticality: Criticality,
    timeouts: AttemptTimeouts,
}

impl Known {
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Whether it is known who is to serve the request, and that nothing was sent there yet: it waits for a place in the gateway.
    pub(crate) fn waits_in_line(&self) -> bool {
        let exchange = self.record.as_ref().map(Record::exchange);
        exchange.is_some_and(|known| known.upstream.is_some() && known.attempts == 0)
    }

    /// What is noted of a refusal.
    pub(crate) fn refusal(&self) -> Refusal {
        let exchange = self.record.as_ref().map(Record::exchange);
        exchange.map_or_else(Refusal::default, |known| Refusal {
            refused_by: known.refused_by,
            code: known.code,
            cause: known.cause,
        })
    }

    pub(crate) fn forget_refusal(&self) {
        self.note_refusal(Refusal::default());
    }

    /// In place of what is noted.
    pub(crate) fn note_refusal(&self, refusal: Refusal) {
        if let Some(record) = &self.record {
            record.update(|exchange| {
                exchange.refused_by = refusal.refused_by;
                exchange.code = refusal.code;
                exchange.cause = refusal.cause;
            });
        }
    }

    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}
