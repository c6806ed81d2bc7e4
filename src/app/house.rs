//! The caps and routes of the settings: in force from the start, and again whenever the file changes.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Settings};
use crate::domain::time::Clock;
use crate::ledger::Directory;
use crate::policy::routes::Routes;
use crate::shutdown::Tasks;

/// How often the file is looked at: a change binds on every node within five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Puts caps and routes in force and starts the task that keeps them so until `tasks` stop. A file that cannot be read
/// changes nothing, and neither do caps or routes that cannot be.
pub(super) fn watch(
    settings: &Settings,
    (directory, routes): (&Directory, &Arc<Routes>),
    tasks: &Tasks,
    clock: &Clock,
) {
    directory.set_house_caps(settings.caps.clone());
    routes.set_house(settings.routes.clone());
    let Some(file) = settings.file.clone() else { return };
    let (routes, providers) = (Arc::clone(routes), settings.providers.clone());
    let (directory, clock, stop) = (directory.clone(), clock.clone(), tasks.stop().clone());
    tasks.spawn("house_rules", async move {
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
            match config::routes(&file, &text, &providers) {
                Ok(house) => {
                    tracing::info!(routes = house.len(), "routes of the settings read again");
                    routes.set_house(house);
                }
                Err(error) => {
                    tracing::warn!(%error, "the settings have changed and are wrong: the routes stay as they were")
                }
            }
            known = Some(text);
        }
    });
}
