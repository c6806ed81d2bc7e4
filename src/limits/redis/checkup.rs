//! A look at the server from outside: changes nothing on it.

use std::time::Duration;

use deadpool_redis::redis::{AsyncConnectionConfig, Client, InfoDict, cmd};

use super::link::{OLDEST, classify, durability, warnings};
use crate::domain::checkup::{self, Finding};
use crate::domain::time::{Clock, UnixMicros};
use crate::limits::LimitsError;

const ABOUT: &str = "limits.url";
/// More of `maxmemory` in use than this share is soon all of it.
const CROWDED: f64 = 0.8;

/// Looks at the server behind `url`.
pub async fn checkup(url: &str, timeout: Duration, clock: &Clock) -> Vec<Finding> {
    match look(url, timeout, clock).await {
        Ok(findings) => findings,
        Err(error) => {
            vec![Finding::fault(ABOUT, error.to_string(), "is the URL right, and Redis running and reachable?")]
        }
    }
}

async fn look(url: &str, timeout: Duration, clock: &Clock) -> Result<Vec<Finding>, LimitsError> {
    // The URL may hold a password, and the parser's error may hold the URL.
    let client =
        Client::open(url).map_err(|_| LimitsError::Refused("not a redis:// URL; TLS is not built in".into()))?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connected.map_err(|error| classify(&error))?;
    let info: InfoDict = cmd("INFO").query_async(&mut connection).await.map_err(|error| classify(&error))?;
    let asked_at = clock.now();
    let (secs, micros): (i64, i64) =
        cmd("TIME").query_async(&mut connection).await.map_err(|error| classify(&error))?;
    let there = UnixMicros(secs.saturating_mul(1_000_000).saturating_add(micros));
    let mut findings = vec![
        checkup::version(ABOUT, "Redis", &info.get::<String>("redis_version").unwrap_or_default(), OLDEST),
        checkup::clock(ABOUT, there.0.saturating_sub(asked_at.0)),
    ];
    if info.get::<String>("role").as_deref() != Some("master") {
        findings.push(Finding::fault(ABOUT, "the server is a replica", "name the primary"));
    }
    let durability = durability(&mut connection, &info).await;
    let said = warnings(&info, durability);
    if said.is_empty() {
        findings.push(Finding::fine(ABOUT, "writes are synced before they are answered, and nothing is evicted"));
    }
    findings.extend(said.into_iter().map(|text| Finding::risk(ABOUT, text, "see deploy/servers/redis.conf")));
    findings.extend(memory(&info));
    if info.get::<String>("aof_last_write_status").is_some_and(|status| status != "ok") {
        findings.push(Finding::fault(ABOUT, "redis cannot write its append-only file", "give its disk room"));
    }
    Ok(findings)
}

/// Returns how much room is left, where there is a limit.
fn memory(info: &InfoDict) -> Option<Finding> {
    let (used, most) = (info.get::<f64>("used_memory")?, info.get::<f64>("maxmemory")?);
    let text = format!("{:.0} of {:.0} MiB of memory are in use", used / 1_048_576.0, most / 1_048_576.0);
    if most <= 0.0 {
        None
    } else if used > CROWDED * most {
        Some(Finding::risk(ABOUT, text, "raise maxmemory: a full server takes no claims"))
    } else {
        Some(Finding::fine(ABOUT, text))
    }
}
