//! The contract of `ledger::Ledger`, on both backends; and that both give the same answers.

mod recording;
mod samples;

use std::path::PathBuf;

use crate::support::servers;

use postrider::domain::time::Clock;
use postrider::ledger::postgres::Postgres;
use postrider::ledger::sqlite::Sqlite;
use postrider::ledger::{AnyLedger, Ledger};

/// A ledger of a test's own, with what it stands on.
pub(crate) struct Fixture {
    pub(crate) ledger: AnyLedger,
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
