use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use gw_core::{RejectContext, Rejection, Respond};
use gw_pipeline::codes;

use crate::config::regular_bytes;
use crate::refused;

/// The secret that requests to the admin listener carry as `Authorization: Bearer …`.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// The shortest token that is accepted, in bytes.
    pub const MIN_LEN: usize = 16;

    /// The largest file that is read, in bytes: requests carry it in one field.
    pub const MAX_FILE: usize = 4 << 10;

    /// Reads a token from a file, without the white space around it.
    ///
    /// # Errors
    ///
    /// What is wrong with the file: it is none that can be read, is larger than [`Token::MAX_FILE`], holds less than
    /// [`Token::MIN_LEN`] bytes, or what nobody can send.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = regular_bytes(path, Self::MAX_FILE)?;
        let token = text.trim_ascii();
        let rule = if text.len() > Self::MAX_FILE {
            "is larger than 4 KiB: this is no token"
        } else if token.len() < Self::MIN_LEN {
            "holds fewer than 16 characters: write a longer token"
        } else if !token.iter().all(u8::is_ascii_graphic) {
            "holds what no request can carry: a token is one word of visible ASCII characters"
        } else {
            return Ok(Self(token.into()));
        };
        Err(rule.to_owned())
    }

    /// Compares without telling by its duration where the difference is; the length may be told.
    fn is(&self, sent: &[u8]) -> bool {
        let difference = self
            .0
            .iter()
            .zip(sent)
            .fold(0, |seen, (a, b)| seen | (a ^ b));
        self.0.len() == sent.len() && std::hint::black_box(difference) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

const SCHEME: &[u8] = b"Bearer ";
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer");

pub(super) async fn require(
    State((token, respond)): State<(Token, Respond)>,
    request: Request,
    next: Next,
) -> Response {
    let mut lines = request.headers().get_all(header::AUTHORIZATION).iter();
    // Of two, nobody can tell which one counts elsewhere.
    let sent = match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.as_bytes()),
        _ => None,
    };
    // Schemes are compared without case (RFC 9110 section 11.1).
    let sent = sent.and_then(|value| value.split_at_checked(SCHEME.len()));
    match sent.and_then(|(scheme, token)| scheme.eq_ignore_ascii_case(SCHEME).then_some(token)) {
        Some(sent) if token.is(sent) => next.run(request).await,
        _ => {
            let code = match request.headers().contains_key(header::AUTHORIZATION) {
                true => &codes::AUTH_INVALID,
                false => &codes::AUTH_REQUIRED,
            };
            let rejection = Rejection::new(code).field(header::WWW_AUTHENTICATE, CHALLENGE);
            refused::answer(&respond, rejection, RejectContext::of(&request))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: `/dev/zero` was read without end, and with other tokens every request was a 401.
    #[test]
    fn a_token_is_one_that_can_be_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            Token::read(&path)
        };
        let token = read(b" 0123456789abcdef\r\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        read(&[b'x'; Token::MAX_FILE]).unwrap();
        let long = [b'x'; Token::MAX_FILE + 1];
        for (text, told) in [
            (&b"0123456789abcde"[..], "fewer than 16"),
            (b"0123456789abcdef\n0123456789abcdef", "one word"),
            (b"\xef\xbb\xbf0123456789abcdef", "one word"),
            (b"0123456789abcdef\0\0", "one word"),
            (&long, "larger than 4 KiB"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(told), "{said}");
        }
        let said = Token::read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(said, "is a pipe or a device: name a regular file");
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token(b"0123456789abcdef".as_slice().into());
        assert!(token.is(b"0123456789abcdef"));
        for other in [
            &b""[..],
            b"0123456789abcde",
            b"0123456789abcdeF",
            b"0123456789abcdef0",
        ] {
            assert!(!token.is(other));
        }
    }
}
