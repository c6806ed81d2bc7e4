//! The shared connection: made when needed, checked for which memory it reaches before its first use, replaced when it
//! breaks or hangs.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, InfoDict, RedisError, Script, ServerErrorKind, cmd,
    pipe,
};
use uuid::Uuid;

use super::scripts::Scripts;
use crate::domain::checkup;
use crate::domain::time::{Clock, Stopwatch, UnixMicros};
use crate::limits::{Identity, LimitsError};

/// The oldest version whose commands and scripts are used.
pub(super) const OLDEST: (u32, u32) = (6, 2);

/// After a failed attempt to connect, callers fail at once for this long instead of trying themselves.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Tries of one question: the first, one after its script was loaded again, one after the identity was asked again.
const TRIES: usize = 3;

/// The connection to one server.
pub(super) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    clock: Clock,
    /// Where the identity is kept.
    marker: Vec<u8>,
    live: RwLock<Option<Arc<Live>>>,
    /// Held while connecting, so that one does it for all; knows the last failure.
    connecting: tokio::sync::Mutex<Option<(Stopwatch, LimitsError)>>,
    /// Why the last attempt failed; `None` once one succeeds.
    down: RwLock<Option<LimitsError>>,
}

/// A connection that is believed to work.
pub(super) struct Live {
    connection: MultiplexedConnection,
    /// Which memory it reaches.
    pub identity: Identity,
    /// What somebody should change on the server.
    pub warnings: Vec<Box<str>>,
}

/// What of an answered write survives a crash of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Durability {
    /// All of it: `appendfsync always`. Many calls share one fsync, since the server answers them after it.
    Always,
    /// All but the last seconds. `everysec` puts the write itself off for up to two seconds while an fsync lasts.
    Lagging,
    /// What the last snapshot has, if there is one.
    None,
}

// === impl Link ===

impl Link {
    /// Returns a link that connects at the first question.
    ///
    /// # Errors
    /// [`LimitsError::Refused`] when the URL is none.
    pub(super) fn new(url: &str, timeout: Duration, marker: Vec<u8>, clock: Clock) -> Result<Self, LimitsError> {
        // The URL may hold a password, and the parser's error may hold the URL.
        let client =
            Client::open(url).map_err(|_| LimitsError::Refused("not a redis:// URL; TLS is not built in".into()))?;
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
        let connecting = tokio::sync::Mutex::default();
        Ok(Self { client, config, clock, marker, live: RwLock::default(), connecting, down: RwLock::default() })
    }

    /// Asks a script, which `question` turns into a command for the connection that is used. Repeats it when the
    /// server does not know the script, or has changed its memory: then nothing was done.
    ///
    /// # Errors
    /// Any [`LimitsError`] but `Storage`; after `Timeout` and `Unreachable` it may have been carried out.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        scripts: &Scripts,
        question: impl Fn(&Live) -> Cmd,
    ) -> Result<T, LimitsError> {
        let mut last = LimitsError::Refused("the server forgets its scripts at once".into());
        for _ in 0..TRIES {
            let live = self.live().await?;
            let mut connection = live.connection.clone();
            let error = match question(&live).query_async::<T>(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
                load(&mut connection, scripts).await.map_err(|error| self.failed(&live, &error))?;
            } else if error.code() == Some("IDENTITY") {
                self.drop_live(&live);
                last = LimitsError::Refused("the memory changed again and again".into());
            } else {
                return Err(self.failed(&live, &error));
            }
        }
        Err(last)
    }

    /// Returns the connection, made anew if need be.
    ///
    /// # Errors
    /// [`LimitsError::Timeout`], [`LimitsError::Unreachable`], [`LimitsError::Refused`].
    pub(super) async fn live(&self) -> Result<Arc<Live>, LimitsError> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        // While one tries again after a failure, the others are told at once.
        let trying = self.connecting.try_lock();
        let down = self.down.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut failure = match (trying, down) {
            (Ok(failure), _) => failure,
            (Err(_), Some(error)) => return Err(error),
            (Err(_), None) => self.connecting.lock().await,
        };
        if let Some(live) = self.current() {
            return Ok(live);
        }
        if let Some((since, error)) = &*failure
            && since.elapsed() < RECONNECT_PAUSE
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(live) => {
                let live = Arc::new(live);
                *failure = None;
                *self.down.write().unwrap_or_else(PoisonError::into_inner) = None;
                *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&live));
                Ok(live)
            }
            Err(error) => {
                *failure = Some((self.clock.stopwatch(), error.clone()));
                *self.down.write().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Live, LimitsError> {
        let connected = self.client.get_multiplexed_async_connection_with_config(&self.config).await;
        let mut connection = connected.map_err(|error| classify(&error))?;
        let info: InfoDict = cmd("INFO").query_async(&mut connection).await.map_err(|error| classify(&error))?;
        if info.get::<String>("role").as_deref() != Some("master") {
            return Err(LimitsError::Unreachable("the server is a replica".into()));
        }
        if let Some(why) = checkup::too_old("Redis", &info.get::<String>("redis_version").unwrap_or_default(), OLDEST) {
            return Err(LimitsError::Refused(why));
        }
        let durability = durability(&mut connection, &info).await;
        let identity = self.introduce(&mut connection, &info, durability).await.map_err(|error| classify(&error))?;
        let warnings = warnings(&info, durability);
        for warning in &warnings {
            tracing::warn!("limits: {warning}");
        }
        Ok(Live { connection, identity, warnings })
    }

    /// Asks which memory this is. Everything that is new is answered by the script, so that of many nodes that
    /// connect at once all hear the same.
    async fn introduce(
        &self,
        connection: &mut MultiplexedConnection,
        info: &InfoDict,
        durability: Durability,
    ) -> Result<Identity, RedisError> {
        let word = |name| info.get::<String>(name).unwrap_or_default();
        let (id, changed_at): (String, i64) = Script::new(include_str!("identity.lua"))
            .key(&self.marker)
            .arg(word("run_id"))
            .arg(word("master_replid"))
            .arg(word("master_replid2"))
            .arg(u8::from(durability == Durability::Always))
            .arg(self.clock.now().0)
            .arg(Uuid::new_v4().to_string())
            .invoke_async(connection)
            .await?;
        // Asked for anew whenever it matters.
        Ok(Identity { id: id.into(), changed_at: UnixMicros(changed_at), recovering: true })
    }

    /// Returns whether time moves only when it is told to.
    pub(super) fn stands(&self) -> bool {
        self.clock.stands()
    }

    fn current(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what an error means, and drops the connection it came from unless that is surely sound.
    fn failed(&self, live: &Arc<Live>, error: &RedisError) -> LimitsError {
        let error = classify(error);
        match error {
            LimitsError::Timeout | LimitsError::Unreachable(_) => self.drop_live(live),
            LimitsError::Refused(_) | LimitsError::Recovering | LimitsError::Storage(_) | LimitsError::TooManyRules => {
            }
        }
        error
    }

    fn drop_live(&self, live: &Arc<Live>) {
        let mut current = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            *current = None;
        }
    }
}

