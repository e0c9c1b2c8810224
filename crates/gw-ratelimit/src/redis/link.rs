//! What Redis is asked, and what it answers.

use std::fmt;

use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
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
    line: Line,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, or it was lost.
    Connection(RedisError),
    /// Redis answered that it cannot answer.
    Refused(RedisError),
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
            line: Line::new(target),
        }
    }

    /// Asks all policies about one request.
    ///
    /// # Cancel safety
    ///
    /// Redis may have decided, and charged, when it is dropped. It has not twice.
    pub(super) async fn ask(&self, questions: &[Question]) -> Result<Answers, Failure> {
        let numbers: Vec<i64> = self
            .call(|known| self.decide.ask(known, &self.names, questions))
            .await?;
        Answers::read(&numbers, questions).ok_or(Failure::Reply)
    }

    /// Whether there is a connection, once it was tried. From here on they are made in this runtime.
    pub(super) async fn is_connected(&self) -> bool {
        self.line.live_here();
        self.line.connection().await.is_ok()
    }

    /// Charges late and takes back: what became of each order.
    ///
    /// # Cancel safety
    ///
    /// As [`Link::ask`].
    pub(super) async fn settle(&self, orders: &[Order]) -> Result<Vec<Settled>, Failure> {
        let numbers: Vec<i64> = self
            .call(|known| self.settle.settling(known, &self.names, orders))
            .await?;
        Settled::read(&numbers, orders).ok_or(Failure::Reply)
    }

    /// Of how many of these the cells could be given back.
    pub(super) async fn give_back(&self, given: &[Return]) -> Result<usize, Failure> {
        let given: i64 = self
            .call(|known| self.give_back.returning(known, &self.names, given))
            .await?;
        usize::try_from(given).map_err(|_| Failure::Reply)
    }

    /// Frees a key of its debt; says whether it had any.
    pub(super) async fn reset(&self, policy: usize, digest: u128) -> Result<bool, Failure> {
        let mut name = String::new();
        self.names.write(policy, digest, &mut name);
        let mut call = ::redis::cmd("DEL");
        call.arg(&name);
        let deleted: i64 = self.call(|_| call.clone()).await?;
        Ok(deleted == 1)
    }

    /// Where connections are made.
    pub(super) fn home(&self) -> Option<Handle> {
        self.line.home()
    }

    /// Which connection there is, or was the last.
    pub(super) fn number(&self) -> u64 {
        self.line.number()
    }

    /// Makes a new connection for the next question, unless that has happened since.
    pub(super) fn give_up(&self, number: u64) {
        self.line.give_up(number);
    }

    async fn call<T: ::redis::FromRedisValue>(
        &self,
        command: impl Fn(bool) -> Cmd,
    ) -> Result<T, Failure> {
        let mut known = true;
        let mut redirects = 0;
        loop {
            let (number, mut wire) = self.line.connection().await.map_err(Failure::Connection)?;
            let call = command(known);
            let error = match call.query_async(&mut wire.connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.kind() {
                // It learns the script with the question.
                ErrorKind::Server(ServerErrorKind::NoScript) if known => known = false,
                ErrorKind::Server(ServerErrorKind::Moved) if redirects < Self::REDIRECTS => {
                    redirects += 1;
                    self.line.follow(&error, number);
                }
                kind => {
                    let lost = error.is_unrecoverable_error();
                    // A server that became a replica: by its name, another one may be found.
                    let read_only = kind == ErrorKind::Server(ServerErrorKind::ReadOnly);
                    if lost || read_only {
                        self.line.give_up(number);
                    }
                    return Err(if lost {
                        Failure::Connection(error)
                    } else {
                        Failure::Refused(error)
                    });
                }
            }
        }
    }
}

impl Failure {
    /// For a label.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::Refused(_) => "refused",
            Self::Reply => "reply",
            Self::Timeout => "timeout",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) | Self::Refused(error) => error.fmt(f),
            Self::Reply => f.write_str("the answer makes no sense"),
            Self::Timeout => f.write_str("no answer in time"),
        }
    }
}
