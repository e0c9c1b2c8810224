use gw_testkit::within;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};

use super::*;

type Reply = io::Result<Vec<SocketAddr>>;

/// A lookup that the test answers. Dropped, it panics.
type Asked = (Name, oneshot::Sender<Reply>);

/// Tells the test of each lookup.
#[derive(Debug, Clone)]
struct Script(mpsc::UnboundedSender<Asked>);

impl Service<Name> for Script {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (sender, reply) = oneshot::channel();
        self.0.send((name, sender)).unwrap();
        Box::pin(async move { reply.await.expect("an answer").map(Vec::into_iter) })
    }
}

fn scripted() -> (Resolver<Script>, mpsc::UnboundedReceiver<Asked>) {
    let (sender, asked) = mpsc::unbounded_channel();
    (Resolver::new(Script(sender)), asked)
}

type Waiting = JoinHandle<Result<vec::IntoIter<SocketAddr>, LookupError>>;

/// Somebody who waits for a name already.
async fn wait(resolver: &Resolver<Script>, name: &str) -> Waiting {
    let waiting = tokio::spawn(resolver.clone().call(name.parse().unwrap()));
    yield_now().await;
    yield_now().await;
    waiting
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 0))
}

async fn known(waiting: Waiting) -> Result<Vec<SocketAddr>, LookupError> {
    let known = within("the end of a lookup", waiting).await;
    known.unwrap().map(Iterator::collect)
}

async fn addresses(waiting: Waiting) -> Vec<SocketAddr> {
    known(waiting).await.unwrap()
}

/// Story: connections that were made at once looked the same name up each for itself. Of a name that was answered slowly there were as
/// many lookups as the process has threads for, and other upstreams' names were not looked up at all.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_name_waits_for_the_same_lookup() {
    let (resolver, mut asked) = scripted();
    let mut waiting = Vec::new();
    for _ in 0..256 {
        waiting.push(wait(&resolver, "orders").await);
    }
    let other = wait(&resolver, "stock").await;
    let (orders, reply) = asked.try_recv().unwrap();
    let (stock, other_reply) = asked.try_recv().unwrap();
    assert_eq!((orders.as_str(), stock.as_str()), ("orders", "stock"));
    assert!(asked.try_recv().is_err());
    reply.send(Ok(vec![address(1), address(2)])).unwrap();
    for waiting in waiting {
        assert_eq!(addresses(waiting).await, [address(1), address(2)]);
    }
    other_reply.send(Ok(vec![address(3)])).unwrap();
    assert_eq!(addresses(other).await, [address(3)]);
    // Nothing is kept: addresses change.
    let later = wait(&resolver, "orders").await;
    asked
        .try_recv()
        .unwrap()
        .1
        .send(Ok(vec![address(4)]))
        .unwrap();
    assert_eq!(addresses(later).await, [address(4)]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_known_is_not_known_to_all_who_wait() {
    let (resolver, mut asked) = scripted();
    let waiting = [wait(&resolver, "a").await, wait(&resolver, "a").await];
    let (_, reply) = asked.try_recv().unwrap();
    reply.send(Err(io::Error::from_raw_os_error(24))).unwrap();
    for waiting in waiting {
        let error = known(waiting).await.unwrap_err();
        let cause = error.source().unwrap().downcast_ref::<io::Error>();
        assert_eq!(cause.unwrap().raw_os_error(), Some(24));
    }
    assert!(asked.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_the_lookup_of_nobody_along() {
    let (resolver, mut asked) = scripted();
    let first = wait(&resolver, "a").await;
    let second = wait(&resolver, "a").await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let third = wait(&resolver, "a").await;
    let (_, reply) = asked.try_recv().unwrap();
    reply.send(Ok(vec![address(1)])).unwrap();
    assert_eq!(addresses(second).await, [address(1)]);
    assert_eq!(addresses(third).await, [address(1)]);
    assert!(asked.try_recv().is_err());
}

/// It may have lost a packet. But each of them has a thread until it ends.
#[tokio::test(start_paused = true)]
async fn a_slow_lookup_is_joined_by_a_few_others() {
    let (resolver, mut asked) = scripted();
    let mut waiting = Vec::new();
    let mut replies = Vec::new();
    for _ in 0..10 {
        waiting.push(wait(&resolver, "a").await);
        tokio::time::advance(SLOW - Duration::from_millis(1)).await;
        waiting.push(wait(&resolver, "a").await);
        tokio::time::advance(Duration::from_millis(1)).await;
        replies.extend(asked.try_recv().ok());
        assert!(asked.try_recv().is_err());
    }
    assert_eq!(replies.len(), MOST);
    let (_, last) = replies.pop().unwrap();
    last.send(Ok(vec![address(1)])).unwrap();
    assert_eq!(addresses(waiting.pop().unwrap()).await, [address(1)]);
    // One has ended: there is room for another.
    drop(wait(&resolver, "a").await);
    assert!(asked.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_panics_holds_up_nobody() {
    let (resolver, mut asked) = scripted();
    let waiting = [wait(&resolver, "a").await, wait(&resolver, "a").await];
    drop(asked.try_recv().unwrap());
    let [first, second] = waiting;
    // Who began it is told, and who waited for it asks again.
    assert!(known(first).await.is_err());
    let again = within("another lookup", asked.recv()).await;
    again.unwrap().1.send(Ok(vec![address(1)])).unwrap();
    assert_eq!(addresses(second).await, [address(1)]);
}

/// Story: a lookup lost a packet. Who came a second later began another one, which was answered at once, and all who had waited from
/// the beginning were told after three seconds that there was no connection in time.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_slow_lookup_is_helped_by_the_next_one() {
    for answered in [0, 1] {
        let (resolver, mut asked) = scripted();
        let waiting = [wait(&resolver, "a").await, wait(&resolver, "a").await];
        let first = asked.try_recv().unwrap();
        tokio::time::advance(SLOW).await;
        let second = within("another lookup", asked.recv()).await.unwrap();
        assert!(asked.try_recv().is_err());
        let mut replies = [Some(first), Some(second)];
        let (_, reply) = replies[answered].take().unwrap();
        reply.send(Ok(vec![address(1)])).unwrap();
        for waiting in waiting {
            assert_eq!(addresses(waiting).await, [address(1)], "{answered}");
        }
    }
}

/// Story: requests of one lane waited for a lookup that another lane's thread was to go on with, which a handler blocked.
#[test]
fn a_runtime_waits_for_no_other_ones_lookup() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let (resolver, mut asked) = scripted();
    let (blocked, other) = (runtime(), runtime());
    drop(blocked.block_on(wait(&resolver, "a")));
    let (_, _unanswered) = asked.try_recv().unwrap();
    let known = other.block_on(async {
        let waiting = wait(&resolver, "a").await;
        let (_, reply) = asked.try_recv().unwrap();
        reply.send(Ok(vec![address(1)])).unwrap();
        addresses(waiting).await
    });
    assert_eq!(known, [address(1)]);
}
