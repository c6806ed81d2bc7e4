//! Keeps one bind: connects, binds, hands the connection to a session, and starts again after a pause.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rusmpp::Pdu;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::exchange::Batch;
use super::route::Route;
use super::session::{End, GOODBYE, Session};
use super::settings::{Backoff, Settings};
use super::status;
use super::wire::{self, Body, NotSmpp};
use crate::channel::login::Login;
use crate::domain::time::{Clock, Elapsed};
use crate::telemetry::metrics::LinkEvent;

/// A session that held for so long ended by itself; a shorter one counts as one more failure to bind.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// How many pauses a refused bind counts for: the account is wrong or taken, and asking again soon gets it blocked.
const REFUSAL_WEIGHT: u32 = 4;

/// Why a bind did not come about.
#[derive(Debug, thiserror::Error)]
enum BindError {
    /// No connection, or it broke.
    #[error("no connection")]
    Io(#[from] std::io::Error),
    /// Nothing within the time limit.
    #[error("no answer to the bind")]
    Elapsed(#[from] Elapsed),
    /// What came was not SMPP.
    #[error(transparent)]
    NotSmpp(#[from] NotSmpp),
    /// The SMSC closed the connection instead of answering.
    #[error("connection closed instead of an answer to the bind")]
    Closed,
    /// The SMSC refused.
    #[error("bind refused: {}", status::code(*.0))]
    Refused(u32),
}

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The pauses between attempts.
struct Pauses {
    backoff: Backoff,
    doublings: u32,
    random: fastrand::Rng,
}

/// Keeps a bind until the route is told to stop, for as long as it is allowed. Answers every job that it is given.
pub(super) async fn keep(route: Arc<Route>, bind: usize, mut jobs: mpsc::UnboundedReceiver<Batch>) {
    let mut pauses = Pauses { backoff: route.settings().backoff, doublings: 0, random: fastrand::Rng::new() };
    let mut allowed = route.allowed();
    while permitted(&route, bind, &mut allowed, &mut jobs).await {
        let leave = route.stop().child_token();
        let taken_back = async {
            // The route outlives its binds.
            _ = allowed.wait_for(|allowed| !covers(*allowed, bind)).await.map(|_| ());
            leave.cancel();
            std::future::pending().await
        };
        let pause = tokio::select! {
            pause = stay(&route, bind, &leave, (&mut jobs, &mut pauses)) => pause,
            never = taken_back => never,
        };
        route.bind(bind).set_busy(false);
        if let Some(pause) = pause {
            let pause = route.clock().pause(pause);
            refuse_during(&route, bind, &mut jobs, pause).await;
        }
    }
    jobs.close();
    while let Some(batch) = jobs.recv().await {
        route.bind(bind).load.refuse(batch, "stopping");
    }
}

/// Waits until the bind may be up; `false` once the route is told to stop.
async fn permitted(
    route: &Route,
    bind: usize,
    allowed: &mut watch::Receiver<u32>,
    jobs: &mut mpsc::UnboundedReceiver<Batch>,
) -> bool {
    loop {
        route.bind(bind).set_busy(true);
        if !route.stop().is_cancelled() && covers(*allowed.borrow_and_update(), bind) {
            return true;
        }
        route.bind(bind).set_busy(false);
        let changed = async { _ = allowed.changed().await };
        refuse_during(route, bind, jobs, changed).await;
        if route.stop().is_cancelled() {
            return false;
        }
    }
}

/// Returns whether a bind is among the first `allowed`.
fn covers(allowed: u32, bind: usize) -> bool {
    usize::try_from(allowed).is_ok_and(|allowed| bind < allowed)
}

/// Connects once and stays bound until the connection ends; returns how long to wait before the next time, unless it ended
/// because it had to leave.
async fn stay(
    route: &Arc<Route>,
    bind: usize,
    leave: &CancellationToken,
    (jobs, pauses): (&mut mpsc::UnboundedReceiver<Batch>, &mut Pauses),
) -> Option<Duration> {
    match leave.run_until_cancelled(connect(route.settings(), route.clock())).await? {
        Ok(bound) => {
            let began_at = route.now();
            let end = hold(route, bind, Session::new(Arc::clone(route), bind, bound, leave.clone()), jobs).await;
            if matches!(end, End::Stopped) {
                return None;
            }
            if route.now().saturating_sub(began_at) >= STABLE_AFTER {
                pauses.doublings = 0;
            }
        }
        Err(error) => {
            route.note(LinkEvent::BindFailed);
            warn!(provider = %route.settings().provider, bind, %error, "cannot bind");
            if matches!(error, BindError::Refused(_)) {
                pauses.doublings += REFUSAL_WEIGHT - 1;
            }
        }
    }
    Some(pauses.next())
}

/// Runs a session, and says when it came and went.
async fn hold(route: &Route, bind: usize, session: Session, jobs: &mut mpsc::UnboundedReceiver<Batch>) -> End {
    let provider = &route.settings().provider;
    route.note(LinkEvent::Bound);
    route.bind(bind).set_up(true);
    info!(%provider, bind, "bound");
    let end = session.run(jobs).await;
    route.note(LinkEvent::Ended);
    match end {
        End::Stopped => info!(%provider, bind, "unbound"),
        End::NotSmpp(_) => {
            route.note(LinkEvent::Garbage);
            warn!(%provider, bind, error = %end, "bind dropped");
        }
        _ => warn!(%provider, bind, error = %end, "bind ended"),
    }
    end
}

/// Binds once and unbinds again.
pub(super) async fn log_in(settings: &Settings, clock: &Clock) -> Login {
    match connect(settings, clock).await {
        Ok((mut stream, mut input)) => {
            let mut goodbye = BytesMut::new();
            wire::put(&mut goodbye, 0, 2, Pdu::Unbind);
            // An SMSC that does not say goodbye let us in all the same.
            let _rude = clock
                .timeout(GOODBYE, async {
                    stream.write_all(&goodbye).await?;
                    stream.flush().await?;
                    stream.read_buf(&mut input).await
                })
                .await;
            Login::Good
        }
        Err(BindError::Refused(found)) if status::is_full(found) => Login::Known(status::code(found).into()),
        Err(BindError::Refused(found)) => Login::Refused(status::code(found).into()),
        Err(BindError::Io(error)) => Login::Unreachable(error.to_string().into()),
        Err(error) => Login::Unreachable(error.to_string().into()),
    }
}

/// Returns a connection that is bound, with what was read behind the answer.
async fn connect(settings: &Settings, clock: &Clock) -> Result<(Box<dyn Stream>, BytesMut), BindError> {
    let bound = async {
        let tcp = TcpStream::connect(&*settings.address).await?;
        tcp.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match &settings.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.connector.connect(tls.server_name.clone(), tcp).await?),
        };
        let mut request = BytesMut::new();
        wire::put(&mut request, 0, 1, wire::bind(&settings.account));
        stream.write_all(&request).await?;
        stream.flush().await?;
        let mut input = BytesMut::new();
        loop {
            while let Some(incoming) = wire::take(&mut input)? {
                match incoming.body {
                    Body::Bound { status: 0 } => return Ok((stream, input)),
                    Body::Bound { status } | Body::Nack { status } => {
                        return Err(BindError::Refused(status));
                    }
                    // Nothing else makes sense before; an SMSC that says it anyway is heard out.
                    _ => {}
                }
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err(BindError::Closed);
            }
        }
    };
    clock.timeout(settings.connect_timeout, bound).await?
}

/// Refuses jobs while there is no bind. They are few: whoever looks sees that it is down.
async fn refuse_during(
    route: &Route,
    bind: usize,
    jobs: &mut mpsc::UnboundedReceiver<Batch>,
    pause: impl Future<Output = ()>,
) {
    let mut pause = std::pin::pin!(pause);
    loop {
        tokio::select! {
            () = &mut pause => return,
            () = route.stop().cancelled() => return,
            Some(batch) = jobs.recv() => route.bind(bind).load.refuse(batch, "not_connected"),
        }
    }
}

// === impl Pauses ===

impl Pauses {
    /// Returns the next pause: twice the last one, within bounds, of which up to half is left to chance, so that many
    /// binds that were lost together do not come back together.
    fn next(&mut self) -> Duration {
        let longest = self.backoff.first.saturating_mul(1 << self.doublings.min(16)).min(self.backoff.max);
        self.doublings = self.doublings.saturating_add(1);
        longest.mul_f64(0.5 + self.random.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_bounds() {
        let backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(60) };
        let mut pauses = Pauses { backoff, doublings: 0, random: fastrand::Rng::with_seed(7) };
        for doublings in 0..100 {
            let longest = Duration::from_millis(500 << doublings.min(10)).min(backoff.max);
            let pause = pauses.next();
            assert!(longest / 2 <= pause && pause <= longest, "{pause:?} after {doublings}");
        }
    }
}
