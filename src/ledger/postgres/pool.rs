//! A few connections, opened when they are needed, closed when anything about them is in doubt.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use crate::domain::time::Clock;
use crate::ledger::LedgerError;
use crate::shutdown::Tasks;

/// How long a call waits for a free connection: longer than a slow call, shorter than any caller's patience.
const WAIT: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server works on one statement; then it gives up, even if we are gone.
const STATEMENT_MS: u64 = 30_000;
/// How long a call may take in all, once it has a connection.
const CALL: Duration = Duration::from_secs(45);

/// Settings of every session. Each statement of this module is meant to be a few probes of an index, however small or
/// unknown the tables still are when it is planned; and it is planned once, not at every call.
const SESSION: &str = "set search_path = postrider; set synchronous_commit = on; set jit = off; \
                       set plan_cache_mode = force_generic_plan; set enable_seqscan = off; \
                       set enable_hashjoin = off; set enable_mergejoin = off; set enable_memoize = off; \
                       set enable_bitmapscan = off; set timezone = 'UTC'";

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection with its prepared statements.
pub(super) struct Conn {
    pub(super) client: Client,
    /// As the server says it; empty where it does not.
    pub(super) version: Box<str>,
    statements: Mutex<HashMap<Box<str>, Statement>>,
}

/// Opens connections; they end when their last user lets them go.
#[derive(Clone)]
pub(super) struct Connector {
    config: Arc<Config>,
    clock: Clock,
    tasks: Tasks,
}

/// At most so many connections, lent one call at a time.
pub(super) struct Pool {
    connector: Connector,
    permits: Semaphore,
    idle: Mutex<Vec<Arc<Conn>>>,
}

// === impl Conn ===

impl Conn {
    /// Returns the prepared form of a statement, prepared at its first use.
    pub(super) async fn statement(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(known) = self.statements().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements().insert(sql.into(), statement.clone());
        Ok(statement)
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.client.query(&self.statement(sql).await?, params).await
    }

    /// Runs a statement and returns how many rows it touched.
    pub(super) async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, tokio_postgres::Error> {
        self.client.execute(&self.statement(sql).await?, params).await
    }

    /// Runs statements without parameters or answer.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Connector ===

impl Connector {
    pub(super) fn new(mut config: Config, clock: Clock) -> Self {
        config
            .application_name("postrider")
            .connect_timeout(CONNECT)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(20));
        Self { config: Arc::new(config), clock, tasks: Tasks::new() }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Arc<Conn>, LedgerError> {
        let open = async {
            let (client, connection) = self.config.connect(NoTls).await?;
            let version = connection.parameter("server_version").unwrap_or_default().into();
            self.tasks.spawn("postgres-connection", async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "lost a connection to the ledger");
                }
            });
            client.batch_execute(&format!("{SESSION}; set statement_timeout = {STATEMENT_MS}")).await?;
            Ok(Arc::new(Conn { client, version, statements: Mutex::default() }))
        };
        self.limit(CONNECT, open).await
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Runs `call` for at most `limit`.
    pub(super) async fn limit<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        self.clock.timeout(limit, call).await.map_err(|late| LedgerError::Unreachable(late.to_string().into()))?
    }

    /// Waits until every connection has ended.
    pub(super) async fn close(&self) {
        if self.tasks.finish(&self.clock, WAIT).await > 0 {
            tracing::warn!("a connection to the ledger is still busy, leaving it");
        }
    }
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(connector: Connector, connections_max: usize) -> Self {
        Self { connector, permits: Semaphore::new(connections_max), idle: Mutex::default() }
    }

    /// Runs `work` on a connection of its own. After an error the connection is closed, which also ends a transaction
    /// that is still open.
    pub(super) async fn call<T, F>(&self, work: impl FnOnce(Arc<Conn>) -> F) -> Result<T, LedgerError>
    where
        F: Future<Output = Result<T, LedgerError>>,
    {
        let permit = self.connector.limit(WAIT, async { self.permits.acquire().await.map_err(|_| closed()) }).await?;
        let conn = match self.idle_one() {
            Some(conn) => conn,
            None => self.connector.connect().await?,
        };
        let done = self.connector.limit(CALL, work(Arc::clone(&conn))).await?;
        self.idle().push(conn);
        drop(permit);
        Ok(done)
    }

    /// Lends nothing more and closes what is idle.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    /// Returns an idle connection that is alive; after a restart of the server, all of them are dead at once.
    fn idle_one(&self) -> Option<Arc<Conn>> {
        let mut idle = self.idle();
        idle.retain(|conn| !conn.client.is_closed());
        idle.pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Conn>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> LedgerError {
    LedgerError::Unreachable("it is closed".into())
}
