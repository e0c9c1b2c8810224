//! The signals that stop a gateway, the one by which it opens its log anew, and those that do nothing.

use std::future::{Future, pending};
use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Listens for SIGTERM and SIGINT from now on, on a thread of its own. The future ends with the first one; the second one
/// ends the process.
///
/// # Errors
///
/// If the system refuses, as a sentence.
pub fn stop() -> Result<impl Future<Output = ()>, String> {
    listen(None::<fn()>)
}

/// As [`stop`], and runs `hangup` for each SIGHUP, which ends a process that does not listen for it.
///
/// # Errors
///
/// If the system refuses, as a sentence.
pub fn stop_and_on_hangup(
    hangup: impl FnMut() + Send + 'static,
) -> Result<impl Future<Output = ()>, String> {
    listen(Some(hangup))
}

fn listen(
    hangup: Option<impl FnMut() + Send + 'static>,
) -> Result<impl Future<Output = ()>, String> {
    let refused = |error: io::Error| format!("the system refuses signals: {error}");
    let (listening, listens) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let runtime = Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(refused)?;
    let listen = async move {
        let mut signals = match Signals::register(hangup) {
            Ok(signals) => signals,
            Err(error) => return drop(listening.send(Err(error))),
        };
        _ = listening.send(Ok(()));
        signals.stop().await;
        // Nobody waits any more if the gateway has ended by itself.
        _ = stop.send(());
        signals.stop().await;
        std::process::exit(1);
    };
    thread::Builder::new()
        .name("gw-signals".to_owned())
        .spawn(move || runtime.block_on(listen))
        .map_err(refused)?;
    match listens.recv() {
        Ok(Ok(())) => Ok(async move { drop(stopped.await) }),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err("the system refuses signals".to_owned()),
    }
}

struct Signals<F> {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<(Signal, F)>,
}

impl<F: FnMut()> Signals<F> {
    fn register(hangup: Option<F>) -> io::Result<Self> {
        // What rotates logs sends one or the other to many servers. Whoever does not listen is ended by it, with all requests.
        for ignored in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            drop(signal(ignored)?);
        }
        let hangup = match hangup {
            Some(run) => Some((signal(SignalKind::hangup())?, run)),
            None => None,
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }

    /// Ends with the next signal that asks to stop.
    async fn stop(&mut self) {
        loop {
            let hung_up = async {
                match &mut self.hangup {
                    Some((signal, run)) => {
                        signal.recv().await;
                        run();
                    }
                    None => pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                () = hung_up => {}
            }
        }
    }
}
