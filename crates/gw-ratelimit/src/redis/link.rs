//! What Redis is asked, and what it answers.

use std::fmt;

use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use gw_core::one_line::OneLine;
use tokio::runtime::Handle;

use super::key::Names;
use super::line::Line;
use super::script::{Answers, Order, Question, Return, Script, Settled};
use super::settings::Target;

/// Asks Redis. Questions go out on one connection, one behind the other, without waiting for each other's answers.
///
/// A question is sent once. It is sent again only where Redis says that it has not been answered: when the script is not
/// known there, or when the keys are another node's.
#[derive(Debug)]
pub(super) struct Link {
    names: Names,
    decide: Script,
    settle: Script,
    give_back: Script,
    /// To the node that has the keys.
    line: Line,
    /// To one to which they are on their way.
    aside: Line,
}

/// Which connections there were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    line: u64,
    aside: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, or it was lost.
    Connection(RedisError),
    /// Redis answered that it cannot answer.
    Refused(RedisError),
    /// The keys of one question are on their way to another node, and not all of them exist in one place. Nothing was done, and
    /// questions whose keys do, or that have only one, are answered.
    Moving(RedisError),
    /// What it answered makes no sense.
    Reply,
    /// It did not in time.
    Timeout,
}

impl Link {
    /// How often a question follows its keys to another node.
    const REDIRECTS: usize = 2;

    pub(super) fn new(target: Target, names: Names) -> Self {
        Self {
            names,
            decide: Script::decide(),
            settle: Script::settle(),
            give_back: Script::give_back(),
            line: Line::new(target.clone()),
            aside: Line::new(target),
        }
    }

    /// Asks all policies about one request.
    ///
    /// # Cancel safety
    ///
    /// Redis may have decided, and charged, when it is dropped. It has not twice.
    pub(super) async fn ask(&self, questions: &[Question]) -> Result<Answers, Failure> {
        self.call(
            |known| self.decide.ask(known, &self.names, questions),
            |numbers: Vec<i64>| Answers::read(&numbers, questions),
        )
        .await
    }

    /// Whether there is a connection, once it was tried. From here on they are made in this runtime.
    pub(super) async fn is_connected(&self) -> bool {
        self.line.live_here();
        self.aside.live_here();
        self.line.connection().await.is_ok()
    }

    /// Charges late and takes back: what became of each order. `None` if nothing did, as they have to be told one by one.
    ///
    /// # Cancel safety
    ///
    /// As [`Link::ask`].
    pub(super) async fn settle(&self, orders: &[Order]) -> Result<Option<Vec<Settled>>, Failure> {
        let settled = self.call(
            |known| self.settle.settling(known, &self.names, orders),
            |numbers: Vec<i64>| Settled::read(&numbers, orders),
        );
        together(settled.await, orders.len())
    }

    /// Of how many of these the cells could be given back. `None` as for [`Link::settle`].
    pub(super) async fn give_back(&self, given: &[Return]) -> Result<Option<usize>, Failure> {
        let count = self.call(
            |known| self.give_back.returning(known, &self.names, given),
            |count: i64| usize::try_from(count).ok(),
        );
        together(count.await, given.len())
    }

    /// Frees a key of its debt; says whether it had any.
    pub(super) async fn reset(&self, policy: usize, digest: u128) -> Result<bool, Failure> {
        let mut name = String::new();
        self.names.write(policy, digest, &mut name);
        let mut call = ::redis::cmd("DEL");
        call.arg(&name);
        self.call(|_| call.clone(), |deleted: i64| Some(deleted == 1))
            .await
    }

    /// Where connections are made.
    pub(super) fn home(&self) -> Option<Handle> {
        self.line.home()
    }

    /// Which connections there are, or were the last.
    pub(super) fn numbers(&self) -> Numbers {
        Numbers {
            line: self.line.number(),
            aside: self.aside.number(),
        }
    }

