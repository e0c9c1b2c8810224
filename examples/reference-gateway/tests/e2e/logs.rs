//! The log intake: what a 202 promises, whatever happens afterwards.

mod answers;
mod crash;
mod device;
mod life;
mod settings;
mod sink;
mod torn;
mod trace;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

use gw_testkit::client::{Answer, Client};
use gw_testkit::elasticsearch::{Config, Elasticsearch};
use serde_json::Value;

use crate::command::until;
use crate::gateway::Gateway;

const INDEX: &str = "logs";

/// Limits per client that no test reaches by accident.
const AMPLE: &str = "per_client = { rate = \"100000/s\", burst = 100000 }";

/// A simulated cluster.
async fn cluster() -> Elasticsearch {
    Elasticsearch::start(Config::elasticsearch()).await
}

/// A gateway's configuration: a route for logs in a lane with a thread of its own, and `ingest` as the intake's table.
fn config(server: &str, ingest: &str) -> String {
    let tables = format!(
        "[lanes]\ntotal = 200\n[lanes.lane.core]\nguaranteed = 0.2\n\
         [lanes.lane.logs]\nguaranteed = 0.5\ncap = 0.5\nqueue = 0\nthreads = 1\n\
         [[routes]]\nname = \"logs\"\nmatch = {{ path = \"/api/logs\" }}\nservice = \"log-ingest\"\n\
         lane = \"logs\"\npublic = true\n[log_ingest]\n{ingest}\n"
    );
    crate::gateway::config(server, &tables)
}

/// The keys of an intake with a queue in this directory, which delivers to this cluster.
fn to_cluster(queue: &Path, cluster: &Elasticsearch, max_bytes: &str) -> String {
    format!(
        "queue = {{ engine = \"disk\", dir = \"{}\", max_bytes = \"{max_bytes}\" }}\n\
         sink = {{ kind = \"elasticsearch\", nodes = [\"{}\"], index = \"{INDEX}\" }}\n",
        queue.display(),
        cluster.url()
    )
}

/// A valid event with this message.
fn event(message: &str) -> String {
    format!(
        "{{\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"service\":\"shop\",\"level\":\"info\",\
         \"message\":\"{message}\"}}"
    )
}

/// As [`event`], with an id of the client's own.
fn named_event(id: &str, message: &str) -> String {
    let event = event(message);
    format!("{},\"event_id\":\"{id}\"}}", event.trim_end_matches('}'))
}

/// A request with these events, from this client.
fn upload(client: &str, events: &[String]) -> String {
    let body = format!("[{}]", events.join(","));
    request(
        &format!("x-client-id: {client}\r\ncontent-type: application/json\r\n"),
        &body,
    )
}

fn request(fields: &str, body: &str) -> String {
    let mut request = format!("POST /api/logs HTTP/1.1\r\nhost: gateway\r\n{fields}");
    write!(request, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    request
}

/// The events of an upload that was answered with 202: what they are known by at the sink, and what they say.
#[derive(Debug, Default)]
struct Promises(HashMap<String, String>);

impl Promises {
    /// Notes what an answer promises, for events without ids of their own.
    #[track_caller]
    fn add(&mut self, answer: &Answer, messages: &[String]) {
        let receipt = receipt(answer);
        for (index, message) in messages.iter().enumerate() {
            self.0.insert(format!("{receipt}-{index}"), message.clone());
        }
    }

    fn add_named(&mut self, id: String, message: String) {
        self.0.insert(id, message);
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// Waits until the cluster has all of them, and sees that it has each event once, under the id that was promised, and
    /// nothing that nobody sent.
    async fn are_kept(&self, cluster: &Elasticsearch) {
        until(&format!("{} events at the sink", self.len()), || async {
            let there: HashSet<String> = indexed(cluster).into_keys().collect();
            let missing = self.0.keys().filter(|id| !there.contains(*id)).count();
            if missing > 0 {
                // Whoever polls must let others work.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            (missing == 0).then_some(())
        })
        .await;
        let indexed = indexed(cluster);
        for (id, message) in &self.0 {
            assert_eq!(&indexed[id], message, "{id}");
        }
        // An event that came twice under two ids would be there twice.
        let mut ids: HashMap<&str, &str> = HashMap::new();
        for (id, message) in &indexed {
            if let Some(other) = ids.insert(message, id) {
                panic!("{message} is there as {id} and as {other}");
            }
        }
        for document in cluster.documents() {
            assert!(document.indexed <= 1, "{document:?}");
        }
    }
}

/// The messages in the index, by id.
fn indexed(cluster: &Elasticsearch) -> HashMap<String, String> {
    let documents = cluster.documents().into_iter();
    documents
        .filter(|document| document.is_indexed())
        .map(|document| {
            let source: Value = serde_json::from_slice(&document.source).unwrap();
            let message = source["message"].as_str().unwrap().to_owned();
            (document.id, message)
        })
        .collect()
}

/// The receipt of a 202.
#[track_caller]
fn receipt(answer: &Answer) -> String {
    assert_eq!(answer.status(), 202, "{answer:?}");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["receipt"].as_str().expect("a receipt").to_owned()
}

/// Uploads one event with this message on a connection of its own.
async fn send_one(gateway: &Gateway, client: &str, message: &str) -> Answer {
    let mut connection = Client::connect(gateway.traffic).await;
    let events = [event(message)];
    connection.send(&upload(client, &events)).await;
    connection.read_answer().await
}