async fn load(connection: &mut MultiplexedConnection, scripts: &Scripts) -> Result<(), RedisError> {
    let mut pipe = pipe();
    for code in scripts.sources() {
        pipe.cmd("SCRIPT").arg("LOAD").arg(code).ignore();
    }
    pipe.query_async(connection).await
}

pub(super) fn classify(error: &RedisError) -> LimitsError {
    let text = || Box::from(error.category());
    if error.code() == Some("RECOVERING") {
        return LimitsError::Recovering;
    }
    match error.kind() {
        _ if error.is_timeout() => LimitsError::Timeout,
        _ if error.code() == Some("RULES") => LimitsError::TooManyRules,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain,
        ) => LimitsError::Unreachable(text()),
        // The server's own words: what they name is ours, keys of hashes at most.
        ErrorKind::Server(_) | ErrorKind::Extension => LimitsError::Refused(error.to_string().into()),
        _ if error.is_io_error() || error.is_unrecoverable_error() => LimitsError::Unreachable(text()),
        _ => LimitsError::Refused(text()),
    }
}

/// Returns what of an answered write survives the server's crash.
pub(super) async fn durability(connection: &mut MultiplexedConnection, info: &InfoDict) -> Durability {
    if info.get::<u8>("aof_enabled") != Some(1) {
        return Durability::None;
    }
    let config: Result<HashMap<String, String>, _> =
        cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await;
    // A managed server may not tell.
    let always = config.is_ok_and(|config| config.get("appendfsync").is_some_and(|policy| policy == "always"));
    if always { Durability::Always } else { Durability::Lagging }
}

/// Returns what makes the server less than durable, in words.
pub(super) fn warnings(info: &InfoDict, durability: Durability) -> Vec<Box<str>> {
    let mut warnings: Vec<Box<str>> = Vec::new();
    match durability {
        Durability::None => warnings.push(
            "redis keeps no append-only file: a restart forgets claims, caps and opt-outs (appendonly yes)".into(),
        ),
        Durability::Lagging => warnings.push(
            "redis may answer before it writes: a crash can forget seconds of claims and opt-outs, so every restart \
             counts as a loss (appendfsync always)"
                .into(),
        ),
        Durability::Always => {}
    }
    let policy = info.get::<String>("maxmemory_policy").unwrap_or_default();
    if policy != "noeviction" {
        let text = format!("redis may evict claims and caps: maxmemory-policy is {policy:?}, and must be noeviction");
        warnings.push(text.into());
    }
    warnings
}
