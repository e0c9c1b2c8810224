//! Answers that make no sense.

use gw_ratelimit::redis::RedisStore;
use gw_testkit::{PATIENCE, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::failures::{allowed, build};
use crate::server::{SECRET, Server};

/// Story: answers that were behind by one were given to the wrong questions for as long as the connection lived.
#[tokio::test]
async fn a_connection_with_answers_that_make_no_sense_is_given_up() {
    for answer in ["+well\r\n", "*1\r\n:1\r\n"] {
        let server = Server::start();
        let url = first_answering(answer, 1, &server).await;
        let store = RedisStore::new(url, "test", SECRET).timeout(PATIENCE);
        let limiter = build(&store, 5);
        assert_eq!(allowed(&limiter, 1).await, 1);
        let first = limiter.store();
        assert_eq!((first.failed, first.by_rule), (1, 1), "{answer}");
        assert_eq!(allowed(&limiter, 1).await, 1);
        let second = limiter.store();
        assert_eq!((second.failed, second.by_store), (1, 1), "{answer}");
    }
}

/// Story: such a connection lived on for as long as somebody waited on it, and answered who did with what was another one's.
#[tokio::test]
async fn who_waits_behind_an_answer_that_makes_no_sense_gets_none() {
    // With the second one, an answer that does comes with it, or none.
    const ALLOWED: &str = "*7\r\n:1\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n";
    for (odd, behind) in [
        ("+well\r\n", ""),
        ("+well\r\n", ALLOWED),
        ("*1\r\n:1\r\n", ALLOWED),
    ] {
        let answers = format!("{odd}{behind}");
        let server = Server::start();
        let url = first_answering(&answers, 2, &server).await;
        let store = RedisStore::new(url, "test", SECRET).timeout(2 * PATIENCE);
        let limiter = build(&store, 5);
        assert!(limiter.connect().await);
        let asking = [(); 2].map(|()| {
            let limiter = limiter.clone();
            tokio::spawn(async move { allowed(&limiter, 1).await })
        });
        for asked in asking {
            within("a decision", asked).await.unwrap();
        }
        let both = limiter.store();
        assert_eq!((both.failed, both.by_store), (2, 0), "{answers}");
        assert_eq!(allowed(&limiter, 1).await, 1);
        assert_eq!(limiter.store().by_store, 1, "{answers}");
    }
}

/// Story: the client read on, and kept what it read, until the process ended. While nobody asked, nothing ended that.
#[tokio::test]
async fn an_answer_without_an_end_ends_the_connection_though_nobody_asks() {
    for (begun, more) in [
        ("$9999999999\r\n", "aaa"),
        ("+", "aaa"),
        ("*1000000000\r\n", "_\r\n"),
        // Names of channels, that were kept as well.
        ("", ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"),
    ] {
        for is_greeted in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("redis://{}", listener.local_addr().unwrap());
            let sending = tokio::spawn(async move {
                let (mut client, _) = listener.accept().await.unwrap();
                let _ = client.read(&mut [0; 4096]).await.unwrap();
                // As what it says of itself is answered.
                if is_greeted {
                    client.write_all(b"+OK\r\n+OK\r\n").await.unwrap();
                }
                sent_without_end(&mut client, begun, more).await
            });
            let limiter = build(&RedisStore::new(url, "test", SECRET).timeout(PATIENCE), 5);
            let connected = limiter.connect().await;
            assert!(is_greeted || !connected, "{begun}{more}");
            let sent = within("the end of the connection", sending).await.unwrap();
            assert!(sent < ENOUGH, "{begun}{more} was read");
        }
    }
}

/// More than fits into the buffers between two ends of a connection, and a test's memory has room for.
const ENOUGH: usize = 64 * 1024 * 1024;

/// How much was sent before the other side ended it, or enough.
async fn sent_without_end(client: &mut TcpStream, begun: &str, more: &str) -> usize {
    let more = more.repeat(10_000);
    let (mut next, mut sent) = (begun, 0);
    while sent < ENOUGH && client.write_all(next.as_bytes()).await.is_ok() {
        sent += next.len();
        next = &more;
    }
    sent
}

/// A way to the server. On its first connection this is answered once so many questions were asked, and behind it each question
/// has the answer to one before.
pub(crate) async fn first_answering(answer: &str, questions: usize, server: &Server) -> String {
    let port = server.port();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let mut answer = Some(answer.as_bytes().to_vec());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(relay(client, server, answer.take(), questions));
        }
    });
    url
}

async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    mut first: Option<Vec<u8>>,
    questions: usize,
) {
    let (mut asked, mut answered) = ([0; 4096], [0; 4096]);
    let mut scripts = 0;
    // What waits for the next question, from the first one on.
    let mut behind = None;
    loop {
        tokio::select! {
            Ok(read @ 1..) = client.read(&mut asked) => {
                let question = &asked[..read];
                scripts += question.windows(4).filter(|word| word == b"EVAL").count();
                if scripts > 0 && let Some(answer) = first.take() {
                    behind = Some(answer);
                }
                if scripts >= questions && let Some(answer) = &mut behind {
                    client.write_all(&std::mem::take(answer)).await.unwrap();
                }
                server.write_all(question).await.unwrap();
            }
            Ok(read @ 1..) = server.read(&mut answered) => match &mut behind {
                Some(answer) => answer.extend_from_slice(&answered[..read]),
                None => client.write_all(&answered[..read]).await.unwrap(),
            },
            else => return,
        }
    }
}
