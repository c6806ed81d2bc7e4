//! The contract of `ledger::Ledger`, on both backends; and that both give the same answers.

mod agenda;
mod asking;
mod equivalence;
mod losses;
mod outage;
pub(crate) mod people;
mod recording;
mod rules;
mod samples;
mod speed;
mod templates;

use std::path::PathBuf;
use std::time::Duration;

use crate::support::servers;

use postrider::domain::time::Clock;
use postrider::ledger::postgres::Postgres;
use postrider::ledger::sqlite::Sqlite;
use postrider::ledger::{AnyLedger, Ledger};

/// A ledger of a test's own, with what it stands on.
pub(crate) struct Fixture {
    ledger: AnyLedger,
    place: Place,
}

enum Place {
    Url(String),
    File(PathBuf, #[expect(dead_code, reason = "removed when the test ends")] tempfile::TempDir),
}

impl Fixture {
    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ledger.db");
        Self::open(Place::File(file, dir)).await
    }

    async fn postgres() -> Self {
        Self::open(Place::Url(servers::postgres().database())).await
    }

    async fn open(place: Place) -> Self {
        let ledger = match &place {
            Place::Url(url) => AnyLedger::Postgres(Postgres::new(url, Clock::system()).unwrap()),
            Place::File(file, _) => AnyLedger::Sqlite(Sqlite::open(file, Clock::system()).unwrap()),
        };
        ledger.migrate().await.unwrap();
        Self { ledger, place }
    }

    /// Closes the ledger and opens it again, as a restart of the service does.
    async fn reopened(self) -> Self {
        self.ledger.close().await;
        Self::open(self.place).await
    }
}

/// What PostgreSQL counted of the agenda.
struct Touched {
    /// Times that the table was read from end to end.
    whole_reads: i64,
    /// Entries of its indexes that were read.
    index_entries: i64,
}

impl Fixture {
    /// Returns what was read of the agenda so far, where the store counts it.
    async fn touched(&self) -> Option<Touched> {
        let Place::Url(url) = &self.place else { return None };
        // A session reports what it counted when a statement ends and the last report is a second old.
        Clock::system().pause(Duration::from_millis(1_200)).await;
        self.ledger.agenda_depth().await.unwrap();
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        let sql = "select (select seq_scan from pg_stat_user_tables where relname = 'agenda'),
                   (select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname = 'agenda')";
        tokio::select! {
            row = client.query_one(sql, &[]) => {
                let row = row.unwrap();
                Some(Touched { whole_reads: row.get(0), index_entries: row.get(1) })
            }
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    }
}

/// Makes a test of each contract on each backend.
macro_rules! on_every_backend {
    ($($contract:ident)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $contract() {
                super::$contract(super::Fixture::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $contract() {
                super::$contract(super::Fixture::postgres().await).await;
            })+
        }
    };
}
use on_every_backend;
