//! The small servers of a measurement. Each runs as a process of its own, started from the measuring program itself.

mod commit;
mod failing;
mod hanging;
mod proxy;
mod server;
mod upstream;

use std::env;
use std::ffi::OsString;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;

use clap::Subcommand;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

pub use self::failing::Failure;
pub use self::hanging::held;

use super::Result;
use super::process::{PATIENCE, Process};

/// A server that the measuring program starts as a child.
#[derive(Debug, Clone, Subcommand)]
pub enum Role {
    /// Answers every request at once with a small JSON document.
    Upstream {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Never answers, except to say how many requests it holds.
    HangingUpstream {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Fails.
    FailingUpstream {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
        /// How it fails.
        #[arg(long)]
        failure: Failure,
    },
    /// Takes what is posted to it and answers 202 once it is durable in the directory that it is started in.
    Commit {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// The least a correct proxy does, on hyper.
    Proxy {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
        /// Where it sends requests.
        #[arg(long)]
        upstream: SocketAddr,
        /// Worker threads of its runtime.
        #[arg(long)]
        threads: usize,
    },
}

impl Role {
    /// Serves until the process is killed.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub fn run(&self) -> Result<()> {
        match *self {
            // The upstreams take as little of the machine as they can.
            Self::Upstream { listen } => {
                block_on(&mut Builder::new_current_thread(), upstream::serve(listen))
            }
            Self::HangingUpstream { listen } => {
                block_on(&mut Builder::new_current_thread(), hanging::serve(listen))
            }
            Self::FailingUpstream { listen, failure } => block_on(
                &mut Builder::new_current_thread(),
                failing::serve(listen, failure),
            ),
            // As many as a gateway of one thread and a lane of one thread.
            Self::Commit { listen } => block_on(
                Builder::new_multi_thread().worker_threads(2),
                commit::serve(listen),
            ),
            Self::Proxy {
                listen,
                upstream,
                threads,
            } => block_on(
                Builder::new_multi_thread().worker_threads(threads),
                proxy::serve(listen, upstream),
            ),
        }
    }

    /// Starts it as a process of its own, in `directory`, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub async fn start(&self, name: &'static str, directory: &Path) -> Result<Process> {
        let mut process = Process::start(name, &self.words()?, directory)?;
        process.accepts(self.listens_on(), PATIENCE).await?;
        Ok(process)
    }

    const fn listens_on(&self) -> SocketAddr {
        match *self {
            Self::Upstream { listen }
            | Self::HangingUpstream { listen }
            | Self::FailingUpstream { listen, .. }
            | Self::Commit { listen }
            | Self::Proxy { listen, .. } => listen,
        }
    }

    /// The command line that starts this role from the running program.
    ///
    /// # Errors
    ///
    /// If the running program's path is not known.
    pub fn words(&self) -> Result<Vec<OsString>> {
        let arguments = match self {
            Self::Upstream { listen } => format!("upstream --listen {listen}"),
            Self::HangingUpstream { listen } => format!("hanging-upstream --listen {listen}"),
            Self::FailingUpstream { listen, failure } => {
                format!("failing-upstream --listen {listen} --failure {failure}")
            }
            Self::Commit { listen } => format!("commit --listen {listen}"),
            Self::Proxy {
                listen,
                upstream,
                threads,
            } => {
                format!("proxy --listen {listen} --upstream {upstream} --threads {threads}")
            }
        };
        let mut words = vec![env::current_exe()?.into_os_string()];
        words.extend(arguments.split(' ').map(OsString::from));
        Ok(words)
    }
}

fn block_on(runtime: &mut Builder, server: impl Future<Output = Result<()>>) -> Result<()> {
    runtime.enable_all().build()?.block_on(server)
}

async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(listen).await;
    listener.map_err(|error| format!("{listen}: {error}").into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::bench::hang::{Answers, Hang};
    use crate::bench::load::{self, Load};
    use crate::bench::ports;

    #[derive(Parser)]
    struct Program {
        #[command(subcommand)]
        role: Role,
    }

    #[test]
    fn the_command_line_of_a_role_is_understood_as_this_role() {
        let listen: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let upstream: SocketAddr = "127.0.0.1:2".parse().unwrap();
        for role in [
            Role::Upstream { listen },
            Role::HangingUpstream { listen },
            Role::FailingUpstream {
                listen,
                failure: Failure::Hang,
            },
            Role::FailingUpstream {
                listen,
                failure: Failure::Reset,
            },
            Role::FailingUpstream {
                listen,
                failure: Failure::Half,
            },
            Role::Commit { listen },
            Role::Proxy {
                listen,
                upstream,
                threads: 3,
            },
        ] {
            let program = Program::try_parse_from(role.words().unwrap()).unwrap();
            assert_eq!(format!("{:?}", program.role), format!("{role:?}"));
        }
    }

    /// Until there is somebody at each.
    async fn until_accepted(addrs: [SocketAddr; 2]) {
        let wait = async {
            for addr in addrs {
                while tokio::net::TcpStream::connect(addr).await.is_err() {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    }

    async fn until_held(addr: SocketAddr, wanted: usize) {
        let wait = async {
            while held(addr).await.unwrap() != wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    }

    #[tokio::test]
    async fn the_proxy_forwards_load() {
        let [listen, upstream] = ports::free().unwrap();
        tokio::spawn(upstream::serve(upstream));
        tokio::spawn(proxy::serve(listen, upstream));
        until_accepted([listen, upstream]).await;
        let mut load = Load::open(listen, 3, load::get("/x?y=z")).await.unwrap();
        for requests in [2, 100] {
            let run = load.run(requests).await.unwrap();
            assert_eq!(run.requests(), requests);
            assert_eq!(run.latencies().count(), requests);
        }
    }

    #[tokio::test]
    async fn clients_hang_until_they_are_dropped() {
        let [listen, slow] = ports::free().unwrap();
        tokio::spawn(hanging::serve(slow));
        tokio::spawn(proxy::serve(listen, slow));
        until_accepted([listen, slow]).await;
        let hang = Hang::start(listen, 7, &load::get("/slow"), Duration::from_millis(1)).unwrap();
        until_held(slow, 7).await;
        assert_eq!(hang.answers(), Answers::default());
        drop(hang);
        until_held(slow, 0).await;
    }

    /// Until the clients of a failing upstream, behind the bare proxy, have seen what they are to see.
    async fn until_clients_see(failure: Failure, seen: impl Fn(Answers) -> bool) {
        let [listen, upstream] = ports::free().unwrap();
        tokio::spawn(failing::serve(upstream, failure));
        tokio::spawn(proxy::serve(listen, upstream));
        until_accepted([listen, upstream]).await;
        let pause = Duration::from_millis(1);
        let clients = Hang::start(listen, 3, &load::get("/failing"), pause).unwrap();
        let wait = async {
            while !seen(clients.answers()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
        assert_eq!(clients.answers().refused, 0);
    }

    #[tokio::test]
    async fn upstreams_fail_as_they_are_told() {
        // The proxy makes a 502 of a reset.
        until_clients_see(Failure::Reset, |answers| answers.failed > 9).await;
        until_clients_see(Failure::Half, |answers| {
            answers.failed > 9 && answers.answered > 9
        })
        .await;
    }
}
