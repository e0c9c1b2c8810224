//! Scripts: which reply a request gets.

use super::received::Received;
use super::reply::Reply;

/// What a script is behind its pointer.
pub(super) type Script = dyn Fn(&Received) -> Reply + Send + Sync;

/// The same reply for every request.
pub fn always(reply: Reply) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |_| reply.clone()
}

/// One reply per path (exact, without the query), and one for all other paths.
pub fn by_path<P: Into<String>>(
    rules: impl IntoIterator<Item = (P, Reply)>,
    otherwise: Reply,
) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let rules: Vec<(String, Reply)> = rules
        .into_iter()
        .map(|(path, reply)| (path.into(), reply))
        .collect();
    move |request| {
        let rule = rules.iter().find(|(path, _)| path == request.path());
        rule.map_or(&otherwise, |(_, reply)| reply).clone()
    }
}

/// The first reply for the first request, and so on; the last one for all that follow.
///
/// # Panics
///
/// If there is no reply.
#[track_caller]
pub fn in_order(
    replies: impl IntoIterator<Item = Reply>,
) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let replies: Vec<Reply> = replies.into_iter().collect();
    assert!(!replies.is_empty(), "in_order needs at least one reply");
    move |request| replies[request.index.min(replies.len() - 1)].clone()
}
