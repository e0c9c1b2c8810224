//! A connection to Redis: one, shared by all who ask, made anew when it is lost.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::{ConnectionLike as _, MultiplexedConnection};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    Pipeline, RedisError, RedisResult, Value,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::settings::Target;
use super::tls::Connector;

/// Hands out the connection, and makes it where there is none.
#[derive(Debug)]
pub(super) struct Line {
    state: Arc<Mutex<State>>,
}

struct State {
    /// Where connections are made, and live: whoever asks first may be a thread that is blocked, or gone, when others ask.
    /// Without it, it is where they are asked for.
    home: Option<Handle>,
    info: ConnectionInfo,
    connector: Option<Connector>,
    /// Where the next connection goes instead: the keys are there. The one after that goes to the address known to be
    /// right, since this node may be gone then.
    moved: Option<ConnectionAddr>,
    /// Where the last one went, if not to that address.
    at: Option<ConnectionAddr>,
    connection: Option<Wire>,
    /// Counts connections, so that only the one that failed is given up.
    number: u64,
    /// Who makes a connection holds the other end, and puts in why it did not succeed.
    connecting: Option<watch::Receiver<Option<RedisError>>>,
}

/// A connection, and what keeps it alive.
#[derive(Clone)]
pub(super) struct Wire {
    connection: MultiplexedConnection,
    /// The other kind of connection sees to it by itself.
    _driver: Option<Arc<dyn Send + Sync>>,
}

impl Line {
    /// How long making a connection may take. It goes on when the question that began it has given up.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    /// How many questions may wait to be written.
    const QUEUE: usize = 1024;

    pub(super) fn new(target: Target) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                home: Handle::try_current().ok(),
                info: target.info,
                connector: target.connector,
                moved: None,
                at: None,
                connection: None,
                number: 0,
                connecting: None,
            })),
        }
    }

    /// From here on, connections are made in this runtime.
    pub(super) fn live_here(&self) {
        lock(&self.state).home = Handle::try_current().ok();
    }

    /// Where connections are made.
    pub(super) fn home(&self) -> Option<Handle> {
        lock(&self.state).home.clone()
    }

    /// Which connection there is, or was the last.
    pub(super) fn number(&self) -> u64 {
        lock(&self.state).number
    }

    /// Makes a new connection for the next question, unless that has happened since: one that does not answer may never
    /// do so again.
    pub(super) fn give_up(&self, number: u64) {
        let mut state = lock(&self.state);
        if state.number == number {
            state.connection = None;
        }
    }

    pub(super) async fn connection(&self) -> RedisResult<(u64, Wire)> {
        let mut connecting = {
            let mut state = lock(&self.state);
            if let Some(connection) = &state.connection {
                return Ok((state.number, connection.clone()));
            }
            match &state.connecting {
                // Without the other end, whoever was about it is gone with its runtime.
                Some(connecting) if connecting.has_changed().is_ok() => connecting.clone(),
                _ => self.connect_at_home(&mut state),
            }
        };
        // An error is the end of it: there is a connection then.
        if connecting.changed().await.is_ok()
            && let Some(error) = connecting.borrow().clone()
        {
            return Err(error);
        }
        let state = lock(&self.state);
        match &state.connection {
            Some(connection) => Ok((state.number, connection.clone())),
            None => Err(lost("connection lost")),
        }
    }

    fn connect_at_home(&self, state: &mut State) -> watch::Receiver<Option<RedisError>> {
        if let Some(home) = state.home.clone() {
            let connecting = self.connect(state, &home);
            // The task needs the lock to come to an end: it can only be gone because its runtime is.
            if connecting.has_changed().is_ok() {
                return connecting;
            }
            state.home = None;
        }
        self.connect(state, &Handle::current())
    }

    /// Makes a connection in a task of its own, as it takes longer than a question may wait.
    fn connect(&self, state: &mut State, runtime: &Handle) -> watch::Receiver<Option<RedisError>> {
        let (done, connecting) = watch::channel(None);
        state.connecting = Some(connecting.clone());
        let mut info = state.info.clone();
        state.at = state.moved.take();
        if let Some(node) = &state.at {
            info = info.set_addr(node.clone());
        }
        let connector = state.connector.clone();
        let state = Arc::downgrade(&self.state);
        runtime.spawn(async move {
            let connecting = Wire::connect(info, connector);
            let connection = tokio::time::timeout(Self::CONNECT_TIMEOUT, connecting).await;
            let connection = connection.unwrap_or_else(|_| Err(lost("no connection in time")));
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
    pub(super) fn follow(&self, moved: &RedisError, number: u64) {
        let mut state = lock(&self.state);
        // Unless somebody was faster.
        if state.number == number {
            state.connection = None;
            state.moved = state.node(moved);
        }
    }

    /// Goes to the node that is named, unless it is there; `false` if none is.
    pub(super) fn go_to(&self, named: &RedisError) -> bool {
        let mut state = lock(&self.state);
        let node = state.node(named);
        if node.is_some() && (state.connection.is_none() || state.at != node) {
            state.connection = None;
            state.moved.clone_from(&node);
        }
        node.is_some()
    }
}

impl State {
    /// The node that a redirection names.
    fn node(&self, redirection: &RedisError) -> Option<ConnectionAddr> {
        let (address, _) = redirection.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = match (host, self.info.addr()) {
            // A node that does not know its own name means the one that it was reached by.
            ("", ConnectionAddr::Tcp(host, _)) => host.clone(),
            (host, _) => host.to_owned(),
        };
        Some(ConnectionAddr::Tcp(host, port.parse().ok()?))
    }
}

impl Wire {
    /// Asks. With `asking`, a node to which the keys are on their way answers as if they were its own.
    pub(super) async fn call<T: FromRedisValue>(
        &mut self,
        call: Cmd,
        asking: bool,
    ) -> RedisResult<T> {
        if !asking {
            return call.query_async(&mut self.connection).await;
        }
        let mut calls = Pipeline::with_capacity(2);
        calls.cmd("ASKING").add_command(call);
        // Not as the answer of a pipeline: an error of one does not say where it redirects to.
        let mut answer = Value::Nil;
        for value in self.connection.req_packed_commands(&calls, 0, 2).await? {
            answer = value.extract_error()?;
        }
        Ok(T::from_redis_value(answer)?)
    }

    async fn connect(info: ConnectionInfo, connector: Option<Connector>) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            // Who waits for it has timeouts of its own.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(Line::QUEUE);
        if let (Some(connector), ConnectionAddr::Tcp(host, port)) = (connector, info.addr()) {
            let to = (host.as_str(), *port);
            let made = connector.connect(to, info.redis_settings(), config).await;
            let (connection, driver) = made?;
            return Ok(Self {
                connection,
                _driver: Some(Arc::new(driver)),
            });
        }
        let client = Client::open(info)?;
        let made = client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self {
            connection: made.await?,
            _driver: None,
        })
    }
}

fn lost(how: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, how))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
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