    /// Makes new connections for the next question, unless that has happened since.
    pub(super) fn give_up(&self, numbers: Numbers) {
        self.line.give_up(numbers.line);
        self.aside.give_up(numbers.aside);
    }

    /// Asks until there is an answer, and reads it. Behind one that makes no sense, others may have lost their places, so that
    /// each is the one to another question: nobody gets those that are still to be read.
    async fn call<T: FromRedisValue, U>(
        &self,
        command: impl Fn(bool) -> Cmd,
        read: impl Fn(T) -> Option<U>,
    ) -> Result<U, Failure> {
        let (mut known, mut asking) = (true, false);
        let mut redirects = 0;
        loop {
            let line = if asking { &self.aside } else { &self.line };
            let connected = line.connection().await;
            let (number, mut wire) = connected.map_err(Failure::Connection)?;
            let error = match wire.call(command(known), asking).await.map(&read) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => RedisError::from((ErrorKind::Parse, "not an answer to this")),
                Err(error) => error,
            };
            let ErrorKind::Server(kind) = error.kind() else {
                if !error.is_unrecoverable_error() {
                    return Err(Failure::Refused(error));
                }
                line.give_up(number);
                if error.kind() == ErrorKind::Parse {
                    wire.close();
                    return Err(Failure::Reply);
                }
                return Err(Failure::Connection(error));
            };
            match kind {
                // It learns the script with the question.
                ServerErrorKind::NoScript if known => known = false,
                ServerErrorKind::Moved if redirects < Self::REDIRECTS => {
                    redirects += 1;
                    // From where the keys were on their way to: by now, who had them knows better.
                    if !asking {
                        line.follow(&error, number);
                    }
                    asking = false;
                }
                ServerErrorKind::Ask if redirects < Self::REDIRECTS && self.aside.go_to(&error) => {
                    redirects += 1;
                    asking = true;
                }
                ServerErrorKind::TryAgain => return Err(Failure::Moving(error)),
                kind => {
                    // A server that became a replica: by its name, another one may be found.
                    if kind == ServerErrorKind::ReadOnly {
                        line.give_up(number);
                    }
                    return Err(Failure::Refused(error));
                }
            }
        }
    }
}

/// The answer to several orders at once. `None` if it is to be had one by one only: each has one key, and a node for that one.
fn together<T>(answer: Result<T, Failure>, orders: usize) -> Result<Option<T>, Failure> {
    match answer {
        Err(Failure::Moving(_)) if orders > 1 => Ok(None),
        answer => answer.map(Some),
    }
}

impl Failure {
    /// The most bytes of what Redis says about it that people are told.
    const LONGEST: usize = 512;

    /// For a label.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::Refused(_) | Self::Moving(_) => "refused",
            Self::Reply => "reply",
            Self::Timeout => "timeout",
        }
    }
}

/// For logs. The texts are Redis' own.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) | Self::Refused(error) | Self::Moving(error) => {
                OneLine::new(error, Self::LONGEST).fmt(f)
            }
            Self::Reply => f.write_str("the answer makes no sense"),
            Self::Timeout => f.write_str("no answer in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: what Redis said could begin a line of its own in the log, which looked like an event of the gateway, and was as long
    /// as Redis liked.
    #[test]
    fn what_redis_says_is_one_line() {
        let refused = |said: &str| {
            let answer = format!("-ERR {said}\r\n");
            let answer = ::redis::parse_redis_value(answer.as_bytes()).unwrap();
            Failure::Refused(answer.extract_error().unwrap_err()).to_string()
        };
        let line = refused("x\n2026-01-01 ERROR gw: all is lost\r\u{1b}[31m");
        assert!(
            line.ends_with("x 2026-01-01 ERROR gw: all is lost  [31m"),
            "{line}"
        );
        assert_eq!(refused(&"x".repeat(10_000)).len(), Failure::LONGEST);
    }
}
