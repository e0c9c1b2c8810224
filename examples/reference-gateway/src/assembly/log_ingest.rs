//! `[log_ingest]`: the intake that routes with `service = "log-ingest"` end in, its queue, and the delivery behind it.

mod engine;
mod letters;
mod outlet;

use std::future::Future;
use std::time::Duration;

use gw_core::Respond;
use gw_core::key::{ClientIp, Header};
use gw_core::stage::{NoFacts, Stage};
use gw_logingest::consumer::{Consumer, ConsumerHandle};
use gw_logingest::intake::{ByClient, Classifier, ClientKey, OnInvalid, Scope, WithLimits};
use gw_logingest::{ConfigError, EventLimits, IngestHandle, LogIngest, Pressure, Queue as _};
use gw_pipeline::pipeline::InTime;
use gw_pipeline::pipeline::slot::{Forward, Slot as _};
use gw_ratelimit::{Policy, Quota, RateLimit, RateLimitHandle, RateLimitLayer};
use tokio::time::timeout;
use tower_layer::Layer as _;

pub use self::engine::Engine;
use self::letters::Letters;
use self::outlet::Outlet;
use super::Fault;
use super::paths::{writable_file, writable_folder};
use crate::config::value::Key;
use crate::config::{Config, KeyPath, table};

/// The name of the limit on each client's batches, in metrics and answers.
const PER_CLIENT: &str = "log_ingest.per_client";
/// The service that raw lines are booked under which become events.
const WRAPPED: &str = "raw";
/// For requests to the sink that are under way at the end; less if the gateway's own grace is shorter.
///
/// With the default delay of the server before it, and a second for all else, it is less than the ten seconds after which many
/// supervisors kill.
const GRACE: Duration = Duration::from_secs(3);
/// For the queue's disk at the end, which may hang: longer than a disk takes that does not.
const STORED: Duration = Duration::from_millis(500);

/// The log intake of a gateway, with the delivery that has not begun yet.
#[derive(Debug)]
pub struct Logs {
    ingest: LogIngest<Engine>,
    per_client: RateLimitLayer<(ByClient, ())>,
    consumer: Option<Consumer<Engine, Outlet, Letters>>,
    controls: LogControls,
}

/// What an operator reads of the log intake.
#[derive(Debug, Clone)]
pub struct LogControls {
    pub queue: Engine,
    pub ingest: IngestHandle,
    pub per_client: RateLimitHandle,
    /// None if nothing delivers: the batches stay in the queue.
    pub consumer: Option<ConsumerHandle>,
}

/// The intake as the end of a pipeline. A client over its rate is refused before its body is read.
pub(super) type Intake = InTime<RateLimit<LogIngest<Engine, Respond>, WithLimits<Respond>>>;

impl Logs {
    /// Builds what the configuration asks for without opening the queue's directory, to see whether it can be built.
    /// None if no route asks for it.
    ///
    /// # Errors
    ///
    /// The setting at fault.
    pub fn plan(config: &Config) -> Result<Option<Self>, Fault> {
        let logs = Self::new(config, Engine::plan(&config.log_ingest.queue)?)?;
        if !asked_for(config) {
            return Ok(None);
        }
        check_paths(config)?;
        Ok(Some(logs))
    }

    /// As [`plan`](Self::plan), and opens the queue.
    ///
    /// # Errors
    ///
    /// The setting at fault: a directory that cannot be written to, say.
    pub fn open(config: &Config) -> Result<Option<Self>, Fault> {
        // What is wrong elsewhere is found before a directory is made.
        if Self::plan(config)?.is_none() {
            return Ok(None);
        }
        Self::new(config, Engine::open(&config.log_ingest.queue)?).map(Some)
    }

    fn new(config: &Config, queue: Engine) -> Result<Self, Fault> {
        let written = &config.log_ingest;
        let pressure = Pressure::new();
        let ingest = intake(config, queue.clone(), pressure.clone())?;
        let per_client = per_client(&written.per_client, &ingest)?;
        let consumer = match Outlet::new(&written.sink)? {
            Some(outlet) => {
                let letters = Letters::beside(&written.queue).map_err(|error| fault(&error))?;
                let consumer = Consumer::builder(queue.clone(), outlet)
                    .dead_letters(letters)
                    .grace(GRACE.min(config.server.shutdown_grace))
                    .pressure(pressure);
                Some(consumer.build().map_err(|error| fault(&error))?)
            }
            None => None,
        };
        let controls = LogControls {
            queue,
            ingest: ingest.handle(),
            per_client: per_client.handle(),
            consumer: consumer.as_ref().map(Consumer::handle),
        };
        Ok(Self {
            ingest,
            per_client,
            consumer,
            controls,
        })
    }

