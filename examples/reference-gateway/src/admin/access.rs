use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use gw_core::{RejectContext, Rejection};
use gw_pipeline::codes;

use crate::refused;

/// The secret that requests to the admin listener carry as `Authorization: Bearer …`.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// The shortest token that is accepted, in bytes.
    pub const MIN_LEN: usize = 16;

    /// Reads a token from a file, without the white space around it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or holds less than [`Token::MIN_LEN`] bytes.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read(path)?;
        let token = text.trim_ascii();
        if token.len() < Self::MIN_LEN {
            return Err(io::Error::other("the token has fewer than 16 bytes"));
        }
        Ok(Self(token.into()))
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

pub(super) async fn require(State(token): State<Token>, request: Request, next: Next) -> Response {
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
            refused::answer(rejection, RejectContext::of(&request))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
