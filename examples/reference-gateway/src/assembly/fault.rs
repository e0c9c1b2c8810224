use std::error::Error;
use std::fmt;

use crate::config::Config;

/// A setting that no gateway can be built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The dotted path of the setting, such as `lanes.lane.logs.cap`.
    pub key: String,
    /// The rule that it breaks.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }

    /// The lanes' own paths leave out that the file has them in a table of their own.
    pub(super) fn of_lanes(error: &gw_bulkhead::ConfigError) -> Self {
        let key = match error.field() {
            "lanes" => "lanes.lane".to_owned(),
            field => match field.strip_prefix("lanes.") {
                Some(rest) => format!("lanes.lane.{rest}"),
                None => format!("lanes.{field}"),
            },
        };
        Self::new(key, error.rule())
    }

    pub(super) fn of_limits(error: &gw_ratelimit::ConfigError) -> Self {
        match (error.policy(), error.field()) {
            (Some(policy), key @ ("rate" | "burst")) => {
                Self::new(format!("limits.{policy}.{key}"), error.rule())
            }
            (Some(policy), field) => {
                let message = format!("{field} {}", error.rule());
                Self::new(format!("limits.{policy}"), message)
            }
            (None, field) => Self::new("limits", format!("{field} {}", error.rule())),
        }
    }

    pub(super) fn of_routes(error: &gw_pipeline::ConfigError) -> Self {
        Self::new(error.field(), error.rule())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl Error for Fault {}

/// Refuses what would be dangerous to leave out: a client that is told of TLS must not be served without it.
pub(super) fn refuse_unsupported(config: &Config) -> Result<(), Fault> {
    const TLS: &str = "TLS is not supported by this version";
    if config.server.tls.is_some() {
        return Err(Fault::new("server.tls", TLS));
    }
    for (name, upstream) in &config.upstreams {
        if let Some(index) = upstream.endpoints.iter().position(|endpoint| endpoint.tls) {
            return Err(Fault::new(
                format!("upstreams.{name}.endpoints[{index}]"),
                TLS,
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_lanes_are_found_under_the_keys_of_the_file() {
        for (field, key) in [
            ("lanes", "lanes.lane"),
            ("lanes.logs.cap", "lanes.lane.logs.cap"),
            ("default_lane", "lanes.default_lane"),
        ] {
            let error = gw_bulkhead::ConfigError::new(field, "must be otherwise");
            assert_eq!(Fault::of_lanes(&error).key, key);
        }
    }
}
