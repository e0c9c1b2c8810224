use gw_core::context::{SpanId, TraceId};

use super::hex::{self, write_hex};
use super::trim;

/// The content of a `traceparent` field.
///
/// # Examples
///
/// ```
/// use gw_observe::trace::TraceParent;
///
/// let sent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let parent = TraceParent::parse(sent).unwrap();
/// assert!(parent.flags.is_sampled());
/// assert_eq!(&parent.to_bytes(), sent);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// Names the whole trace.
    pub trace_id: TraceId,
    /// Names the caller's span.
    pub parent_id: SpanId,
    /// What the caller says about the trace.
    pub flags: Flags,
}

/// The flags of a trace. Those that level 2 does not define are not kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// The caller may have recorded the trace.
    pub const SAMPLED: Self = Self(1);
    /// At least the last seven bytes of the trace id are random.
    pub const RANDOM: Self = Self(2);

    /// These flags and `others`.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether the trace may have been recorded.
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Whether the trace id is known to be random.
    pub const fn is_random(self) -> bool {
        self.0 & Self::RANDOM.0 != 0
    }
}

impl TraceParent {
    /// The length of a printed one, in bytes.
    pub const LEN: usize = 55;

    /// Reads the value of a field. `None` if the trace must be started anew.
    ///
    /// Of a version later than `00` the fields that this one knows are read; what follows them is not looked at. White
    /// space around the value is ignored.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = trim(value).split_first_chunk::<2>()?;
        let [version] = hex::read(version)?;
        let (trace_id, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<32>()?;
        let (parent_id, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<16>()?;
        let (flags, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<2>()?;
        let ends_well = match version {
            0xff => false,
            0x00 => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        if !ends_well {
            return None;
        }
        let [flags] = hex::read(flags)?;
        Some(Self {
            trace_id: TraceId::new(hex::read(trace_id)?)?,
            parent_id: SpanId::new(hex::read(parent_id)?)?,
            flags: Flags(flags & Flags::SAMPLED.and(Flags::RANDOM).0),
        })
    }

    /// The value of a field, of version `00`.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        // By hand, and over a form with all the hyphens in place: it is printed for each request.
        let mut out = [b'-'; Self::LEN];
        let rest = write_hex(&mut out, &[0]);
        let rest = write_hex(skip(rest), &self.trace_id.bytes());
        let rest = write_hex(skip(rest), &self.parent_id.bytes());
        write_hex(skip(rest), &[self.flags.0]);
        out
    }
}

/// What follows the next hyphen.
fn skip(out: &mut [u8]) -> &mut [u8] {
    out.split_at_mut_checked(1).unwrap_or_default().1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "12345678901234567890123456789012";
    const SPAN: &str = "1234567890123456";

    fn parse(text: &str) -> Option<TraceParent> {
        TraceParent::parse(text.as_bytes())
    }

    #[test]
    fn what_is_well_formed_is_read() {
        let valid = format!("00-{TRACE}-{SPAN}-01");
        let parent = parse(&valid).unwrap();
        assert_eq!(parent.trace_id.to_string(), TRACE);
        assert_eq!(parent.parent_id.to_string(), SPAN);
        assert!(parent.flags.is_sampled() && !parent.flags.is_random());
        assert_eq!(parent.to_bytes(), *valid.as_bytes());
        for spaced in [" ", "\t", "\t ", " \t \t"] {
            assert_eq!(
                parse(&format!("{spaced}{valid}{spaced}")),
                Some(parent),
                "{spaced:?}"
            );
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for tail in ["", "-", "-what-the-future-will-be-like"] {
            let parent = parse(&format!("cc-{TRACE}-{SPAN}-03{tail}")).unwrap();
            assert_eq!(
                parent.to_bytes(),
                *format!("00-{TRACE}-{SPAN}-03").as_bytes()
            );
        }
        assert_eq!(parse(&format!("cc-{TRACE}-{SPAN}-01.what")), None);
        assert_eq!(parse(&format!("cc-{TRACE}-{SPAN}-0")), None);
    }

    #[test]
    fn flags_that_nobody_knows_are_zero_again() {
        for (sent, printed) in [
            ("00", "00"),
            ("01", "01"),
            ("02", "02"),
            ("ff", "03"),
            ("fc", "00"),
        ] {
            let parent = parse(&format!("00-{TRACE}-{SPAN}-{sent}")).unwrap();
            assert!(parent.to_bytes().ends_with(printed.as_bytes()), "{sent}");
        }
    }

    #[test]
    fn what_is_malformed_is_not_read() {
        let zeros = "0".repeat(32);
        for malformed in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-"),
            format!("00-{TRACE}-{SPAN}-0"),
            format!("00-{TRACE}-{SPAN}-01."),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-001"),
            format!("00-{TRACE}-{SPAN}-.0"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!(".0-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("000-{TRACE}-{SPAN}-01"),
            format!("0000-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-.{}-{SPAN}-01", "2".repeat(31)),
            format!("00-{}A-{SPAN}-01", "2".repeat(31)),
            format!("00-{TRACE}3-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "2".repeat(31)),
            format!("00-{TRACE}-{SPAN}7-01"),
            format!("00-{TRACE}-{}-01", "2".repeat(15)),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(parse(&malformed), None, "{malformed}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            _ = TraceParent::parse(&bytes);
        }

        #[test]
        fn what_is_printed_is_read_as_it_was(trace_id: [u8; 16], parent_id: [u8; 8], flags in 0u8..4) {
            let (Some(trace_id), Some(parent_id)) = (TraceId::new(trace_id), SpanId::new(parent_id)) else {
                return Ok(());
            };
            let parent = TraceParent { trace_id, parent_id, flags: Flags(flags) };
            let printed = parent.to_bytes();
            prop_assert_eq!(TraceParent::parse(&printed), Some(parent));
        }

        #[test]
        fn one_changed_byte_is_never_read_as_the_same(at in 0usize..55, byte: u8) {
            let valid = format!("00-{TRACE}-{SPAN}-01").into_bytes();
            let mut changed = valid.clone();
            changed[at] = byte;
            if let Some(parent) = TraceParent::parse(&changed) {
                // The version and the unknown flags are the only parts that are not kept.
                let known = parent.to_bytes();
                prop_assert!(changed == valid || known[2..53] == changed[2..53]);
            }
        }
    }
}
