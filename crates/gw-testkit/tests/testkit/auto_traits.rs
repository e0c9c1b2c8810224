//! Auto traits that users rely on, checked by the compiler.

use std::cell::Cell;

use gw_testkit::Gate;
use gw_testkit::body::{BodyHandle, ScriptedBody};
use gw_testkit::client::Client;
use gw_testkit::log_capture::LogCapture;
use gw_testkit::metrics_capture::MetricsCapture;
use gw_testkit::service::{Call, ControlledFuture, ControlledService, ServiceError, ServiceHandle};
use gw_testkit::upstream::{Reply, Upstream};

/// As the usual boxed bodies: it can be sent, not shared.
type NotSync = Cell<u8>;

const fn send<T: Send + 'static>() {}
const fn send_and_sync<T: Send + Sync + 'static>() {}

const _: () = {
    send_and_sync::<Gate>();
    send_and_sync::<Upstream>();
    send_and_sync::<Reply>();
    send_and_sync::<Client>();
    send_and_sync::<ScriptedBody>();
    send_and_sync::<BodyHandle>();
    send_and_sync::<LogCapture>();
    send_and_sync::<MetricsCapture>();
    send_and_sync::<ControlledService<NotSync, NotSync>>();
    send_and_sync::<ServiceHandle<NotSync, NotSync, ServiceError>>();
    send::<ControlledFuture<NotSync, NotSync, ServiceError>>();
    send::<Call<NotSync, NotSync, ServiceError>>();
};
