//! The signals that stop a gateway.

use std::future::Future;
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
    let refused = |error: std::io::Error| format!("the system refuses signals: {error}");
    let (listening, listens) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let runtime = Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(refused)?;
    let listen = async move {
        let registered = signal(SignalKind::terminate())
            .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
        let (mut terminate, mut interrupt) = match registered {
            Ok(signals) => signals,
            Err(error) => return drop(listening.send(Err(error))),
        };
        _ = listening.send(Ok(()));
        either(&mut terminate, &mut interrupt).await;
        // Nobody waits any more if the gateway has ended by itself.
        _ = stop.send(());
        either(&mut terminate, &mut interrupt).await;
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

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
