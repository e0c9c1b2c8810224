//! Listeners, and what serves their connections.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use gw_pipeline::server::{Drained, Server, ServerHandle};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::own_thread::OwnThread;
use crate::assembly::Gateway;

/// What the listeners of `[server]` are called, in metrics and on the admin listener.
const SERVER: &str = "server";

/// Listeners with one set of connection limits, one service, and threads of their own.
#[derive(Debug)]
pub(super) struct Front<S> {
    server: Server,
    service: S,
    listeners: Vec<TcpListener>,
}

impl<S: Gateway> Front<S> {
    /// Connections will be served by `server`, which shares nothing with others.
    pub(super) const fn new(server: Server, service: S, listeners: Vec<TcpListener>) -> Self {
        Self {
            server,
            service,
            listeners,
        }
    }

    /// Keeps its threads running.
    pub(super) fn server(&self) -> Server {
        self.server.clone()
    }

    /// Accepts on the current runtime until `closed`, and then waits until the connections have ended or the grace is
    /// over.
    pub(super) async fn serve(self, closed: impl Future<Output = ()>) -> io::Result<Drained> {
        let (close, closing) = watch::channel(());
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let (server, service) = (self.server.clone(), self.service.clone());
            let mut closing = closing.clone();
            serving.spawn(async move {
                // An error means that the sender is gone, which is the sign.
                let closed = async move { drop(closing.changed().await) };
                server.serve(listener, service, closed).await
            });
        }
        drop(self.service);
        closed.await;
        drop(close);
        let mut all = Drained::default();
        while let Some(drained) = serving.join_next().await {
            add(&mut all, drained.map_err(io::Error::other)?);
        }
        Ok(all)
    }

    /// As [`serve`](Self::serve), on a thread of its own.
    pub(super) fn serve_apart(self, name: &str) -> io::Result<Apart> {
        let (report, drained) = oneshot::channel();
        let thread = OwnThread::start(name, |stopped| {
            Ok(async move {
                let served = self.serve(async { drop(stopped.await) }).await;
                // Nobody asks any more if the gateway has given up.
                _ = report.send(served);
            })
        })?;
        Ok(Apart { thread, drained })
    }
}

/// A front on a thread of its own.
#[derive(Debug)]
pub(super) struct Apart {
    thread: OwnThread,
    drained: oneshot::Receiver<io::Result<Drained>>,
}

impl Apart {
    /// Closes its listeners.
    pub(super) fn close(&mut self) {
        self.thread.stop();
    }

    /// What was left at its end, for which it waits.
    pub(super) async fn drained(self) -> io::Result<Drained> {
        let drained = self.drained.await;
        // It has ended, or is about to: this waits for no request.
        drop(self.thread);
        drained.map_err(io::Error::other)?
    }
}

/// Counts one into the other.
pub(super) fn add(all: &mut Drained, drained: Drained) {
    all.connections_cut += drained.connections_cut;
    all.requests_cut += drained.requests_cut;
}

/// The connections of all listeners, for an operator to look at.
#[derive(Debug, Clone)]
pub struct Connections(Arc<[Listening]>);

/// Listeners with one set of connection limits.
#[derive(Debug)]
pub struct Listening {
    /// `server`, or `lane:` and the lane's name.
    pub name: String,
    /// Of a lane's listeners: the lane.
    pub lane: Option<String>,
    /// Their numbers.
    pub handle: ServerHandle,
}

impl Connections {
    pub(super) fn of<S: Gateway>(shared: &Front<S>, lanes: &[(String, Front<S>)]) -> Self {
        let shared = Listening {
            name: SERVER.to_owned(),
            lane: None,
            handle: shared.server.handle(),
        };
        let lanes = lanes.iter().map(|(lane, front)| Listening {
            name: format!("lane:{lane}"),
            lane: Some(lane.clone()),
            handle: front.server.handle(),
        });
        Self(std::iter::once(shared).chain(lanes).collect())
    }

    /// Those of `[server]` first.
    pub fn iter(&self) -> impl Iterator<Item = &Listening> {
        self.0.iter()
    }
}

/// The threads that outlive their connections: with them the last of what they ran ends, and has its line.
pub(super) fn threads<S: Gateway>(shared: &Front<S>, lanes: &[(String, Front<S>)]) -> Vec<Server> {
    let lanes = lanes.iter().map(|(_, front)| front.server());
    std::iter::once(shared.server()).chain(lanes).collect()
}
