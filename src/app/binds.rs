//! The binds to a provider, shared with the other nodes: no more in all than the settings say.
//!
//! While limits are away everybody keeps what they have: nobody can be given more meanwhile, and one-time passwords go on.
//! A node that is cut off alone cannot tell that from limits that are away for all, and keeps what it has as well: the others
//! give that away after a while, and what is too many is the provider's to refuse until the node is back.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Base;
use crate::channel::sms::smpp::Smpp;
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;
use crate::limits::{Limits, Share};

/// How often a node asks for its share: a few times while a memory that was lost hears who is there.
const EVERY: Duration = Duration::from_secs(1);
/// How long a node that stops waits for its binds to end before it gives them back.
const GOODBYE: Duration = Duration::from_secs(12);

/// The number of this node. The same after a restart, so that a process that died takes over what it held.
pub(super) struct Node {
    who: u64,
    /// Nobody else uses the number while it is locked.
    _lock: Option<File>,
}

impl Node {
    /// Returns the number that is kept in `dir`; a new one where another process uses that, or it cannot be kept.
    pub(super) fn of(dir: &Path) -> Self {
        Self::kept(dir).unwrap_or_else(|_| Self { who: fastrand::u64(..), _lock: None })
    }

    fn kept(dir: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("node"))?;
        file.try_lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let who = match u64::from_str_radix(text.trim(), 16) {
            Ok(who) => who,
            Err(_) => {
                let who = fastrand::u64(..);
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(format!("{who:016x}\n").as_bytes())?;
                file.sync_all()?;
                who
            }
        };
        Ok(Self { who, _lock: Some(file) })
    }
}

impl Base {
    /// Starts to ask for this node's share of the binds to a provider, until the providers' tasks stop.
    pub(super) fn share_binds(&self, provider: &ProviderId, binds: u32, smpp: Arc<Smpp>) {
        let total = u16::try_from(binds).unwrap_or(u16::MAX);
        let (what, who) = (format!("binds:{provider}").into(), self.node.who);
        let mut share = Share { what, who, turn: UnixMicros(0), total, holds: 0, leaves: false };
        let (limits, clock, provider) = (self.limits.clone(), self.clock.clone(), provider.clone());
        let stop = self.groups.channels.stop().clone();
        self.groups.channels.spawn("binds", async move {
            let (mut granted, mut away) = (0, false);
            while !stop.is_cancelled() {
                let now = clock.now();
                share.turn = now.max(UnixMicros(share.turn.0 + 1));
                share.holds = granted.max(u16::try_from(smpp.busy()).unwrap_or(u16::MAX));
                match limits.share(now, &share).await {
                    Ok(allowed) => {
                        (granted, away) = (allowed, false);
                        smpp.allow(allowed.into());
                    }
                    Err(problem) if !away => {
                        warn!(%provider, %problem, "cannot ask for binds; keeping those there are");
                        away = true;
                    }
                    Err(_) => {}
                }
                // Whoever has none yet looks more often, and whoever had no answer says at once what is held.
                let pause = if granted == 0 || away { EVERY / 4 } else { EVERY };
                let _stopping = stop.run_until_cancelled(clock.pause(pause)).await;
            }
            let watch = clock.stopwatch();
            while smpp.busy() > 0 && watch.elapsed() < GOODBYE {
                clock.pause(Duration::from_millis(20)).await;
            }
            if smpp.busy() == 0 {
                let now = clock.now();
                let turn = now.max(UnixMicros(share.turn.0 + 1));
                // If this gets lost, the others wait until it is not believed any more.
                let _lost = limits.share(now, &Share { turn, holds: 0, leaves: true, ..share }).await;
            }
        });
    }
}
