//! What the demo prints: commands, each with what it shows. A test runs every one of them.

use std::fmt::Write as _;
use std::path::Path;

use crate::gateway::Addresses;

/// A command, and what is seen when it is pasted.
struct Try {
    what: &'static str,
    command: String,
}

/// The access log's name in the demo's folder.
pub(super) const ACCESS_LOG: &str = "access.log";

/// The name of the file that the log intake delivers to.
pub(super) const EVENTS: &str = "events.ndjson";

pub(super) fn text(addresses: &Addresses, folder: &Path) -> String {
    let mut text =
        String::from("The gateway is up. Try these in another terminal; Ctrl-C here stops it.\n");
    for Try { what, command } in tries(addresses, folder) {
        // Writing to a string does not fail.
        _ = write!(text, "\n# {what}\n{command}\n");
    }
    text.push('\n');
    text
}

const EVENT: &str = r#"[{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","service":"shop","level":"warn","message":"hello"}]"#;

fn tries(addresses: &Addresses, folder: &Path) -> Vec<Try> {
    let (log, events) = (folder.join(ACCESS_LOG), folder.join(EVENTS));
    let gateway = addresses
        .traffic
        .first()
        .map_or_else(String::new, |address| format!("http://{address}"));
    let (admin, health) = (
        format!("http://{}", addresses.admin),
        format!("http://{}", addresses.health),
    );
    let status = "-s -o /dev/null -w '%{http_code}\\n'";
    vec![
        Try {
            what: "An order, through the gateway: 200.",
            command: format!("curl -i {gateway}/api/orders/7"),
        },
        Try {
            what: "The service fails and tells why; the client learns a code, and the status stays 500.",
            command: format!("curl -i {gateway}/api/orders/broken"),
        },
        Try {
            what: "More than 20 orders at once from one address: 200, then 429 with Retry-After.",
            command: format!("curl {status} '{gateway}/api/orders/[1-50]'"),
        },
        Try {
            what: "The old log service hangs. Its lane has 4 places: of 8 uploads, 4 hang for 10 s (504), 4 are refused at once (503).",
            command: format!(
                "for i in $(seq 8); do curl {status} -d '{{}}' {gateway}/api/old-logs & done; sleep 1; \\\n  curl {status} {gateway}/api/auth/login; wait"
            ),
        },
        Try {
            what: "... and logins answer all the while: 200, the first line that was not 503 above.",
            command: format!("curl -i {gateway}/api/auth/login"),
        },
        Try {
            what: "The log intake needs no log service: 202 and a receipt, once the event is on disk.",
            command: format!(
                "curl -i -H 'content-type: application/json' -d '{EVENT}' {gateway}/api/logs"
            ),
        },
        Try {
            what: "... and a moment later the event is in a file; what is behind it may take as long as it likes.",
            command: format!(
                "until [ -s {events} ]; do sleep 0.1; done; cat {events}; curl {admin}/logs",
                events = events.display()
            ),
        },
        Try {
            what: "No route: 404 in the same envelope.",
            command: format!("curl -i {gateway}/nothing/here"),
        },
        Try {
            what: "A path with two readings: 400.",
            command: format!("curl -i --path-as-is '{gateway}/api/orders/..%2fadmin'"),
        },
        Try {
            what: "A method that the route does not have: 405 with Allow.",
            command: format!("curl -i -X DELETE {gateway}/api/orders/7"),
        },
        Try {
            what: "The lanes, the limits, the metrics.",
            command: format!("curl {admin}/lanes {admin}/limits {admin}/metrics"),
        },
        Try {
            what: "The access log, a file that goes when the demo ends: a line for each request, the last ones here.",
            command: format!("tail -n 5 '{}'", log.display()),
        },
        Try {
            what: "Whether it wants traffic.",
            command: format!("curl -i {health}/readyz"),
        },
    ]
}
