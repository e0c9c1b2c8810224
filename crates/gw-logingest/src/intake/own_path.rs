//! Finding a path of the intake in the text of an event.

use memchr::{memchr_iter, memrchr};

/// A path of the intake, as it is looked for.
///
/// It counts where it stands by itself or as the path of an `http` URL. Within another path it is a file, or another
/// route: `/srv/app/api/logs/route.ts`, `/api/logs-export`.
#[derive(Debug, Clone)]
pub(super) struct OwnPath {
    segments: Box<[Segment]>,
    /// What lies below is the intake's as well.
    open: bool,
}

#[derive(Debug, Clone)]
enum Segment {
    Fixed(Box<str>),
    /// A parameter: any segment that is not empty.
    Any,
}

impl OwnPath {
    /// None for a path without a fixed segment, which would be found everywhere.
    pub(super) fn new(template: &str) -> Option<Self> {
        let mut segments = Vec::new();
        let mut open = false;
        for segment in template.split('/').filter(|segment| !segment.is_empty()) {
            let parameter = segment
                .strip_prefix('{')
                .and_then(|name| name.strip_suffix('}'));
            match parameter {
                Some(name) if name.starts_with('*') => open = true,
                Some(_) => segments.push(Segment::Any),
                None => segments.push(Segment::Fixed(segment.into())),
            }
        }
        let fixed = |segment: &Segment| matches!(segment, Segment::Fixed(_));
        segments.iter().any(fixed).then(|| Self {
            segments: segments.into(),
            open,
        })
    }

    /// Whether normalised JSON mentions it. Each byte is looked at once for each segment at the most.
    pub(super) fn is_in(&self, json: &[u8]) -> bool {
        memchr_iter(b'/', json)
            .filter_map(|slash| json.split_at_checked(slash))
            .any(|(before, text)| self.begins(text) && may_begin_behind(before))
    }

    /// Whether the text begins with it, as a whole path.
    fn begins(&self, text: &[u8]) -> bool {
        let behind = self.segments.iter().try_fold(text, |text, segment| {
            behind_slash(text).and_then(|text| segment.behind(text))
        });
        let Some(behind) = behind else { return false };
        match behind_slash(behind) {
            Some(below) => self.open || is_end(below),
            None => {
                let sentence = behind.iter().take_while(|byte| b".:!".contains(byte));
                behind.get(sentence.count()..).is_some_and(is_end)
            }
        }
    }
}

impl Segment {
    /// What is behind it, if the text begins with it.
    fn behind<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Fixed(name) => text.strip_prefix(name.as_bytes()),
            Self::Any => {
                let in_segment = |byte: &&u8| **byte != b'/' && !is_border(**byte);
                let length = text.iter().take_while(in_segment).count();
                text.get(length..).filter(|_| length > 0)
            }
        }
    }
}

/// Whether a path may begin behind this text.
fn may_begin_behind(text: &[u8]) -> bool {
    let text = without_backslashes(text);
    let Some((last, head)) = text.split_last() else {
        return true;
    };
    // A line break or a tab is an escape here.
    let escape = matches!(last, b'n' | b'r' | b't') && head.ends_with(b"\\");
    *last == b'=' || is_border(*last) || escape || ends_in_authority(text)
}

/// Whether the text ends like `https://gw.example:8443`.
fn ends_in_authority(text: &[u8]) -> bool {
    let Some((head, authority)) =
        memrchr(b'/', text).and_then(|slash| text.split_at_checked(slash + 1))
    else {
        return false;
    };
    let host = |byte: &u8| !is_border(*byte) || b"[]".contains(byte);
    let scheme = without_slash(head)
        .and_then(without_slash)
        .and_then(|head| head.strip_suffix(b":"));
    !authority.is_empty()
        && authority.iter().all(host)
        && scheme.is_some_and(|text| text.ends_with(b"http") || text.ends_with(b"https"))
}

/// What is behind a slash. Text within text has it as `\/`, with as many backslashes as it was written in one another.
fn behind_slash(text: &[u8]) -> Option<&[u8]> {
    let backslashes = text.iter().take_while(|byte| **byte == b'\\').count();
    text.get(backslashes..)?.strip_prefix(b"/")
}

/// What is in front of a slash, the same way.
fn without_slash(text: &[u8]) -> Option<&[u8]> {
    text.strip_suffix(b"/").map(without_backslashes)
}

fn without_backslashes(mut text: &[u8]) -> &[u8] {
    while let Some(shorter) = text.strip_suffix(b"\\") {
        text = shorter;
    }
    text
}

