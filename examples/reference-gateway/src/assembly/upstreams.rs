//! `[upstreams.*]` as upstreams, and what sends to them.

use gw_core::context::UpstreamName;
use gw_core::key::TrustedProxies;
use gw_pipeline::upstream::{Forward, HostHeader, PoolConfig, Protocol, Upstream};
use http::Uri;

use super::Fault;
use crate::config::{Config, table};

pub(super) fn upstreams(config: &Config) -> Result<Vec<Upstream>, Fault> {
    config
        .upstreams
        .iter()
        .map(|(name, written)| upstream(name, written))
        .collect()
}

fn upstream(name: &str, written: &table::Upstream) -> Result<Upstream, Fault> {
    let mut builder = Upstream::builder(UpstreamName::new(name))
        .protocol(protocol(written.protocol))
        .connect_timeout(written.connect_timeout)
        .send_timeout(written.send_timeout)
        .host_header(host_header(written.host_header))
        .pool(pool(&written.pool));
    for (index, endpoint) in written.endpoints.iter().enumerate() {
        let uri = endpoint.to_string().parse::<Uri>();
        let key = || format!("upstreams.{name}.endpoints[{index}]");
        builder = builder.endpoint(uri.map_err(|error| Fault::new(key(), error.to_string()))?);
    }
    builder
        .build()
        .map_err(|error| Fault::new(format!("upstreams.{name}.{}", error.field()), error.rule()))
}

const fn protocol(written: table::Protocol) -> Protocol {
    match written {
        table::Protocol::Http1 => Protocol::Http1,
        table::Protocol::Http2 => Protocol::Http2,
        table::Protocol::Auto => Protocol::Auto,
    }
}

const fn host_header(written: table::HostHeader) -> HostHeader {
    match written {
        table::HostHeader::Preserve => HostHeader::Preserve,
        table::HostHeader::Upstream => HostHeader::Upstream,
    }
}

fn pool(written: &table::Pool) -> PoolConfig {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    PoolConfig {
        max_connections: count(written.max_connections.get()),
        max_idle: count(written.max_idle),
        idle_timeout: written.idle_timeout,
        queue: count(written.queue),
        queue_timeout: written.queue_timeout,
    }
}

pub(super) fn forward(
    config: &Config,
    upstreams: &[Upstream],
    proxies: TrustedProxies,
) -> Result<Forward, Fault> {
    let names = &config.auth.identity_headers;
    let forward = Forward::new(upstreams.iter().cloned())
        .map_err(|error| Fault::new(error.field(), error.rule()))?
        .trusted_proxies(proxies)
        .request_id_header(config.server.request_id.header.clone())
        .protect([
            names.consumer.clone(),
            names.user.clone(),
            names.scopes.clone(),
        ]);
    Ok(forward)
}
