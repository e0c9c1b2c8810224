//! The report as one file: nothing in it is fetched from anywhere.

use std::fmt::Write as _;

use super::{cost, picture, summary, table};
use crate::replay::Replay;
use crate::verdict::Finding;

/// The page.
pub(crate) fn page(replay: &Replay, findings: &[Finding]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>The incident, replayed</title>\n\
         <style>{STYLE}</style>\n<h1>The incident, replayed</h1>\n<p>{INTRODUCTION}</p>\n{}<ul>\n",
        picture(replay)
    );
    // Writing to a string cannot fail.
    for finding in findings {
        let (class, verdict) = if finding.holds {
            ("ok", "ok")
        } else {
            ("missed", "missed")
        };
        _ = writeln!(
            page,
            "<li><b class=\"{class}\">{verdict}</b> {}</li>",
            escaped(&finding.text)
        );
    }
    page.push_str("</ul>\n<table>\n<tr><th><th>route");
    for column in table::COLUMNS {
        _ = write!(page, "<th>{column}");
    }
    for row in table::rows(replay) {
        _ = write!(page, "\n<tr><th>{}<td>{}", escaped(&row.phase), row.route);
        for cell in row.cells {
            _ = write!(page, "<td>{cell}");
        }
    }
    page.push_str("\n</table>\n<pre>");
    for line in summary(replay) {
        _ = writeln!(page, "{}", escaped(&line));
    }
    if let Some((without, phase)) = &replay.reduced {
        _ = write!(page, "\n{}", escaped(&cost::text(without, replay, phase)));
    }
    _ = write!(
        page,
        "</pre>\n<p>Seed {}. Each request is timed from the instant for which it was scheduled and counts in that \
         second, so a stall is charged to every request that it delayed. Every phase was offered the same schedule by \
         the same clients.</p>\n",
        replay.seed
    );
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const INTRODUCTION: &str = "A few devices report more than usual. The search node behind the log backend saturates, \
    and each upload holds a worker of the gateway for seconds. Failed uploads are reported by further uploads. Logins \
    share the workers, and get no answer although the auth service is idle. Then the same load once more, before a \
    gateway whose log uploads have a lane, a limit, and a queue on disk.";

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
svg{width:100%;height:auto}ul{list-style:none;padding:0}b{display:inline-block;min-width:4rem}\
.ok{color:light-dark(#146c2e,#6fd08c)}.missed{color:light-dark(#b3261e,#ff8a80)}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.2rem .6rem;text-align:right}\
th:first-child,td:nth-child(2){text-align:left}tr+tr{border-top:1px solid #8884}pre{overflow-x:auto;font-size:13px}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a < b & c > d"), "a &lt; b &amp; c &gt; d");
    }
}