fn is_end(text: &[u8]) -> bool {
    text.first().is_none_or(|byte| is_border(*byte))
}

/// White space, quotes, brackets and the like. Beyond ASCII, a path in a URL is escaped, and sentences go on without a space.
const fn is_border(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'/' | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'*'
                | b'+'
                | b'='
                | b':'
                | b'@'
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, message: &str) -> bool {
        let json = serde_json::json!({ "message": message }).to_string();
        OwnPath::new(path).unwrap().is_in(json.as_bytes())
    }

    #[test]
    fn it_is_found_by_itself_and_as_the_path_of_a_url() {
        for message in [
            "/api/logs",
            "POST /api/logs answered 503",
            "POST /api/logs: timed out",
            "no answer from /api/logs.",
            "url=/api/logs",
            "fetch('/api/logs')",
            "at\n/api/logs\nhere",
            "Post \"https://gw.example:8443/api/logs\": EOF",
            "http://[::1]:8080/api/logs?atomic",
            "https://user:word@gw/api/logs/",
            "<http://gw/api/logs>",
            "请求/api/logs失败",
            // As PHP writes it, in text within text as well.
            r#"{"url":"https:\/\/gw\/api\/logs"}"#,
            r#""{\"url\":\"\\\/api\\\/logs\"}""#,
        ] {
            assert!(found("/api/logs", message), "{message}");
        }
    }

    /// Story: errors in files and from other services whose paths hold that of the intake counted as reports about failed
    /// uploads, and were dropped behind a 202.
    #[test]
    fn within_another_path_it_is_not_meant() {
        for (path, message) in [
            ("/api/logs", "at /srv/app/api/logs/route.ts:12:5"),
            ("/api/logs", "at file:///api/logs.ts"),
            ("/api/logs", "GET /api/logs-export failed"),
            ("/api/logs", "GET /api/logsearch failed"),
            ("/api/logs", "GET /api/logs/7 failed"),
            ("/api/logs", "GET https://other/v2/api/logs failed"),
            ("/logs", "cannot open /var/logs"),
            ("/log", "cannot write /var/log/app.log"),
            ("/logs", "cannot connect to postgres://db:5432/logs"),
        ] {
            assert!(!found(path, message), "{path} {message}");
        }
    }

    /// Story: of `/api/{version}/logs` only `/api` was looked for, so that all errors around the API were dropped.
    #[test]
    fn a_parameter_is_any_one_segment() {
        let path = "/api/{version}/logs";
        for (message, expected) in [
            ("POST https://gw/api/v1/logs failed", true),
            (r"POST \/api\/v1\/logs failed", true),
            ("POST /api/orders failed", false),
            ("POST /api/logs failed", false),
            ("POST /api//logs failed", false),
            ("POST /api/v1/x/logs failed", false),
            ("POST /api/a b/logs failed", false),
            ("see /api, /logs", false),
        ] {
            assert_eq!(found(path, message), expected, "{message}");
        }
        assert!(found("/{tenant}/logs", "POST /shop/logs failed"));
        assert!(found("/logs/{tenant}", "POST /logs/shop: failed"));
        assert!(!found("/logs/{tenant}", "POST /logs/ failed"));
    }

    #[test]
    fn what_is_below_an_open_end_is_meant_as_well() {
        for path in ["/api/logs/{*rest}", "/api/{x}/{*rest}"] {
            assert!(found(path, "POST /api/logs/a/b failed"));
            assert!(found(path, "POST /api/logs failed"));
        }
        assert!(!found("/api/logs/{*rest}", "POST /api/logsearch/a failed"));
        assert!(!found("/api/logs/{*rest}", "at /srv/api/logs/a.ts"));
    }

    #[test]
    fn a_path_without_a_fixed_segment_is_none() {
        for path in ["", "/", "//{*rest}", "/{*rest}", "/{tenant}"] {
            assert!(OwnPath::new(path).is_none(), "{path}");
        }
    }

    /// It would take minutes if bytes were looked at once for each slash.
    #[test]
    fn hostile_text_takes_no_longer() {
        let path = OwnPath::new("/{a}/{b}/logs").unwrap();
        for part in [
            "/",
            "/a",
            "/a/b/logs/",
            "/a\\\\",
            "\\\\",
            "x/a/b/logs ",
            "a",
        ] {
            let text = format!("x{}", part.repeat(1 << 17));
            assert!(!path.is_in(text.as_bytes()), "{part}");
        }
    }
}
