//! A search cluster on a loopback socket, as far as a log shipper can see one.
//!
//! An [`Elasticsearch`] speaks enough of the HTTP interface of Elasticsearch (or OpenSearch) for the official clients:
//! `_bulk` with an outcome for every item, `_search`, `_count`, and the stubs that clients ask for first. It fails on
//! request: [`Elasticsearch::behave`] switches its [`Behaviour`] while clients talk to it. It keeps every document that
//! it was offered, so that a test can say which were lost and which came twice.

mod answer;
mod behaviour;
mod bulk;
mod config;
mod counters;
mod filter;
mod ledger;
mod listener;
mod mapping;
mod routes;
mod search;
mod state;
mod store;
mod write_queue;

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

pub use self::behaviour::{Behaviour, Garble, ItemFault};
pub use self::config::Config;
pub use self::counters::Requests;
pub use self::ledger::Document;
pub use self::mapping::{Field, Mapping};

use self::listener::Listener;
use self::state::State;
use crate::patience::within;

/// A running simulator. It stops when it is dropped.
pub struct Elasticsearch {
    state: Arc<State>,
    listener: Listener,
}

impl Elasticsearch {
    /// Listens on a free port of 127.0.0.1 and serves in tasks of the current runtime.
    ///
    /// # Panics
    ///
    /// If no port can be bound, or outside a tokio runtime.
    pub async fn start(config: Config) -> Self {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), config).await
    }

    /// As [`start`](Self::start), on a given address.
    ///
    /// # Panics
    ///
    /// If the address cannot be bound, or outside a tokio runtime.
    pub async fn start_on(addr: SocketAddr, config: Config) -> Self {
        let state = Arc::new(State::new(config));
        let listener = Listener::start(addr, state.clone()).await;
        Self { state, listener }
    }

    /// The address it listens on. It stays the same while the simulator is down.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Behaves so from now on. A script that has steps left goes first.
    ///
    /// Requests that hang under [`Behaviour::hung`] are handled as the new behaviour says, like those of a process that
    /// was stopped and continues.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.behave(behaviour);
    }

    /// The next bulk requests meet these behaviours, one each, in the order of their arrival.
    ///
    /// A write queue ([`Behaviour::saturated`]) belongs to [`behave`](Self::behave); in a script it lasts for one
    /// request and so never fills over time, unless the standing behaviour has one: then it is that one which counts.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state.script(behaviours);
    }

    /// Closes all connections and the listener. Until [`come_up`](Self::come_up), attempts to connect are refused; the
    /// port stays reserved. The documents stay.
    ///
    /// # Panics
    ///
    /// If the port cannot be bound again.
    pub async fn go_down(&self) {
        self.listener.go_down().await;
    }

    /// Listens again, on the same port.
    ///
    /// # Panics
    ///
    /// If the port cannot be listened on again.
    pub async fn come_up(&self) {
        self.listener.come_up().await;
    }

    /// What the cluster was asked so far, in numbers.
    pub fn requests(&self) -> Requests {
        self.state.requests()
    }

    /// Each document it was ever offered by a bulk request that it understood, in the order of first arrival, whether it
    /// is in the index or not.
    pub fn documents(&self) -> Vec<Document> {
        self.state.store().documents()
    }

    /// How many different documents are in the index. Cheaper than [`documents`](Self::documents).
    pub fn indexed(&self) -> usize {
        self.state.store().indexed()
    }

    /// Begins a new backing index of a data stream. From now on, `create` does not see the `_id`s of the earlier ones.
    ///
    /// # Panics
    ///
    /// If there is no data stream of this name.
    pub fn roll_over(&self, data_stream: &str) {
        self.state.store().roll_over(data_stream);
    }

    /// Waits until `so` holds for the numbers of [`requests`](Self::requests).
    ///
    /// # Panics
    ///
    /// When that does not happen within [`PATIENCE`](crate::PATIENCE).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    #[track_caller]
    pub fn until<F>(&self, what: &str, so: F) -> impl Future<Output = ()> + use<F>
    where
        F: Fn(&Requests) -> bool,
    {
        let state = self.state.clone();
        within(what, async move { state.until(so).await })
    }

    /// Waits until `count` different documents are in the index.
    ///
    /// Panics and cancel safety are those of [`until`](Self::until).
    #[track_caller]
    pub fn holds(&self, count: usize) -> impl Future<Output = ()> + use<> {
        self.until(&format!("{count} indexed documents"), move |requests| {
            requests.documents >= count
        })
    }
}

impl fmt::Debug for Elasticsearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elasticsearch")
            .field("addr", &self.addr())
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}
