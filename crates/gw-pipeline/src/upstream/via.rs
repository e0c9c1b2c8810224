//! `Via` and `Max-Forwards`: which way a request has come, and how far it may go.

use http::header::{HeaderMap, HeaderValue, MAX_FORWARDS, VIA};
use http::{Method, Version};

use super::hop_by_hop::options;

/// The name of this gateway in `Via`. Says nothing about the host it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pseudonym {
    name: String,
    hops: Hops,
}

/// The element of `Via` for each version that a request can be received in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hops {
    v1_0: HeaderValue,
    v1_1: HeaderValue,
    v2: HeaderValue,
    v3: HeaderValue,
}

impl Pseudonym {
    /// `None` if `name` is not a token (RFC 9110 section 5.6.2).
    pub(super) fn new(name: String) -> Option<Self> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return None;
        }
        Some(Self::of_token(name))
    }

    /// A name that no other process is likely to have.
    pub(super) fn random() -> Self {
        Self::of_token(format!("gw-{:016x}", fastrand::u64(..)))
    }

    fn of_token(name: String) -> Self {
        let hop = |version: &'static str| {
            // A token after a version is always a value.
            HeaderValue::try_from(format!("{version} {name}"))
                .unwrap_or(HeaderValue::from_static(version))
        };
        let hops = Hops {
            v1_0: hop("1.0"),
            v1_1: hop("1.1"),
            v2: hop("2.0"),
            v3: hop("3.0"),
        };
        Self { name, hops }
    }

    /// Whether the request has passed here before.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(VIA).iter();
        lines.any(|line| options(line.as_bytes()).any(|hop| self.is_hop(hop)))
    }

    /// A hop is `protocol name (comment)`.
    fn is_hop(&self, hop: &[u8]) -> bool {
        let mut words = hop
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        words
            .nth(1)
            .is_some_and(|name| name.eq_ignore_ascii_case(self.name.as_bytes()))
    }

    /// Notes that the request has passed here, in the version that it was received in.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, received: Version) {
        let hop = match received {
            Version::HTTP_2 => &self.hops.v2,
            Version::HTTP_10 | Version::HTTP_09 => &self.hops.v1_0,
            Version::HTTP_3 => &self.hops.v3,
            _ => &self.hops.v1_1,
        };
        headers.append(VIA, hop.clone());
    }
}

/// How far a request may still go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// To the next one.
    Onward,
    /// It ends here.
    Here,
}

/// Counts one hop off `Max-Forwards`, which only OPTIONS heeds here (RFC 9110 section 7.6.2): TRACE goes nowhere.
///
/// `None` if the field is not a number: it must be one, and guessing could send the request round for ever.
pub(super) fn count_down(method: &Method, headers: &mut HeaderMap) -> Option<Reach> {
    if *method != Method::OPTIONS {
        return Some(Reach::Onward);
    }
    let mut values = headers.get_all(MAX_FORWARDS).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return (!headers.contains_key(MAX_FORWARDS)).then_some(Reach::Onward);
    };
    let digits = value.to_str().ok()?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit is far.
    match digits.parse::<u32>().unwrap_or(u32::MAX).checked_sub(1) {
        Some(left) => {
            headers.insert(MAX_FORWARDS, left.into());
            Some(Reach::Onward)
        }
        None => Some(Reach::Here),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(lines: &[&str]) -> HeaderMap {
        let lines = lines.iter().map(|line| (VIA, line.parse().unwrap()));
        let mut headers = HeaderMap::new();
        headers.extend(lines);
        headers
    }

    #[test]
    fn finds_itself_in_any_line() {
        let name = Pseudonym::new("edge-1".to_owned()).unwrap();
        assert!(name.is_in(&via(&["1.1 other", "1.0 fred, HTTP/1.1  EDGE-1 (comment)"])));
        assert!(!name.is_in(&via(&["1.1 edge-10, 1.1 edge, edge-1"])));
        assert!(!name.is_in(&HeaderMap::new()));
    }

    #[test]
    fn is_added_as_a_line_of_its_own() {
        let mut headers = via(&["1.0 fred"]);
        let name = Pseudonym::new("edge-1".to_owned()).unwrap();
        name.add_to(&mut headers, Version::HTTP_2);
        let lines: Vec<_> = headers.get_all(VIA).iter().collect();
        assert_eq!(lines, ["1.0 fred", "2.0 edge-1"]);
        assert!(name.is_in(&headers));
    }

    #[test]
    fn a_pseudonym_is_a_token() {
        for bad in ["", "a b", "a,b", "a(b", "é"] {
            assert_eq!(Pseudonym::new(bad.to_owned()), None, "{bad:?}");
        }
        assert!(Pseudonym::new(Pseudonym::random().name).is_some());
        assert_ne!(Pseudonym::random(), Pseudonym::random());
    }

    #[test]
    fn max_forwards_counts_down_for_options() {
        let count = |method: Method, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(MAX_FORWARDS, value.parse().unwrap());
            }
            let reach = count_down(&method, &mut headers);
            (reach, headers.get(MAX_FORWARDS).cloned())
        };
        let value = |text: &'static str| Some(HeaderValue::from_static(text));
        assert_eq!(
            count(Method::OPTIONS, &["3"]),
            (Some(Reach::Onward), value("2"))
        );
        assert_eq!(
            count(Method::OPTIONS, &["0"]),
            (Some(Reach::Here), value("0"))
        );
        assert_eq!(count(Method::OPTIONS, &[]), (Some(Reach::Onward), None));
        assert_eq!(
            count(Method::GET, &["0"]),
            (Some(Reach::Onward), value("0"))
        );
        let far = count(Method::OPTIONS, &["99999999999999"]);
        assert_eq!(far, (Some(Reach::Onward), value("4294967294")));
        for bad in [&["x"][..], &["-1"], &[""], &["1", "1"]] {
            assert_eq!(count(Method::OPTIONS, bad).0, None, "{bad:?}");
        }
    }
}
