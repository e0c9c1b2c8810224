//! The signals that stop a gateway, the one by which it opens its log anew, and those that do nothing.

use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::process::exit;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// What a SIGHUP runs.
type Hangup = Box<dyn FnMut() + Send>;

/// Signals of a process that is still to serve: SIGTERM and SIGINT end it at once, and SIGHUP waits.
#[must_use = "dropped, no signal does anything"]
pub struct Starting {
    done: oneshot::Sender<Hangup>,
    stopped: oneshot::Receiver<()>,
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starting").finish_non_exhaustive()
    }
}

impl Starting {
    /// From now on `hangup` is run for each SIGHUP, and first for one that has come meanwhile. The future ends with the first
    /// SIGTERM or SIGINT; the second one ends the process.
    pub fn done(self, hangup: impl FnMut() + Send + 'static) -> impl Future<Output = ()> {
        // Without a thread there is nobody to tell, and the future ends.
        _ = self.done.send(Box::new(hangup));
        async move { drop(self.stopped.await) }
    }
}

/// Listens for SIGTERM and SIGINT from now on, on a thread of its own. The future ends with the first one; the second one
/// ends the process. SIGHUP ends it, as it does where nobody listens.
///
/// # Errors
///
/// If the system refuses, as a sentence.
pub fn stop() -> Result<impl Future<Output = ()>, String> {
    Ok(listen(false)?.done(|| {}))
}

/// Listens for SIGTERM, SIGINT and SIGHUP from now on, on a thread of its own.
///
/// # Errors
///
/// If the system refuses, as a sentence.
pub fn while_starting() -> Result<Starting, String> {
    listen(true)
}

fn listen(hangs_up: bool) -> Result<Starting, String> {
    let refused = |error: io::Error| format!("the system refuses signals: {error}");
    let (listening, listens) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (done, started) = oneshot::channel();
    let runtime = Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(refused)?;
    let listen = async move {
        let mut signals = match Signals::register(hangs_up) {
            Ok(signals) => signals,
            Err(error) => return drop(listening.send(Err(error))),
        };
        _ = listening.send(Ok(()));
        let hangup = tokio::select! {
            // Who is told that it has started may send a signal at once, and both may be seen together.
            biased;
            hangup = started => hangup,
            // Nothing is under way that would have to end in order, and what it waits for may take long.
            () = signals.asks_to_stop() => exit(0),
        };
        // It could not be started, and ends by itself.
        let Ok(mut hangup) = hangup else {
            return;
        };
        signals.stop(&mut hangup).await;
        // Nobody waits any more if the gateway has ended by itself.
        _ = stop.send(());
        signals.stop(&mut hangup).await;
        exit(1);
    };
    thread::Builder::new()
        .name("gw-signals".to_owned())
        .spawn(move || runtime.block_on(listen))
        .map_err(refused)?;
    match listens.recv() {
        Ok(Ok(())) => Ok(Starting { done, stopped }),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err("the system refuses signals".to_owned()),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    fn register(hangs_up: bool) -> io::Result<Self> {
        // What rotates logs sends one or the other to many servers. Whoever does not listen is ended by it, with all requests.
        for ignored in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            drop(signal(ignored)?);
        }
        let hangup = match hangs_up {
            true => Some(signal(SignalKind::hangup())?),
            false => None,
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }

    /// Ends with the next signal that asks to stop; until then each hang-up runs `hangup`.
    async fn stop(&mut self, hangup: &mut Hangup) {
        loop {
            let hung_up = async {
                match &mut self.hangup {
                    Some(signal) => {
                        signal.recv().await;
                        hangup();
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

    /// As [`stop`](Self::stop); hang-ups wait for whoever asks for them later.
    async fn asks_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
