//! What the gateway tells about requests.

use gw_observe::access_log::AccessLogBuilder;
use gw_observe::{AccessLog, ConfigError, ObserveLayer, Trust};

use super::Fault;
use super::paths::openable;
use crate::config::{Config, KeyPath, table};

/// The access log that `config` describes. Nothing is opened before it is started.
pub fn access_log(config: &Config) -> AccessLogBuilder {
    let written = &config.observe.access_log;
    let log = AccessLog::builder()
        .normal(written.normal.get())
        .health(written.health.get())
        .slow_over(written.slow_over)
        .budget_per_second(written.budget_per_second);
    match &written.path {
        table::LogTarget::Stdout => log.stdout(),
        table::LogTarget::File(path) => log.file(path),
    }
}

/// Whether the access log that `config` describes can be opened, as far as that is seen without opening it: it may be one
/// that another gateway is writing.
pub fn check(config: &Config) -> Result<(), Fault> {
    access_log(config).check().map_err(|error| fault(&error))?;
    match &config.observe.access_log.path {
        table::LogTarget::Stdout => Ok(()),
        table::LogTarget::File(path) => {
            openable(path).map_err(|rule| Fault::new("observe.access_log.path", rule))
        }
    }
}

/// The setting that keeps the access log from being written.
pub fn fault(error: &ConfigError) -> Fault {
    let key = match error.field() {
        "file" => "path",
        field => field,
    };
    Fault::new(KeyPath::from("observe.access_log").below(key), error.rule())
}

/// The layer that observes each request, and writes a line about it into `log` if there is one.
pub fn layer(config: &Config, log: Option<&AccessLog>) -> Result<ObserveLayer, Fault> {
    let trace = &config.observe.trace;
    let trust = if trace.trust_incoming {
        Trust::Everybody
    } else {
        Trust::Nobody
    };
    let layer = ObserveLayer::builder()
        .trust(trust)
        .sample(trace.sample.get());
    let layer = match log {
        Some(log) => layer.access_log(log),
        None => layer,
    };
    layer.build().map_err(|error| {
        Fault::new(
            KeyPath::from("observe.trace").below(error.field()),
            error.rule(),
        )
    })
}
