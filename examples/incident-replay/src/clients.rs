//! The clients: people who log in, and devices that report telemetry.
//!
//! One task walks through the schedule and never waits for an answer; each request is a task of its own.

mod caller;
mod device;
mod telemetry;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::caller::Caller;
use self::device::{Batch, Uploader};
use crate::measure::{Meter, Route};
use crate::scenario::{DEVICES, LOGIN_PATH, LOGS_PATH, Timeline, USERS};
use crate::schedule::{Fingerprint, Schedule, What};

/// Offers the whole schedule to a gateway, and waits until every request has ended. The fingerprint is that of what was
/// offered.
pub(crate) async fn play(
    schedule: &Schedule,
    timeline: Timeline,
    gateway: SocketAddr,
    meter: &Meter,
) -> Fingerprint {
    let end = meter.started() + Duration::from_secs(timeline.seconds() as u64);
    let users: Vec<_> = (0..USERS)
        .map(|user| Caller::new(gateway, [198, 51, 100, low_byte(user)].into()))
        .collect();
    let devices: Vec<_> = (0..DEVICES)
        .map(|number| Arc::new(Device::new(number, gateway, meter.clone())))
        .collect();
    let mut requests = JoinSet::new();
    let mut offered = Fingerprint::default();
    for arrival in schedule.arrivals() {
        tokio::time::sleep_until(meter.started() + arrival.at).await;
        offered.add(*arrival);
        match arrival.what {
            What::Login(user) => {
                if let Some(caller) = users.get(usize::from(user)) {
                    requests.spawn(login(caller.clone(), user, meter.clone(), arrival.at));
                }
            }
            What::Event(number) => {
                if let Some(device) = devices.get(usize::from(number)) {
                    let batch = device.uploader().event();
                    if let Some(batch) = batch {
                        requests.spawn(upload(Arc::clone(device), batch, arrival.at, end));
                    }
                }
            }
        }
    }
    while requests.join_next().await.is_some() {}
    offered
}

async fn login(caller: Caller, user: u16, meter: Meter, scheduled: Duration) {
    let body = Bytes::from(format!(
        r#"{{"user":"user-{user}","password":"open sesame"}}"#
    ));
    meter.sent(Route::Auth, scheduled);
    let outcome = caller.post(LOGIN_PATH, body).await;
    meter.ended(Route::Auth, scheduled, outcome);
}

/// A device: its uploader, and its way to the gateway.
#[derive(Debug)]
struct Device {
    number: u16,
    uploader: Mutex<Uploader>,
    caller: Caller,
    meter: Meter,
}

impl Device {
    fn new(number: u16, gateway: SocketAddr, meter: Meter) -> Self {
        Self {
            number,
            uploader: Mutex::default(),
            caller: Caller::new(gateway, [203, 0, 113, low_byte(number)].into()),
            meter,
        }
    }

    fn uploader(&self) -> MutexGuard<'_, Uploader> {
        self.uploader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a batch, and sends it again for as long as it fails and the phase lasts.
async fn upload(device: Arc<Device>, mut batch: Batch, mut scheduled: Duration, end: Instant) {
    loop {
        let body = telemetry::body(device.number, &batch);
        device.meter.sent(Route::Logs, scheduled);
        let outcome = device.caller.post(LOGS_PATH, body).await;
        device.meter.ended(Route::Logs, scheduled, outcome);
        if outcome.is_ok() {
            return device.uploader().succeeded(&batch);
        }
        let Some(again) = device.uploader().failed(batch, outcome.status()) else {
            return;
        };
        let due = Instant::now() + Uploader::PAUSE;
        if due >= end {
            return;
        }
        tokio::time::sleep_until(due).await;
        (batch, scheduled) = (again, due - device.meter.started());
    }
}

/// Clients have addresses from the ranges for documentation, which have 256 each.
const fn low_byte(client: u16) -> u8 {
    let [low, _] = client.to_le_bytes();
    low
}