    /// The service for the routes.
    pub(super) fn intake(&self, respond: Respond) -> Intake {
        let ingest = self.ingest.clone().on_reject(respond.clone());
        let respond = WithLimits::new(respond, Scope::Client);
        let per_client = self.per_client.clone().on_reject(respond);
        // It needs nothing of the stages before it. It is a part of what ends the pipeline, and says so to observers.
        let per_client = Stage::<NoFacts>::into_layer_in(per_client, Forward::NAME);
        InTime::new(per_client.layer(ingest))
    }

    /// For whoever operates it.
    pub(super) fn controls(&self) -> LogControls {
        self.controls.clone()
    }

    /// Delivers until `stop`, when the traffic has ended. Nothing is taken any more then.
    ///
    /// What is in the queue by then stays there for the next start. A queue in memory has none, so what is in it is
    /// delivered for as long as `grace`, and lost after it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, batches that are not delivered stay in the queue.
    pub async fn deliver(self, stop: impl Future<Output = ()>, grace: Duration) {
        let queue = self.controls.queue;
        let closing = queue.clone();
        match self.consumer {
            Some(consumer) => {
                let stop = async move {
                    stop.await;
                    // The consumer ends by itself once a closed queue is empty.
                    closing.close();
                    if !closing.outlives_the_process() {
                        tokio::time::sleep(grace).await;
                    }
                };
                consumer.run(stop).await;
            }
            None => stop.await,
        }
        // What clients were told of is stored already.
        _ = timeout(STORED, queue.shutdown()).await;
    }
}

/// What stands in the way of the files that a queue and a sink will have.
fn check_paths(config: &Config) -> Result<(), Fault> {
    if let table::LogQueue::Disk(queue) = &config.log_ingest.queue {
        writable_folder(&queue.dir).map_err(|rule| Fault::new("log_ingest.queue.dir", rule))?;
    }
    if let table::LogSink::File(sink) = &config.log_ingest.sink {
        let rule = if config.observe.access_log.path == table::LogTarget::File(sink.path.clone()) {
            Err("is the access log's: each needs a file of its own")
        } else {
            writable_file(&sink.path)
        };
        rule.map_err(|rule| Fault::new("log_ingest.sink.path", rule))?;
    }
    Ok(())
}

/// Whether a route ends in the intake.
pub(crate) fn asked_for(config: &Config) -> bool {
    routes(config).next().is_some()
}

/// The routes that end in the intake.
fn routes(config: &Config) -> impl Iterator<Item = &table::Route> {
    const INTAKE: table::Target = table::Target::Service(table::Service::LogIngest);
    config.routes.iter().filter(|route| route.target == INTAKE)
}

fn intake(config: &Config, queue: Engine, pressure: Pressure) -> Result<LogIngest<Engine>, Fault> {
    let written = &config.log_ingest;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut event = EventLimits::default();
    event.bytes = size(written.max_event_bytes);
    let on_invalid = match written.on_invalid {
        table::OnInvalid::Reject => OnInvalid::Reject,
        table::OnInvalid::Wrap => OnInvalid::Wrap {
            service: WRAPPED.into(),
        },
    };
    let [idle, whole] = patience(config);
    LogIngest::builder(queue)
        .event_limits(event)
        .max_body_bytes(written.max_body_bytes)
        .max_events(usize::try_from(written.max_events.get()).unwrap_or(usize::MAX))
        .on_invalid(on_invalid)
        .classifier(classifier(config))
        .clients(written.client.iter().filter_map(client_key))
        .pressure(pressure)
        .idle_timeout(idle)
        .body_timeout(whole)
        .build()
        .map_err(|error| fault(&error))
}

/// How long the intake waits for the next piece of a body, and for the whole of it.
///
/// The server has timers for slow bodies of its own, and each route has a deadline. The intake is more patient than
/// both, so that it is they who speak.
fn patience(config: &Config) -> [Duration; 2] {
    const LEAST_IDLE: Duration = Duration::from_secs(10);
    const LEAST_WHOLE: Duration = Duration::from_secs(60);
    const AFTER_DEADLINE: Duration = Duration::from_secs(1);
    // More than that the intake does not take.
    const MOST: Duration = Duration::from_secs(3600);
    let deadlines = routes(config).map(|route| route.timeouts.request);
    let deadline = deadlines.max().unwrap_or_default();
    [
        config.server.body_idle_timeout.clamp(LEAST_IDLE, MOST),
        deadline
            .saturating_add(AFTER_DEADLINE)
            .clamp(LEAST_WHOLE, MOST),
    ]
}

/// Knows the intake's paths: errors that mention them are about failed uploads.
fn classifier(config: &Config) -> Classifier {
    routes(config).fold(Classifier::new(), |classifier, route| {
        match &route.matching.path {
            table::PathMatch::Prefix(prefix) => {
                classifier.path(format!("{}/{{*below}}", prefix.as_str()))
            }
            table::PathMatch::Template(path) => classifier.path(path.as_str()),
        }
    })
}

