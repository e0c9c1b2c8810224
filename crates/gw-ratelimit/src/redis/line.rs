//! A connection to Redis: one, shared by all who ask, made anew when it is lost.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::{ConnectionAddr, ErrorKind, RedisError, RedisResult};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::settings::Target;
use super::wire::{Made, Wire};

/// Hands out the connection, and makes it where there is none.
#[derive(Debug)]
pub(super) struct Line {
    state: Arc<Mutex<State>>,
}

struct State {
    /// Where connections are made, and live: whoever asks first may be a thread that is blocked, or gone, when others ask.
    /// Without it, it is where they are asked for.
    home: Option<Handle>,
    target: Target,
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

impl Line {
    /// How long making a connection may take. It goes on when the question that began it has given up.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

    pub(super) fn new(target: Target) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                home: Handle::try_current().ok(),
                target,
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
        lock(&self.state).give_up(number);
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
            state.moved = state.at.take();
        }
        self.connect(state, &Handle::current())
    }

    /// Makes a connection in a task of its own, as it takes longer than a question may wait.
    fn connect(&self, state: &mut State, runtime: &Handle) -> watch::Receiver<Option<RedisError>> {
        let (done, connecting) = watch::channel(None);
        state.connecting = Some(connecting.clone());
        let mut target = state.target.clone();
        state.at = state.moved.take();
        let at = state.at.clone();
        if let Some(node) = &at {
            target.info = target.info.set_addr(node.clone());
        }
        let line = Arc::downgrade(&self.state);
        runtime.spawn(async move {
            let connecting = Made::to(&target);
            let made = tokio::time::timeout(Self::CONNECT_TIMEOUT, connecting).await;
            let made = made.unwrap_or_else(|_| Err(lost("no connection in time")));
            let Some(state) = line.upgrade() else { return };
            let mut state = lock(&state);
            // By now, another node may have been named.
            let is_right = state.moved.is_none() && state.at == at;
            if is_right {
                state.connecting = None;
            }
            match made {
                Ok(made) if is_right => {
                    state.number += 1;
                    let number = state.number;
                    // Redis ends those that are idle. The next question is not to find that out.
                    state.connection = Some(made.drive(move || {
                        if let Some(state) = line.upgrade() {
                            lock(&state).give_up(number);
                        }
                    }));
                }
                Ok(_) => {}
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
            let node = state.node(moved);
            state.turn_to(node);
        }
    }

    /// Goes to the node that is named, unless it is there; `false` if none is.
    pub(super) fn go_to(&self, named: &RedisError) -> bool {
        let mut state = lock(&self.state);
        let node = state.node(named);
        let is_named = node.is_some();
        if is_named && (state.connection.is_none() || state.at != node) {
            state.turn_to(node);
        }
        is_named
    }
}

impl State {
    /// See [`Line::give_up`].
    fn give_up(&mut self, number: u64) {
        if self.number == number {
            self.connection = None;
        }
    }

    /// The next connection goes there, or to the address known to be right. One that is being made is that one if it goes
    /// there, and else nobody's.
    fn turn_to(&mut self, node: Option<ConnectionAddr>) {
        self.connection = None;
        let connecting = self.connecting.as_ref();
        let is_under_way = connecting.is_some_and(|one| one.has_changed().is_ok());
        if !is_under_way || self.at != node {
            self.connecting = None;
            self.moved = node;
        }
    }

    /// The node that a redirection names.
    fn node(&self, redirection: &RedisError) -> Option<ConnectionAddr> {
        let (address, _) = redirection.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = match (host, self.target.info.addr()) {
            // A node that does not know its own name means the one that it was reached by.
            ("", ConnectionAddr::Tcp(host, _)) => host.clone(),
            (host, _) => host.to_owned(),
        };
        Some(ConnectionAddr::Tcp(host, port.parse().ok()?))
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

#[cfg(test)]
mod tests {
    use gw_testkit::{redis::Server, within};
    use tokio::net::TcpListener;
    use tokio::runtime::Builder;

    use super::*;

    fn line(port: u16) -> Line {
        Line::new(Target {
            info: format!("redis://127.0.0.1:{port}").parse().unwrap(),
            connector: None,
        })
    }

    /// What a node of a cluster says of a key that it has not.
    fn redirection(kind: &str, port: u16) -> RedisError {
        let answer = format!("-{kind} 1 127.0.0.1:{port}\r\n");
        let answer = ::redis::parse_redis_value(answer.as_bytes()).unwrap();
        answer.extract_error().unwrap_err()
    }

    fn node(port: u16) -> Option<ConnectionAddr> {
        Some(ConnectionAddr::Tcp("127.0.0.1".to_owned(), port))
    }

    /// Story: whoever found the home gone connected to the address that it had just been led away from.
    #[tokio::test]
    async fn where_the_keys_are_is_known_when_home_is_gone() {
        let line = line(1);
        let home = Builder::new_current_thread().build().unwrap();
        lock(&line.state).home = Some(home.handle().clone());
        home.shutdown_background();
        assert!(line.go_to(&redirection("ASK", 2)));
        let mut state = lock(&line.state);
        let connecting = line.connect_at_home(&mut state);
        assert!(connecting.has_changed().is_ok());
        assert_eq!((&state.at, &state.moved), (&node(2), &None));
    }

    /// Story: whoever was led to a node took the connection that was being made, wherever that went.
    #[tokio::test]
    async fn a_connection_that_is_made_to_another_node_is_not_taken() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, line) = (Server::start(), line(1));
        assert!(line.go_to(&redirection("ASK", silent.local_addr().unwrap().port())));
        let line = Arc::new(line);
        let first = tokio::spawn({
            let line = Arc::clone(&line);
            async move { line.connection().await.is_ok() }
        });
        let accepted = within("a connection", silent.accept()).await.unwrap();
        assert!(line.go_to(&redirection("ASK", server.port())));
        let made = within("a connection", line.connection()).await;
        assert_eq!(made.unwrap().0, 1);
        // What becomes of the other one changes nothing.
        drop(accepted);
        within("the end of the other one", first).await.unwrap();
        assert_eq!(within("it", line.connection()).await.unwrap().0, 1);
        assert_eq!(lock(&line.state).at, node(server.port()));
    }

    /// Story: the second request that was led to a node while the connection was made had the connection after that go there
    /// too, though that node may be gone then.
    #[tokio::test]
    async fn where_a_connection_goes_already_is_not_where_the_next_one_goes() {
        let (first, other) = (Server::start(), Server::start());
        let line = line(first.port());
        let (number, _) = within("a connection", line.connection()).await.unwrap();
        let moved = redirection("MOVED", other.port());
        line.follow(&moved, number);
        line.connect_at_home(&mut lock(&line.state));
        line.follow(&moved, number);
        assert!(line.go_to(&moved));
        let (number, _) = within("a connection", line.connection()).await.unwrap();
        assert_eq!(lock(&line.state).at, node(other.port()));
        line.give_up(number);
        within("a connection", line.connection()).await.unwrap();
        assert_eq!(lock(&line.state).at, None);
    }
}
