//! The simulated search cluster as a program, for trying log shippers by hand.
//!
//! ```text
//! cargo run -p gw-testkit --features elasticsearch --example elasticsearch -- --listen 127.0.0.1:9200 --reject-items 0.3
//! ```
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use gw_testkit::elasticsearch::{Behaviour, Config, Elasticsearch, ItemFault};
use http::StatusCode;

/// A search cluster that fails on request.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Be OpenSearch.
    #[arg(long)]
    opensearch: bool,
    /// A data stream that exists. May be repeated.
    #[arg(long)]
    data_stream: Vec<String>,
    /// Largest body in bytes.
    #[arg(long)]
    max_content_length: Option<usize>,
    /// Read requests and do nothing.
    #[arg(long, group = "manner")]
    hung: bool,
    /// Answer each bulk request with this status.
    #[arg(long, group = "manner")]
    refuse: Option<StatusCode>,
    /// The share of items that is answered with 429.
    #[arg(long, group = "manner")]
    reject_items: Option<f64>,
    /// A full write queue: documents that may wait, and documents indexed per second, such as 2000:500.
    #[arg(long, group = "manner", value_parser = queue)]
    saturated: Option<(u32, u32)>,
    /// Answer later by this time, such as 2s.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    slow: Duration,
    /// Chooses the items of --reject-items.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn queue(text: &str) -> Result<(u32, u32), String> {
    let (documents, rate) = text.split_once(':').ok_or("DOCUMENTS:PER_SECOND")?;
    let number = |text: &str| match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text} is not a number above zero")),
        Ok(number) => Ok(number),
    };
    Ok((number(documents)?, number(rate)?))
}

impl Options {
    fn config(&self) -> Config {
        let mut config = if self.opensearch {
            Config::opensearch()
        } else {
            Config::elasticsearch()
        };
        for name in &self.data_stream {
            config = config.data_stream(name);
        }
        if let Some(bytes) = self.max_content_length {
            config = config.max_content_length(bytes);
        }
        config
    }

    fn behaviour(&self) -> Behaviour {
        let behaviour = if self.hung {
            Behaviour::hung()
        } else if let Some(status) = self.refuse {
            Behaviour::refusing(status)
        } else if let Some(share) = self.reject_items {
            Behaviour::failing_items(ItemFault::Rejected, share, self.seed)
        } else if let Some((documents, per_second)) = self.saturated {
            Behaviour::saturated(documents, per_second)
        } else {
            Behaviour::healthy()
        };
        behaviour.delay(self.slow)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let cluster = Elasticsearch::start_on(options.listen, options.config()).await;
    cluster.behave(options.behaviour());
    println!("{}", cluster.url());
    tokio::signal::ctrl_c()
        .await
        .expect("a handler for the interrupt");
    println!("{:#?}", cluster.requests());
}
