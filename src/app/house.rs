//! The caps of the settings: in force from the start, and again whenever the file changes.

use std::time::Duration;

use crate::config::{self, Settings};
use crate::domain::time::Clock;
use crate::ledger::Directory;
use crate::shutdown::Tasks;

/// How often the file is looked at: a change binds on every node within five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Puts the caps in force and starts the task that keeps them so until `tasks` stop. A file that cannot be read, or whose
/// caps cannot be, changes nothing.
pub(super) fn watch(settings: &Settings, directory: &Directory, tasks: &Tasks, clock: &Clock) {
    directory.set_house_caps(settings.caps.clone());
    let Some(file) = settings.file.clone() else { return };
    let (directory, clock, stop) = (directory.clone(), clock.clone(), tasks.stop().clone());
    tasks.spawn("house_caps", async move {
        let mut known = tokio::fs::read_to_string(&file).await.ok();
        while stop.run_until_cancelled(clock.pause(LOOK_EVERY)).await.is_some() {
            let Ok(text) = tokio::fs::read_to_string(&file).await else { continue };
            if known.as_ref() == Some(&text) {
                continue;
            }
            match config::caps(&file, &text) {
                Ok(caps) => {
                    tracing::info!(caps = caps.len(), "caps of the settings read again");
                    directory.set_house_caps(caps);
                }
                Err(error) => {
                    tracing::warn!(%error, "the settings have changed and are wrong: the caps stay as they were")
                }
            }
            known = Some(text);
        }
    });
}
