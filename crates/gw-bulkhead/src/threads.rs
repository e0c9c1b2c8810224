//! Lanes on threads of their own.
//!
//! A permit does not isolate the processor: a handler that computes, or blocks, holds up everything else on its thread,
//! the other lanes' requests too. So a lane may have threads of its own: a request that is admitted there is moved over,
//! with the service that was readied for it, and runs there to the end of its body. What reaches the caller is the
//! head, and the body's frames through a channel of two; a body that is whole at the head comes with it.
//!
//! Isolation begins where the request enters the lane: reading it from the socket, TLS and HTTP/2 framing stay with
//! the server.
//!
//! - A dropped future or body drops what runs on the lane's thread; a panic there is the caller's panic.
//! - The place in the lane belongs to the task on the lane's thread and to the answer's body. The last one of the two
//!   gives it back, so callers that give up while the thread is blocked do not let more requests in.
//! - The threads end when the last clone of the layer, its services and their answers is dropped, or once a drain
//!   begun by [`BulkheadHandle::drain`](crate::BulkheadHandle::drain) is done and the bodies that are still on their way,
//!   with [`Hold::Head`](crate::Hold::Head), have ended. For a connection that was upgraded on one of them, they run in either
//!   case until the last clone of its [`UpgradePermit`](crate::UpgradePermit) is dropped. Nothing waits for them.
//! - The lane's threads are tokio runtimes with timers and I/O, so connections to upstreams that a request opens there
//!   live there.
//! - On Linux they can give way to other threads when processors are short: [`LaneConfig::nice`](crate::LaneConfig::nice).

mod body;
mod crew;
mod execute;
mod niceness;
mod task;

pub use self::body::{LaneTaskLost, ResponseBody};
pub use self::crew::Threads;
