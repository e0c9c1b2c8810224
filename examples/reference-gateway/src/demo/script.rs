//! What the demo prints: commands, each with what it shows. A test runs every one of them.

use std::fmt::Write as _;
use std::path::Path;

use crate::gateway::Addresses;

/// A command, and what is seen when it is pasted.
struct Try {
    what: &'static str,
    command: String,
}

pub(super) fn text(addresses: &Addresses, log: &Path) -> String {
    let mut text =
        String::from("The gateway is up. Try these in another terminal; Ctrl-C here stops it.\n");
    for Try { what, command } in tries(addresses, log) {
        // Writing to a string does not fail.
        _ = write!(text, "\n# {what}\n{command}\n");
    }
    text.push('\n');
    text
}

fn tries(addresses: &Addresses, log: &Path) -> Vec<Try> {
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
            command: format!("for i in $(seq 25); do curl {status} {gateway}/api/orders/$i; done"),
        },
        Try {
            what: "The log service hangs. Its lane has 4 places: of 8 uploads, 4 hang for 10 s (504), 4 are refused at once (503).",
            command: format!(
                "for i in $(seq 8); do curl {status} -d '{{}}' {gateway}/api/logs & done; sleep 1; \\\n  curl {status} {gateway}/api/auth/login; wait"
            ),
        },
        Try {
            what: "... and logins answer all the while: 200, the first line that was not 503 above.",
            command: format!("curl -i {gateway}/api/auth/login"),
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