/// None for keys that the rules of the file refuse here.
fn client_key(key: &Key) -> Option<ClientKey> {
    match key {
        Key::Ip => Some(ClientKey::Ip(ClientIp::new())),
        Key::Header(name) => Some(ClientKey::Header(Header::new(name.clone()))),
        Key::Consumer | Key::User | Key::Route | Key::Global => None,
    }
}

fn per_client(
    written: &table::PerClient,
    ingest: &LogIngest<Engine>,
) -> Result<RateLimitLayer<(ByClient, ())>, Fault> {
    let quota = Quota::per(written.rate.per, written.rate.count.get()).burst(written.burst.get());
    let policy = Policy::new(PER_CLIENT, quota)
        .key(ingest.by_client())
        .mode(written.mode);
    RateLimitLayer::builder()
        .policy(policy)
        .build()
        .map_err(|error| Fault::new(KeyPath::from(PER_CLIENT).below(error.field()), error.rule()))
}

/// The crate's names for settings are the file's, but for these.
fn fault(error: &ConfigError) -> Fault {
    let key = match error.field() {
        "event.bytes" => "max_event_bytes",
        field => field,
    };
    Fault::new(KeyPath::of("log_ingest").below(key), error.rule())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use gw_logingest::event::{Arrival, Scratch, Validator};

    use super::*;

    fn config(server: &str, deadlines: &[&str]) -> Config {
        let mut text = format!("[server]\n{server}\n");
        for (number, deadline) in deadlines.iter().enumerate() {
            text += &format!(
                "[[routes]]\nname = \"logs{number}\"\nmatch = {{ path = \"/logs/{number}\" }}\n\
                 service = \"log-ingest\"\npublic = true\ntimeouts = {{ request = \"{deadline}\" }}\n"
            );
        }
        Config::parse("gateway.toml", &text, Path::new(""), &|_| None).unwrap()
    }

    /// An upload was cut after a minute where its route had five.
    #[test]
    fn the_intake_is_more_patient_than_server_and_routes() {
        let seconds = |config: &Config| patience(config).map(|timer| timer.as_secs());
        let long = config("body_idle_timeout = \"2m\"", &["30s", "5m"]);
        assert_eq!(seconds(&long), [120, 301]);
        let short = config("body_idle_timeout = \"1s\"", &["1s"]);
        assert_eq!(seconds(&short), [10, 60]);
        let endless = config("body_idle_timeout = \"9h\"", &["9h"]);
        assert_eq!(seconds(&endless), [3600, 3600]);
    }

    /// Story: of a path with a parameter only what stands before it was looked for, so that where the intake was at
    /// `/api/{version}/logs` all errors around the API counted as reports about failed uploads, and were dropped.
    #[test]
    fn reports_are_known_by_the_whole_path_of_the_intake() {
        let class = |route: &str, message: &str| {
            let text = format!(
                "[[routes]]\nname = \"logs\"\nmatch = {{ {route} }}\nservice = \"log-ingest\"\npublic = true\n"
            );
            let config = Config::parse("gateway.toml", &text, Path::new(""), &|_| None).unwrap();
            let event = serde_json::json!({
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "service": "shop",
                "level": "error",
                "message": message,
            });
            let mut scratch = Scratch::default();
            let event = event.to_string();
            let arrival = Arrival {
                received: SystemTime::UNIX_EPOCH,
                seq: 0,
            };
            let checked = Validator::default().check(event.as_bytes(), arrival, &mut scratch);
            classifier(&config).class(&checked.unwrap()).as_str()
        };
        for (route, message, expected) in [
            (
                "path = \"/api/{version}/logs\"",
                "POST /api/v1/logs: 503",
                "self",
            ),
            (
                "path = \"/api/{version}/logs\"",
                "GET /api/orders: 503",
                "error",
            ),
            (
                "path = \"/api/logs/{*rest}\"",
                "POST /api/logs/a/b: 503",
                "self",
            ),
            ("prefix = \"/api/logs\"", "POST /api/logs/a/b: 503", "self"),
            ("prefix = \"/api/logs\"", "at /srv/api/logs/a.ts:1", "error"),
            ("prefix = \"/\"", "POST /api/logs: 503", "error"),
        ] {
            assert_eq!(class(route, message), expected, "{route} {message}");
        }
    }

    /// With a sink that hung it was more than ten, and who waits for ten seconds killed it.
    #[test]
    fn by_default_a_stop_ends_in_time() {
        let server = table::Server::default();
        let else_all = Duration::from_secs(1);
        assert!(server.drain_delay + GRACE + else_all < Duration::from_secs(10));
    }
}
