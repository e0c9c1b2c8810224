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
