//! The socket: listening, going down, coming up again on the same port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::routes::handle;
use super::state::State;
use crate::patience::within;

/// How long accepting rests after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Listener {
    addr: SocketAddr,
    wanted: watch::Sender<bool>,
    reached: watch::Receiver<bool>,
    serving: JoinHandle<()>,
}

impl Listener {
    pub(super) async fn start(addr: SocketAddr, state: Arc<State>) -> Self {
        let socket = reserve(addr);
        let addr = socket.local_addr().expect("a bound socket has an address");
        let (wanted, wishes) = watch::channel(true);
        let (reports, mut reached) = watch::channel(false);
        let serving = tokio::spawn(serve(socket, addr, state, wishes, reports));
        reach(&mut reached, true).await;
        Self {
            addr,
            wanted,
            reached,
            serving,
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn go_down(&self) {
        self.become_up(false).await;
    }

    pub(super) async fn come_up(&self) {
        self.become_up(true).await;
    }

    async fn become_up(&self, up: bool) {
        self.wanted.send_replace(up);
        reach(&mut self.reached.clone(), up).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn reach(reached: &mut watch::Receiver<bool>, up: bool) {
    within(
        "the listener to change its state",
        reached.wait_for(|is| *is == up),
    )
    .await
    .expect("the listener's task runs, or has said why not");
}

/// Binds without listening: the port is ours, and attempts to connect are refused.
fn reserve(addr: SocketAddr) -> TcpSocket {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.expect("a socket");
    // Closed connections of the same port may linger.
    socket.set_reuseaddr(true).expect("a socket option");
    socket.bind(addr).expect("an address to bind");
    socket
}

async fn serve(
    mut socket: TcpSocket,
    addr: SocketAddr,
    state: Arc<State>,
    mut wishes: watch::Receiver<bool>,
    reports: watch::Sender<bool>,
) {
    loop {
        let listener = socket.listen(1024).expect("a bound socket can listen");
        reports.send_replace(true);
        // The connections close with the set, before "down" is reported.
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&listener, &mut connections, &state) => {}
            stopped = wishes.wait_for(|up| !up) => if stopped.is_err() { return },
        }
        drop(listener);
        socket = reserve(addr);
        connections.shutdown().await;
        reports.send_replace(false);
        if wishes.wait_for(|up| *up).await.is_err() {
            return;
        }
    }
}

async fn accept(listener: &TcpListener, connections: &mut JoinSet<()>, state: &Arc<State>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, state.clone()));
                }
                // Out of descriptors, usually: without a pause this would spin.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    // An answer is written whole; waiting for more would only add latency.
    let _refused_by_the_system = stream.set_nodelay(true);
    let service = service_fn(move |request| handle(state.clone(), request));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Clients leave in the middle of things, and lost answers end connections on purpose.
    let _ended = served.await;
}
