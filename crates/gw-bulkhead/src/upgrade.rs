use std::fmt;
use std::sync::{Arc, OnceLock};

use http::{Extensions, Method, Request, Response, StatusCode, Version, header};

use crate::lanes::Permit;

/// Keeps the lane's place for an upgraded connection, and its threads if it has some: hold a clone of it for as long as the
/// connection is open.
///
/// After 101 or a successful `CONNECT` the answer ends at once and the connection goes on, out of sight of any layer:
/// hyper hands it to whoever awaits the upgrade, and drops the response's extensions when the head is written. So the
/// place is tied to this value. The layer puts it into the extensions of each request that asks for an upgrade, and
/// into those of an answer that grants one. Whoever copies the bytes takes a clone and keeps it until the connection is
/// closed; the place is given back with the last clone. If nobody does, it is given back when the head is
/// written, and the connection is in no lane.
///
/// A connection that was upgraded on a lane's own thread lives there: what the handler spawns runs on that thread. The lane's threads
/// run until the last clone is dropped, whatever has become of the layer; without one they may end in the middle of it.
///
/// Before the answer grants the upgrade it holds nothing, so a clone that is kept of a request that was refused the
/// upgrade does no harm. [`LaneConfig::max_hold`](crate::LaneConfig::max_hold) does not bound an upgraded connection. With
/// [`Hold::Head`](crate::Hold::Head) and in [`Mode::Off`](crate::Mode::Off) no place is held for one; the value is in the
/// request then too, so that who serves it need not know. Of lanes within lanes, one value holds the places of all.
///
/// # Examples
///
/// In axum, WebSocket handlers take it as `Extension<UpgradePermit>`, behind `WebSocketUpgrade`, and move it into the closure
/// given to `on_upgrade`. Requests that ask for no upgrade do not have it: those are refused by `WebSocketUpgrade` if that
/// extractor comes first, with what the client did wrong, and else with 500. A handler that serves both takes
/// `Option<Extension<UpgradePermit>>`. With hyper alone:
///
/// ```
/// # use gw_bulkhead::UpgradePermit;
/// # async fn serve(_: hyper::upgrade::Upgraded) {}
/// fn upgrade<B: Send + 'static>(mut request: http::Request<B>) {
///     let permit = request.extensions().get::<UpgradePermit>().cloned();
///     tokio::spawn(async move {
///         let _held_until_the_end = permit;
///         if let Ok(connection) = hyper::upgrade::on(&mut request).await {
///             serve(connection).await;
///         }
///     });
/// }
/// ```
#[derive(Debug, Clone, Default)]
pub struct UpgradePermit(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    held: OnceLock<Held>,
    connect: bool,
    /// What other lanes hold for the same connection.
    _others: Option<UpgradePermit>,
}

/// What a lane gives to an upgraded connection.
#[derive(Debug, Clone)]
struct Held {
    _place: Option<Arc<Permit>>,
    _threads: Option<Arc<dyn KeepsThreads>>,
}

/// Keeps the threads running on which a request asked for an upgrade: who serves it may copy the bytes there.
pub(crate) trait KeepsThreads: fmt::Debug + Send + Sync {}

/// What a request asked for, and what its place goes to if it gets it.
#[derive(Debug)]
pub(crate) struct Upgrade {
    permit: UpgradePermit,
    threads: Option<Arc<dyn KeepsThreads>>,
}

impl Upgrade {
    /// Whether `request` asks for one. Only HTTP/1.1 has the field (RFC 9110, section 7.8): in other versions it is not even
    /// looked for.
    #[inline]
    pub(crate) fn is_asked<B>(request: &Request<B>) -> bool {
        request.method() == Method::CONNECT
            || request.version() == Version::HTTP_11
                && request.headers().contains_key(header::UPGRADE)
    }

    /// What `request` asks for; the value for whoever serves it is in its extensions then.
    pub(crate) fn asked<B>(request: &mut Request<B>) -> Option<Self> {
        if !Self::is_asked(request) {
            return None;
        }
        let connect = request.method() == Method::CONNECT;
        let extensions = request.extensions_mut();
        let permit = UpgradePermit(Arc::new(Asked {
            held: OnceLock::new(),
            connect,
            // Of lanes further out: whoever serves takes one value.
            _others: extensions.remove(),
        }));
        extensions.insert(permit.clone());
        Some(Self {
            permit,
            threads: None,
        })
    }

    /// Has these threads run on for it as well.
    #[cfg(feature = "threads")]
    pub(crate) fn runs_on(&mut self, threads: impl KeepsThreads + 'static) {
        self.threads = Some(Arc::new(threads));
    }

    /// Has the value there for whoever serves `request`, where nothing is held for an upgrade: who serves does not know that.
    /// One that lanes further out hold for stays.
    pub(crate) fn held_for_by_none<B>(request: &mut Request<B>) {
        if Self::is_asked(request) {
            let extensions = request.extensions_mut();
            _ = extensions.get_or_insert_default::<UpgradePermit>();
        }
    }

    /// Whether an answer of this status to this request is an upgrade.
    pub(crate) fn is_granted<B>(&self, response: &Response<B>) -> bool {
        response.status() == StatusCode::SWITCHING_PROTOCOLS
            || self.permit.0.connect && response.status().is_success()
    }

    /// Ties the threads to the upgraded connection, and the place if it is held for it.
    pub(crate) fn hand_over(self, place: Option<Arc<Permit>>, extensions: &mut Extensions) {
        let held = Held {
            _place: place,
            _threads: self.threads,
        };
        let others = extensions.remove::<UpgradePermit>();
        let permit = match others {
            None => self.permit.clone(),
            // Of lanes further in, and not to be put into what may be among theirs.
            others => UpgradePermit(Arc::new(Asked {
                held: held.clone().into(),
                _others: others,
                ..Asked::default()
            })),
        };
        // Never filled before: this consumes the only one who fills it.
        _ = self.permit.0.held.set(held);
        extensions.insert(permit);
    }
}
