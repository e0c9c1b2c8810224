use http::Response;

use super::Rejection;
use crate::retry_after::NotBefore;

impl Rejection {
    /// Changes the head of the answer that this refusal is going to be, for a layer that has something to say in all answers
    /// and sees one pass as an error: who renders it stands further out.
    ///
    /// `change` gets the code's status, the fields and the extensions, the refusal among them; what it makes of the fields and
    /// extensions is the refusal's, up to [`Rejection::MAX_FIELDS`] lines. The status stays the code's. The time to come back
    /// is not among the fields: to put it off, `change` leaves a [`NotBefore`].
    pub fn change_head(&mut self, change: impl FnOnce(Response<()>) -> Response<()>) {
        let mut head = Response::new(());
        *head.status_mut() = self.code.status;
        head.headers_mut().extend(self.fields.iter().cloned());
        let mut extensions = self.extensions.clone().unwrap_or_default();
        extensions.insert(self.clone());
        *head.extensions_mut() = extensions;

        let (mut head, ()) = change(head).into_parts();
        head.extensions.remove::<Self>();
        self.retry_after = self.retry_after.max(NotBefore::of(&head.extensions));
        let lines = head.headers.iter().take(Self::MAX_FIELDS);
        self.fields = lines
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        self.extensions = (!head.extensions.is_empty()).then_some(head.extensions);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderValue, StatusCode, header};

    use super::*;
    use crate::rejection::{Code, GrpcStatus};
    use crate::retry_after::RetryAfter;

    const CODE: Code = Code::new(
        "TEST",
        StatusCode::SERVICE_UNAVAILABLE,
        "A test.",
        GrpcStatus::Unavailable,
    );

    fn after(seconds: u64) -> RetryAfter {
        RetryAfter::at_least(Duration::from_secs(seconds))
    }

    #[test]
    fn the_head_of_the_answer_is_shown_and_changed() {
        let [get, put] = ["GET", "PUT"].map(HeaderValue::from_static);
        let mut refused = Rejection::new(&CODE)
            .retry_after(after(2))
            .field(header::ALLOW, get.clone())
            .extension(7_u8);
        let before = refused.clone();
        refused.change_head(|mut head| {
            assert_eq!(head.status(), 503);
            assert_eq!(head.headers()[header::ALLOW], "GET");
            assert_eq!(head.extensions().get(), Some(&7_u8));
            assert_eq!(head.extensions().get(), Some(&before));
            head.headers_mut().append(header::ALLOW, put.clone());
            head.extensions_mut().insert("more");
            *head.status_mut() = StatusCode::OK;
            head
        });
        assert_eq!(refused.fields(), [get, put].map(|m| (header::ALLOW, m)));
        let extensions = refused.extensions().unwrap();
        assert_eq!(extensions.get(), Some(&7_u8));
        assert_eq!(extensions.get(), Some(&"more"));
        assert_eq!(extensions.get::<Rejection>(), None);
        assert_eq!(refused.retry_after_hint(), Some(after(2)));
        assert_eq!(refused.code().status(), 503);
    }

    #[test]
    fn the_time_to_come_back_is_only_put_off() {
        let when = |hint: Option<RetryAfter>, left| {
            let mut refused = Rejection::new(&CODE);
            refused.retry_after = hint;
            refused.change_head(|mut head| {
                NotBefore::leave(after(left), head.extensions_mut());
                head
            });
            refused.retry_after_hint()
        };
        assert_eq!(when(Some(after(2)), 9), Some(after(9)));
        assert_eq!(when(Some(after(9)), 2), Some(after(9)));
        assert_eq!(when(None, 9), Some(after(9)));
    }

    #[test]
    fn fields_stay_bounded() {
        let mut refused = Rejection::new(&CODE);
        refused.change_head(|mut head| {
            for number in 0..100_u16 {
                head.headers_mut().append(header::ALLOW, number.into());
            }
            head
        });
        assert_eq!(refused.fields().len(), Rejection::MAX_FIELDS);
        assert!(refused.extensions().is_none());
    }
}
