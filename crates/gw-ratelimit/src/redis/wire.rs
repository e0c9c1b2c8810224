//! One connection to Redis, and the task that drives it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::aio::{ConnectionLike as _, MultiplexedConnection};
use ::redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, Pipeline,
    RedisConnectionInfo, RedisError, RedisResult, Value,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::{AbortHandle, JoinSet};

use super::measured::Measured;
use super::settings::Target;

/// How many addresses of a host are tried at once.
const AT_ONCE: usize = 8;

/// A connection. The last of its clones closes it.
#[derive(Clone)]
pub(super) struct Wire {
    connection: MultiplexedConnection,
    driver: Arc<Driver>,
}

/// A connection that nobody drives yet. Dropping it closes it.
pub(super) struct Made {
    connection: MultiplexedConnection,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Ends the task that drives a connection.
struct Driver {
    task: AbortHandle,
    is_ended: AtomicBool,
}

impl Made {
    /// How many questions may wait to be written.
    const QUEUE: usize = 1024;

    /// Connects.
    ///
    /// # Cancel safety
    ///
    /// The connection is closed when it is dropped.
    pub(super) async fn to(target: &Target) -> RedisResult<Self> {
        let redis = target.info.redis_settings();
        match target.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                // An IPv6 address stands in brackets in a URL.
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let stream = dial(tokio::net::lookup_host((host, *port)).await?).await?;
                match &target.connector {
                    Some(tls) => Self::over(tls.connect(host, stream).await?, redis).await,
                    None => Self::over(stream, redis).await,
                }
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => Self::over(UnixStream::connect(path).await?, redis).await,
            _ => {
                const KIND: &str = "no way to connect to such an address";
                Err(RedisError::from((ErrorKind::InvalidClientConfig, KIND)))
            }
        }
    }

    async fn over<S>(stream: S, redis: &RedisConnectionInfo) -> RedisResult<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = AsyncConnectionConfig::new()
            // Who waits for it has timeouts of its own.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(Self::QUEUE);
        let made =
            MultiplexedConnection::new_with_config(redis, Measured::new(stream), config).await;
        let (connection, driver) = made?;
        Ok(Self {
            connection,
            driver: Box::pin(driver),
        })
    }

    /// Drives it in a task of this runtime, until it is closed here or there; `ended` is for when Redis does.
    pub(super) fn drive(self, ended: impl FnOnce() + Send + 'static) -> Wire {
        let Self { connection, driver } = self;
        let driving = tokio::spawn(async move {
            driver.await;
            ended();
        });
        Wire {
            connection,
            driver: Arc::new(Driver {
                task: driving.abort_handle(),
                is_ended: AtomicBool::new(false),
            }),
        }
    }
}

/// Tries the host's addresses, several at once: one of them may be one that never answers. But not all of them: a name may have
/// thousands.
async fn dial(mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut dialing = JoinSet::new();
    for address in addresses.by_ref().take(AT_ONCE) {
        dialing.spawn(TcpStream::connect(address));
    }
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while let Some(dialed) = dialing.join_next().await {
        match dialed? {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
        if let Some(address) = addresses.next() {
            dialing.spawn(TcpStream::connect(address));
        }
    }
    Err(failed)
}

impl Wire {
    /// Asks. With `asking`, a node to which the keys are on their way answers as if they were its own.
    pub(super) async fn call<T: FromRedisValue>(
        &mut self,
        call: Cmd,
        asking: bool,
    ) -> RedisResult<T> {
        let answer = self.send(call, asking).await;
        // Several answers may have come at once, this one behind one that made no sense. Who is woken first on another thread does
        // not know of it yet.
        if self.driver.is_ended.load(Ordering::Relaxed) {
            return Err(RedisError::from((ErrorKind::Io, "connection closed")));
        }
        answer
    }

    /// Ends the connection for all: who still waits for an answer gets none.
    pub(super) fn close(&self) {
        self.driver.is_ended.store(true, Ordering::Relaxed);
        self.driver.task.abort();
    }

    async fn send<T: FromRedisValue>(&mut self, call: Cmd, asking: bool) -> RedisResult<T> {
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
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::iter::{once, repeat_n};
    use std::pin::pin;
    use std::task::Poll;

    use gw_testkit::within;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Story: a name with thousands of addresses had a connection to each of them begun at once, and the process had no descriptors
    /// left.
    #[tokio::test]
    async fn a_few_addresses_are_tried_at_once_and_each_in_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Bound, so that nobody else listens there, and not listening itself.
        let refusing = TcpSocket::new_v4().unwrap();
        refusing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refusing = repeat_n(refusing.local_addr().unwrap(), 1_000);
        let tried = Cell::new(0);
        let addresses = refusing.chain(once(listener.local_addr().unwrap()));
        let mut dialing = pin!(dial(addresses.inspect(|_| tried.set(tried.get() + 1))));
        // What is begun runs when this waits, and not before.
        let begun = poll_fn(|cx| Poll::Ready(dialing.as_mut().poll(cx).is_pending()));
        assert!(begun.await);
        assert_eq!(tried.get(), AT_ONCE);
        within("the one that listens", dialing).await.unwrap();
        assert_eq!(tried.get(), 1_001);
    }
}
