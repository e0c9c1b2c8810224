//! The connection to Redis: one, shared by all who ask, made anew when it is lost.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError,
    ServerErrorKind,
};
use tokio::sync::watch;

use super::key::Names;
use super::script::{Answers, Question, Return, Script};

/// Asks Redis. Questions go out on one connection, one behind the other, without waiting for each other's answers.
///
/// A question is sent once. It is sent again only where Redis says that it has not been answered: when the script is not
/// known there, or when the keys are another node's.
#[derive(Debug)]
pub(super) struct Link {
    names: Names,
    decide: Script,
    give_back: Script,
    state: Arc<Mutex<State>>,
}

struct State {
    info: ConnectionInfo,
    /// Where the next connection goes instead: the keys are there. The one after that goes to the address known to be
    /// right, since this node may be gone then.
    moved: Option<ConnectionAddr>,
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that only the one that failed is given up.
    number: u64,
    /// Who makes a connection holds the other end, and puts in why it did not succeed.
    connecting: Option<watch::Receiver<Option<RedisError>>>,
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
    /// How long making a connection may take. It goes on when the question that began it has given up.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    /// How often a question follows its keys to another node.
    const REDIRECTS: usize = 2;
    /// How many questions may wait to be written.
    const QUEUE: usize = 1024;

    pub(super) fn new(info: ConnectionInfo, names: Names) -> Self {
        Self {
            names,
            decide: Script::decide(),
            give_back: Script::give_back(),
            state: Arc::new(Mutex::new(State {
                info,
                moved: None,
                connection: None,
                number: 0,
                connecting: None,
            })),
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

    /// Whether there is a connection, once it was tried.
    pub(super) async fn is_connected(&self) -> bool {
        self.connection().await.is_ok()
    }

    /// Whether the cells could be given back.
    pub(super) async fn give_back(&self, given: &Return) -> Result<bool, Failure> {
        let given: i64 = self
            .call(|known| self.give_back.returning(known, &self.names, given))
            .await?;
        Ok(given == 1)
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

    /// Makes a new connection for the next question: one that does not answer may never do so again.
    pub(super) fn renew(&self) {
        lock(&self.state).connection = None;
    }

    async fn call<T: ::redis::FromRedisValue>(
        &self,
        command: impl Fn(bool) -> Cmd,
    ) -> Result<T, Failure> {
        let mut known = true;
        let mut redirects = 0;
        loop {
            let (number, mut connection) = self.connection().await?;
            let error = match command(known).query_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.kind() {
                // It learns the script with the question.
                ErrorKind::Server(ServerErrorKind::NoScript) if known => known = false,
                ErrorKind::Server(ServerErrorKind::Moved) if redirects < Self::REDIRECTS => {
                    redirects += 1;
                    self.follow(&error, number);
                }
                kind => {
                    let lost = error.is_unrecoverable_error();
                    // A server that became a replica: by its name, another one may be found.
                    let read_only = kind == ErrorKind::Server(ServerErrorKind::ReadOnly);
                    if lost || read_only {
                        self.give_up(number);
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

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), Failure> {
        let mut connecting = {
            let mut state = lock(&self.state);
            if let Some(connection) = &state.connection {
                return Ok((state.number, connection.clone()));
            }
            match &state.connecting {
                // Without the other end, whoever was about it is gone with its runtime.
                Some(connecting) if connecting.has_changed().is_ok() => connecting.clone(),
                _ => self.connect(&mut state),
            }
        };
        // An error is the end of it: there is a connection then.
        if connecting.changed().await.is_ok()
            && let Some(error) = connecting.borrow().clone()
        {
            return Err(Failure::Connection(error));
        }
        let state = lock(&self.state);
        match &state.connection {
            Some(connection) => Ok((state.number, connection.clone())),
            None => Err(Failure::Connection(RedisError::from((
                ErrorKind::Io,
                "connection lost",
            )))),
        }
    }

    /// Makes a connection in a task of its own, as it takes longer than a question may wait.
    fn connect(&self, state: &mut State) -> watch::Receiver<Option<RedisError>> {
        let (done, connecting) = watch::channel(None);
        state.connecting = Some(connecting.clone());
        let mut info = state.info.clone();
        if let Some(moved) = state.moved.take() {
            info = info.set_addr(moved);
        }
        let state = Arc::downgrade(&self.state);
        tokio::spawn(async move {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(Self::CONNECT_TIMEOUT))
                // Who asks has a timeout of its own.
                .set_response_timeout(None)
                .set_pipeline_buffer_size(Self::QUEUE);
            let connection = match Client::open(info) {
                Ok(client) => {
                    client
                        .get_multiplexed_async_connection_with_config(&config)
                        .await
                }
                Err(error) => Err(error),
            };
            let Some(state) = state.upgrade() else { return };
            let mut state = lock(&state);
            state.connecting = None;
            match connection {
                Ok(connection) => {
                    state.connection = Some(connection);
                    state.number += 1;
                }
                Err(error) => _ = done.send(Some(error)),
            }
        });
        connecting
    }

    /// Goes where the keys are.
    fn follow(&self, moved: &RedisError, number: u64) {
        let mut state = lock(&self.state);
        if state.number != number {
            // Somebody was faster.
            return;
        }
        state.connection = None;
        let Some((host, port)) = moved
            .redirect_node()
            .and_then(|(address, _)| address.rsplit_once(':'))
        else {
            return;
        };
        let Ok(port) = port.parse() else { return };
        let host = match (host, state.info.addr()) {
            // A node that does not know its own name means the one that it was reached by.
            ("", ConnectionAddr::Tcp(host, _)) => host.clone(),
            (host, _) => host.to_owned(),
        };
        state.moved = Some(ConnectionAddr::Tcp(host, port));
    }

    fn give_up(&self, number: u64) {
        let mut state = lock(&self.state);
        if state.number == number {
            state.connection = None;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
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

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a password.
        f.debug_struct("State")
            .field("connected", &self.connection.is_some())
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
