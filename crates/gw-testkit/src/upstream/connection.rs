//! One connection of the upstream.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::ledger::{Flight, Ledger};
use super::plan::{Plan, Step, Then};
use super::received::{Progress, Received};
use super::reply::ReadBody;
use super::script::Script;
use crate::wire::{Decoder, Payload, RequestHead, Socket, Stop};

const KEPT_BODY: usize = 1024 * 1024;

/// What to do with the connection after an exchange.
enum Next {
    Request,
    Close,
    Reset,
}

/// An exchange that ended before its reply did, and how.
struct Ended(Progress);

struct Exchange<'a> {
    socket: &'a mut Socket,
    ledger: &'a Ledger,
    flight: Flight,
    body: Decoder,
}

pub(super) async fn serve(stream: TcpStream, script: Arc<Script>, ledger: Arc<Ledger>) {
    // Declared before the socket, so that the connection counts as open until its socket is closed.
    let open = ledger.open();
    let mut socket = Socket::new(stream);
    for on_connection in 0.. {
        let head = match socket.head(RequestHead::parse).await {
            Ok(head) => head,
            Err(stop) => {
                note_lost_head(&ledger, &mut socket, stop);
                return;
            }
        };
        let mut request = Received::new(head, on_connection);
        let flight = open.arrived(&mut request);
        let body = match Decoder::for_request(&request.headers) {
            Ok(body) => body,
            Err(what) => {
                ledger.note_malformed(what);
                flight.end(Progress::Malformed);
                return;
            }
        };
        let Some((plan, read_body)) = ask(&*script, &ledger, &request) else {
            return;
        };
        let exchange = Exchange {
            socket: &mut socket,
            ledger: &ledger,
            flight,
            body,
        };
        match exchange.run(plan, read_body).await {
            Next::Request => {}
            Next::Reset => return socket.reset(),
            Next::Close => {
                // The other side may be gone already.
                let _gone = socket.finish().await;
                return;
            }
        }
    }
}

/// A connection may end between two requests, but not inside a head.
fn note_lost_head(ledger: &Ledger, socket: &mut Socket, stop: Stop) {
    match stop {
        Stop::Malformed(what) => ledger.note_malformed(what),
        Stop::Closed | Stop::Reset if socket.unread().is_empty() => {}
        Stop::Closed | Stop::Reset => {
            ledger.note_malformed("the connection ended inside a head".to_owned());
        }
    }
}

/// Asks the script and plans its reply; both are the test's own and may panic.
fn ask(script: &Script, ledger: &Ledger, request: &Received) -> Option<(Plan, ReadBody)> {
    let asked = catch_unwind(AssertUnwindSafe(|| {
        let reply = script(request);
        let read_body = reply.read_body;
        (Plan::new(reply, request), read_body)
    }));
    let payload = match asked {
        Ok(planned) => return Some(planned),
        Err(payload) => payload,
    };
    ledger.note_script_panic(panic_message(&*payload));
    None
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "not a text".to_owned())
}

impl Exchange<'_> {
    async fn run(mut self, plan: Plan, read_body: ReadBody) -> Next {
        let (progress, next) = match self.follow(plan, read_body).await {
            Ok(next) => (Progress::Answered, next),
            Err(Ended(Progress::Reset)) => (Progress::Reset, Next::Reset),
            Err(Ended(progress)) => (progress, Next::Close),
        };
        self.flight.end(progress);
        next
    }

    async fn follow(&mut self, plan: Plan, read_body: ReadBody) -> Result<Next, Ended> {
        self.write(plan.interims).await?;
        if read_body == ReadBody::First {
            self.read_body().await?;
        }
        for step in plan.steps {
            match step {
                Step::Write(bytes) => self.write(bytes).await?,
                Step::Hold(gate) => self.unless_gone(gate.pass()).await?,
                Step::Pause(time) => self.unless_gone(tokio::time::sleep(time)).await?,
                Step::Cut => return Err(Ended(Progress::Cut)),
                Step::Reset => return Err(Ended(Progress::Reset)),
            }
        }
        match read_body {
            ReadBody::First => {}
            // The answer is out, so the exchange counts as answered even if the body breaks off.
            ReadBody::After if self.read_body().await.is_err() => return Ok(Next::Close),
            ReadBody::After => {}
            ReadBody::Never => return Ok(Next::Close),
        }
        Ok(match plan.then {
            Then::NextRequest => Next::Request,
            Then::Close => Next::Close,
            Then::Echo => {
                self.echo().await;
                Next::Close
            }
        })
    }

    async fn read_body(&mut self) -> Result<(), Ended> {
        let mut payload = Payload::keeping(KEPT_BODY);
        let result = self.socket.body(&mut self.body, &mut payload).await;
        self.flight.body(payload, result.is_ok());
        match result {
            Ok(()) => Ok(()),
            Err(Stop::Closed | Stop::Reset) => Err(Ended(Progress::ClientLeft)),
            Err(Stop::Malformed(what)) => {
                self.ledger.note_malformed(what);
                Err(Ended(Progress::Malformed))
            }
        }
    }

    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Ended> {
        while !bytes.is_empty() {
            let written = self.socket.write_some(&mut bytes).await;
            let written = written.map_err(|_| Ended(Progress::ClientLeft))?;
            self.flight.sent(written as u64);
        }
        Ok(())
    }

    /// Waits for `other` while the client is there.
    async fn unless_gone(&mut self, other: impl Future<Output = ()>) -> Result<(), Ended> {
        tokio::select! {
            biased;
            () = other => Ok(()),
            _stop = self.socket.gone() => Err(Ended(Progress::ClientLeft)),
        }
    }

    /// Sends back what comes, until the client closes.
    async fn echo(&mut self) {
        loop {
            let bytes = self.socket.unread().split().freeze();
            if self.write(bytes).await.is_err() || self.socket.fill().await.is_err() {
                return;
            }
        }
    }
}
