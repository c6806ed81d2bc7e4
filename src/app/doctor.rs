//! `postrider doctor`: looks at the settings, the machine and the servers, and says what to fix. Changes nothing.

use std::path::Path;
use std::time::Duration;

use super::error::with_causes;
use super::{certificate, front, providers};
use crate::api;
use crate::channel::login::Login;
use crate::config::{Link, Provider, Role, Settings};
use crate::domain::checkup::Finding;
use crate::domain::time::{Clock, UnixMicros};
use crate::ledger::{postgres, sqlite};
use crate::limits::redis;
use crate::queue::amqp;
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use futures_util::future::{BoxFuture, join_all};

/// A connection for each caller, provider and backend, and the files of the embedded backends.
const FILES_MIN: u64 = 4096;
/// How long before its end the sealing key is to be replaced: every process has to start anew, twice.
const ROTATE_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long a provider may take to let us in.
const LOGIN_MAX: Duration = Duration::from_secs(5);

/// Whether providers are asked to let us in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Logins {
    /// Each is; a bind of SMPP takes one of the account's places for a moment.
    Tried,
    /// None is.
    Skipped,
}

/// Looks at everything that the settings name, and returns what was found, in the order of the settings.
pub fn examine<'a>(settings: &'a Settings, logins: Logins, clock: &'a Clock) -> BoxFuture<'a, Vec<Finding>> {
    Box::pin(async move {
        let mut findings = vec![data_dir(&settings.data_dir), key_file(&settings.key_file, clock.now()), open_files()];
        findings.extend(certificate(settings, clock));
        findings.extend(match &settings.queue.url {
            Some(url) => amqp::checkup(url.reveal(), clock).await,
            None => vec![Finding::fine("queue.url", "embedded")],
        });
        findings.extend(match &settings.limits.url {
            Some(url) => redis::checkup(url.reveal(), settings.limits.timeout, clock).await,
            None => vec![Finding::fine("limits.url", "embedded")],
        });
        findings.extend(match &settings.ledger.url {
            Some(url) => postgres::checkup(url.reveal(), clock).await,
            None => sqlite::checkup(&settings.data_dir.join("ledger.sqlite"), clock.now()),
        });
        if settings.runs(Role::Dispatch) && logins == Logins::Tried {
            let tasks = Tasks::new();
            let asked = settings.providers.iter().map(|each| provider(settings, each, (&tasks, clock)));
            findings.extend(join_all(asked).await);
            tasks.finish(clock, LOGIN_MAX).await;
        }
        findings
    })
}

fn data_dir(dir: &Path) -> Finding {
    let tried = std::fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir)).and_then(|mut file| {
        use std::io::Write as _;
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    match tried {
        Ok(()) => Finding::fine("data_dir", format!("{} can be written", dir.display())),
        Err(error) => Finding::fault(
            "data_dir",
            format!("{}: {error}", dir.display()),
            "make it a directory that this user may write, on a disk with room",
        ),
    }
}

fn key_file(path: &Path, now: UnixMicros) -> Finding {
    const ABOUT: &str = "seal.key_file";
    let shown = path.display();
    match Sealer::open_file(path, now).map(|sealer| sealer.use_until()) {
        Ok(Some(until)) if until < now.plus(ROTATE_BEFORE) => Finding::risk(
            ABOUT,
            format!("the key of {shown} that seals is to be used until {}", day(until)),
            "add a key with a higher id: deploy/RUNBOOK.md, PostriderKeyExpires",
        ),
        Ok(until) => {
            let until = until.map(|until| format!(", its key is to be used until {}", day(until)));
            let until = until.unwrap_or_default();
            Finding::fine(ABOUT, format!("{shown} is readable{until}; is there a copy elsewhere?"))
        }
        Err(_) if !path.exists() => Finding::fine(ABOUT, format!("{shown} is made at the first start")),
        Err(error) => Finding::fault(ABOUT, error.to_string(), ""),
    }
}

fn day(at: UnixMicros) -> String {
    jiff::Timestamp::from_microsecond(at.0).unwrap_or_default().strftime("%F").to_string()
}

/// Linux tells the limit in a file; elsewhere it cannot be seen.
fn open_files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    match soft.map(|soft| (soft, soft.parse::<u64>())) {
        None => Finding::unseen("machine", "the limit of open files cannot be seen", "ulimit -n"),
        Some((_, Ok(files))) if files < FILES_MIN => Finding::risk(
            "machine",
            format!("a process may open {files} files"),
            "raise it to 65536 (LimitNOFILE in the unit, ulimits in compose)",
        ),
        Some((soft, _)) => Finding::fine("machine", format!("a process may open {soft} files")),
    }
}

fn certificate(settings: &Settings, clock: &Clock) -> Vec<Finding> {
    let Some(tls) = settings.grpc.tls.as_ref() else { return vec![] };
    let checked = front::read_tls(tls).map_err(|error| error.to_string()).and_then(|tls| {
        let chain = tls.certificate.clone();
        let settings = api::Settings { tls: Some(tls) };
        settings.check().map(|()| chain).map_err(|error| with_causes(&error).into())
    });
    match checked {
        Ok(chain) => vec![
            Finding::fine("grpc.tls_cert", "certificate and key belong together"),
            certificate::checkup(&chain, clock.now()),
        ],
        Err(error) => {
            vec![Finding::fault("grpc.tls_cert", error, "name a certificate chain and its private key, in PEM")]
        }
    }
}

/// Logs in and out again, where the provider lets us do that without sending.
async fn provider(settings: &Settings, provider: &Provider, (tasks, clock): (&Tasks, &Clock)) -> Finding {
    let about = format!("provider {}", provider.id);
    if let Link::Simulated(_) | Link::SimulatedTrunk(_) = provider.link {
        return Finding::fine(&about, "simulated: reaches nobody");
    }
    let account = "are account and secret right, and is our address allowed there?";
    match providers::log_in(settings, provider, LOGIN_MAX, (tasks, clock)).await {
        Ok(Login::Good) => Finding::fine(&about, "it let us in, and out again"),
        Ok(Login::Known(reason)) => Finding::unseen(
            &about,
            format!("it knows the account, and said {reason}"),
            "whether it takes jobs is seen when one is submitted",
        ),
        Ok(Login::Refused(code)) => Finding::fault(&about, format!("it does not let us in: {code}"), account),
        Ok(Login::Unreachable(reason)) => {
            Finding::fault(&about, reason, "is the address right, and are we allowed there?")
        }
        Ok(Login::Untried) => {
            Finding::unseen(&about, "it was reached; a log-in would be a message", "submit one to yourself")
        }
        Err(error) => Finding::fault(&about, with_causes(&error), "change its settings"),
    }
}
