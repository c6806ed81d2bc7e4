//! A look at the server from outside: changes nothing on it.

use std::cmp::Ordering;
use std::str::FromStr as _;

use tokio_postgres::Config;

use super::pool::Connector;
use super::{people, schema};
use crate::domain::checkup::{self, Finding};
use crate::domain::time::Clock;
use crate::ledger::LedgerError;
use crate::ledger::tenant::keys;

const ABOUT: &str = "ledger.url";
/// The oldest version whose statements are used and that still gets fixes.
pub(super) const OLDEST: (u32, u32) = (13, 0);
/// Connections that one process may take: the pool, the recorder's, the leader's.
const PER_PROCESS: i64 = super::CONNECTIONS_MAX as i64 + 2;

/// Settings that must be on, and what is lost where they are off.
const MUST_BE_ON: &[(&str, &str)] = &[
    ("fsync", "a crash of the machine can destroy the ledger"),
    ("full_page_writes", "a crash of the machine can leave pages half written"),
];

/// Looks at the server behind `url`.
pub async fn checkup(url: &str, clock: &Clock) -> Vec<Finding> {
    let findings = async {
        let config = Config::from_str(url).map_err(|_| LedgerError::Refused("not a PostgreSQL URL".into()))?;
        let connector = Connector::new(config, clock.clone());
        let findings = look(&connector, clock).await;
        connector.close().await;
        findings
    };
    match findings.await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::fault(
            ABOUT,
            error.to_string(),
            "are host, user, password and database right, and is PostgreSQL running and reachable?",
        )],
    }
}

async fn look(connector: &Connector, clock: &Clock) -> Result<Vec<Finding>, LedgerError> {
    let conn = connector.connect().await?;
    let asked_at = clock.now();
    let row = conn
        .client
        .query_one(
            "select current_setting('server_version'), \
             (extract(epoch from clock_timestamp()) * 1000000)::bigint, pg_is_in_recovery(), \
             current_setting('max_connections')::bigint - (select count(*) from pg_stat_activity), \
             to_regclass('postrider.schema_version') is not null",
            &[],
        )
        .await?;
    let mut findings = vec![
        checkup::version(ABOUT, "PostgreSQL", row.get(0), OLDEST),
        checkup::clock(ABOUT, row.get::<_, i64>(1).saturating_sub(asked_at.0)),
    ];
    if row.get(2) {
        findings.push(Finding::fault(ABOUT, "the server is a standby", "name the primary"));
    }
    let free: i64 = row.get(3);
    let text = format!("{free} connections are free; a process takes up to {PER_PROCESS}");
    findings.push(if free < PER_PROCESS {
        Finding::risk(ABOUT, text, "raise max_connections")
    } else {
        Finding::fine(ABOUT, text)
    });
    for (name, harm) in MUST_BE_ON {
        let value: String = conn.client.query_one("select current_setting($1)", &[name]).await?.get(0);
        findings.push(if value == "on" {
            Finding::fine(ABOUT, format!("{name} is on"))
        } else {
            Finding::risk(ABOUT, format!("{name} is {value}: {harm}"), "see deploy/servers/postgresql.conf")
        });
    }
    if row.get(4) {
        findings.extend(match schema::stored(&conn).await?.cmp(&schema::VERSION) {
            Ordering::Less => vec![Finding::fine(ABOUT, "the next start brings the schema up to date")],
            Ordering::Equal => vec![
                Finding::fine(ABOUT, "the schema is the one that this program writes"),
                keys::checkup(&people::api_keys(&conn).await?, clock.now()),
            ],
            Ordering::Greater => vec![Finding::fault(
                ABOUT,
                schema::unknown(schema::stored(&conn).await?),
                "run the version of postrider that wrote it, or a newer one",
            )],
        });
    } else {
        findings.push(Finding::fine(ABOUT, "the database is empty; the first start makes the schema"));
    }
    Ok(findings)
}
