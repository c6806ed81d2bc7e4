//! Calls that the process before has left: hung up, since their flow is lost, and told of as far as anything is known.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;

use super::ari::Found;
use super::event::Signal;
use super::{ChannelId, LEG, Shared};
use crate::channel::call::{CallNews, Step};
use crate::domain::call::{CallReport, CallResult};

/// How long the end of a call that is hung up may take.
const END_MAX: Duration = Duration::from_secs(10);

/// Takes over the channels that are ours and that nobody drives.
pub(super) fn adopt(shared: &Arc<Shared>, channels: Vec<Found>) {
    for found in channels {
        if let Some(call) = found.id.strip_suffix(LEG)
            && ours(shared, call)
            && !shared.calls().contains_key(call)
        {
            let (here, leg, bridge) = (Arc::clone(shared), found.id.clone(), call.to_owned());
            shared.tasks.spawn("orphan_call", async move {
                // If they have hung up themselves, or were never connected, that is as well.
                let _gone = here.ari.hang_up(&leg).await;
                let _gone = here.ari.disconnect(&bridge).await;
            });
            continue;
        }
        let ours = ours(shared, &found.id);
        if ours && !shared.calls().contains_key(&*found.id) {
            warn!(provider = %shared.settings.provider, "a call is left from the process before; it is hung up");
            let (here, signals) = (Arc::clone(shared), shared.enter(&found.id));
            shared.tasks.spawn("orphan_call", async move { end(here, found, signals).await });
        }
    }
}

fn ours(shared: &Shared, channel: &str) -> bool {
    ChannelId::read(channel).is_some_and(|id| *id.app == *shared.settings.link.app)
}

async fn end(shared: Arc<Shared>, found: Found, mut signals: mpsc::Receiver<Signal>) {
    let mut answered = found.state == "Up";
    let _gone = shared.ari.hang_up(&found.id).await;
    let over = async {
        while let Some(signal) = signals.recv().await {
            match signal {
                Signal::Up => answered = true,
                Signal::Destroyed(_) => return,
                Signal::Ringing
                | Signal::Started(_)
                | Signal::LegUp
                | Signal::LegGone
                | Signal::Played(_)
                | Signal::Unplayed(_)
                | Signal::Key(_)
                | Signal::Recorded(_)
                | Signal::HangsUp
                | Signal::Missed => {}
            }
        }
    };
    let _silent = shared.clock.timeout(END_MAX, over).await;
    if let Some(ChannelId { job, attempt, .. }) = ChannelId::read(&found.id) {
        let step = if answered {
            let report = CallReport { hung_up_by: "us".into(), ..CallReport::unanswered(CallResult::Completed) };
            Step::Ended(report, None)
        } else {
            Step::Lost
        };
        let (provider, at) = (shared.settings.provider.clone(), shared.clock.now());
        shared.voice.say(CallNews { provider, job, attempt, at, step }.into()).await;
    }
    shared.leave(&found.id);
}
