//! What is shown: the key figures and six tables, made of what the processes say. Pure.

use serde_json::{Map, Value, json};

use super::change::{Change, Key};
use super::scrape::Sweep;
use crate::telemetry::metrics as m;

/// Everything that is shown of one moment.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Board {
    /// What a glance must tell, as name and value.
    pub(super) figures: Vec<(&'static str, Cell)>,
    /// One for each view.
    pub(super) tables: Vec<Table>,
    /// The processes that say nothing, each with why.
    pub(super) away: Vec<(String, String)>,
}

/// One table.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<Cell>>,
    /// The column by which it is sorted at first.
    pub(super) sorted_by: usize,
}

/// One value, with its unit.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Cell {
    Text(String),
    /// So many.
    Count(f64),
    /// So many per second.
    Rate(f64),
    Secs(f64),
    /// Nothing is known.
    Unknown,
}

/// Histograms that say how long something took, by what, and the label that tells them apart.
const TIMED: &[(&str, &str, &str)] = &[
    (m::ACCEPT_SECONDS, "accept a job", ""),
    (m::PUBLISH_SECONDS, "publish a frame", ""),
    (m::TIME_IN_QUEUE_SECONDS, "time in queue", "class"),
    (m::SEND_LAG_SECONDS, "due to answer", "class"),
    (m::SUBMIT_SECONDS, "provider's answer", "provider"),
    (m::RECEIPT_SECONDS, "provider's receipt", "provider"),
    (m::LIMITS_SECONDS, "call to limits", "op"),
];

/// Makes the board: rates of what changed `lately`, quantiles of what fell into a `longer` time.
pub(super) fn board(lately: Change<'_>, longer: Change<'_>, now: &Sweep) -> Board {
    let tables = vec![
        lanes(lately),
        providers(lately, longer),
        outcomes(lately),
        stops(lately),
        slowest(longer),
        tenants(lately),
    ];
    let away = now.processes.iter().filter_map(|process| {
        let why = process.said.as_ref().err()?;
        Some((process.at.to_string(), why.to_string()))
    });
    Board { figures: figures(lately, longer), tables, away: away.collect() }
}

fn figures(lately: Change<'_>, longer: Change<'_>) -> Vec<(&'static str, Cell)> {
    let rate = |name| lately.per_s(lately.sum(name)).map_or(Cell::Unknown, Cell::Rate);
    let most = |name| lately.one(name, f64::max);
    let accept = longer.spread(m::ACCEPT_SECONDS, &[]).remove(&Key::new());
    let count = |value: Option<f64>| value.map_or(Cell::Unknown, Cell::Count);
    let secs = |value: Option<f64>| value.map_or(Cell::Unknown, Cell::Secs);
    vec![
        ("accepted", rate(m::JOBS_ACCEPTED)),
        ("refused", rate(m::JOBS_REFUSED)),
        ("handed_over", rate(m::ATTEMPTS)),
        ("finished", rate(m::JOBS_FINISHED)),
        ("accept_p99", secs(accept.and_then(|spread| spread.quantile(0.99)))),
        ("in_agenda", count(most(m::AGENDA_DEPTH))),
        ("oldest_due", secs(most(m::AGENDA_OLDEST_DUE_SECONDS))),
        ("ledger_lag", secs(most(m::LEDGER_LAG_SECONDS))),
        ("unresolved", count(lately.one(m::UNRESOLVED_JOBS, |a, b| a + b))),
        ("dead_letters", count(most(m::DEAD_LETTERS))),
        ("queue_up", count(lately.one(m::QUEUE_UP, f64::min))),
        ("limits_recovering", count(most(m::LIMITS_RECOVERING))),
    ]
}

fn lanes(lately: Change<'_>) -> Table {
    // Every process that looks sees the same queue.
    let depths = lately.gauge(m::LANE_DEPTH, &["class", "pool"], f64::max);
    let row = |(key, depth): (Key, f64)| [texts(key), vec![Cell::Count(depth)]].concat();
    let rows = depths.into_iter().map(row).collect();
    Table { name: "lanes", columns: &["class", "pool", "frames"], rows, sorted_by: 2 }
}

fn providers(lately: Change<'_>, longer: Change<'_>) -> Table {
    let by = &["provider"];
    let ups = lately.gauge(m::PROVIDER_UP, by, f64::min);
    let [limits, breakers] = [m::PROVIDER_RATE_LIMIT, m::BREAKER_STATE].map(|name| lately.gauge(name, by, f64::max));
    let windows = lately.gauge(m::PROVIDER_WINDOW_IN_USE, by, |a, b| a + b);
    let (attempts, answers) = (lately.counted(m::ATTEMPTS, by), longer.spread(m::SUBMIT_SECONDS, by));
    let row = |(key, up): (&Key, &f64)| {
        let rate = attempts.get(key).and_then(|counted| lately.per_s(*counted));
        let quantile =
            |part| answers.get(key).and_then(|spread| spread.quantile(part)).map_or(Cell::Unknown, Cell::Secs);
        let breaker = match breakers.get(key) {
            Some(0.0) => Cell::Text("closed".into()),
            Some(1.0) => Cell::Text("half open".into()),
            Some(_) => Cell::Text("open".into()),
            None => Cell::Unknown,
        };
        let up = if *up > 0.0 { "up" } else { "down" };
        let mut row = texts(key.clone());
        row.push(Cell::Text(up.into()));
        row.push(rate.map_or(Cell::Unknown, Cell::Rate));
        row.push(limits.get(key).map_or(Cell::Unknown, |limit| Cell::Rate(*limit)));
        row.push(windows.get(key).map_or(Cell::Unknown, |window| Cell::Count(*window)));
        row.extend([breaker, quantile(0.5), quantile(0.99)]);
        row
    };
    let columns = &["provider", "link", "handed_over", "may", "in_flight", "breaker", "answer_p50", "answer_p99"];
    Table { name: "providers", columns, rows: ups.iter().map(row).collect(), sorted_by: 2 }
}

fn outcomes(lately: Change<'_>) -> Table {
    let rows = counters(lately, m::JOBS_FINISHED, &["kind", "class", "outcome"]);
    Table { name: "outcomes", columns: &["kind", "class", "outcome", "jobs", "rate"], rows, sorted_by: 4 }
}

/// What did not go, or not yet.
fn stops(lately: Change<'_>) -> Table {
    let all = [("refused", m::JOBS_REFUSED), ("deferred", m::JOBS_DEFERRED), ("suppressed", m::JOBS_SUPPRESSED)];
    let rows = all.into_iter().flat_map(|(what, name)| {
        let rows = counters(lately, name, &["reason"]);
        rows.into_iter().map(move |row| [vec![Cell::Text(what.into())], row].concat())
    });
    Table { name: "stops", columns: &["what", "reason", "jobs", "rate"], rows: rows.collect(), sorted_by: 3 }
}

fn slowest(longer: Change<'_>) -> Table {
    let rows = TIMED.iter().flat_map(|&(name, what, by)| {
        let spreads = longer.spread(name, &[by]).into_iter().filter(|(_, spread)| spread.count() > 0.0);
        spreads.map(move |(key, spread)| {
            let quantile = |part| spread.quantile(part).map_or(Cell::Unknown, Cell::Secs);
            let front = [vec![Cell::Text(what.into())], texts(key)].concat();
            [front, vec![Cell::Count(spread.count()), quantile(0.5), quantile(0.99)]].concat()
        })
    });
    Table { name: "slowest", columns: &["what", "of", "times", "p50", "p99"], rows: rows.collect(), sorted_by: 4 }
}

fn tenants(lately: Change<'_>) -> Table {
    let by = &["tenant"];
    let [accepted, refused, finished] =
        [m::TENANT_JOBS_ACCEPTED, m::TENANT_JOBS_REFUSED, m::TENANT_JOBS_FINISHED].map(|name| lately.counted(name, by));
    let keys: std::collections::BTreeSet<_> = accepted.keys().chain(refused.keys()).chain(finished.keys()).collect();
    let row = |key: &Key| {
        let mut row = texts(key.clone());
        for counted in [&accepted, &refused, &finished] {
            let counted = counted.get(key).copied().unwrap_or_default();
            row.push(Cell::Count(counted.total));
            row.push(lately.per_s(counted).map_or(Cell::Unknown, Cell::Rate));
        }
        row
    };
    let rows = keys.into_iter().map(row).collect();
    let columns = &["tenant", "accepted", "accepting", "refused", "refusing", "finished", "finishing"];
    Table { name: "tenants", columns, rows, sorted_by: 2 }
}

/// Rows of labels, total and rate; those that never counted anything are left out.
fn counters(lately: Change<'_>, name: &str, by: &[&str]) -> Vec<Vec<Cell>> {
    let counted = lately.counted(name, by).into_iter().filter(|(_, counted)| counted.total > 0.0);
    let rate = |counted| lately.per_s(counted).map_or(Cell::Unknown, Cell::Rate);
    counted.map(|(key, counted)| [texts(key), vec![Cell::Count(counted.total), rate(counted)]].concat()).collect()
}

fn texts(key: Key) -> Vec<Cell> {
    key.into_iter().map(Cell::Text).collect()
}

impl Board {
    /// Returns a figure.
    pub(super) fn figure(&self, name: &str) -> Option<&Cell> {
        self.figures.iter().find(|(known, _)| *known == name).map(|(_, cell)| cell)
    }

    /// Returns it for scripts: numbers in jobs, jobs per second and seconds.
    pub(super) fn to_json(&self) -> Value {
        let figures = self.figures.iter().map(|(name, cell)| ((*name).to_owned(), cell.to_json()));
        let mut shown: Map<String, Value> = figures.collect();
        for table in &self.tables {
            let row = |row: &Vec<Cell>| {
                let cells = table.columns.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.to_json()));
                Value::Object(cells.collect())
            };
            shown.insert(table.name.into(), table.rows.iter().map(row).collect());
        }
        let away = self.away.iter().map(|(at, why)| json!({"process": at, "why": why}));
        shown.insert("away".into(), away.collect());
        Value::Object(shown)
    }
}

impl Table {
    /// Sorts the rows: numbers from the highest, texts from the first; `reversed`, the other way round.
    pub(super) fn sort(&mut self, column: usize, reversed: bool) {
        self.rows.sort_by(|a, b| {
            let order = match (a[column].number(), b[column].number()) {
                (Some(a), Some(b)) => b.total_cmp(&a),
                (None, None) => a[column].to_string().cmp(&b[column].to_string()),
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            if reversed { order.reverse() } else { order }
        });
    }
}

impl Cell {
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Count(number) | Self::Rate(number) | Self::Secs(number) => Some(*number),
            Self::Text(_) | Self::Unknown => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            // Infinity and NaN become null.
            Self::Count(number) | Self::Rate(number) | Self::Secs(number) => json!(number),
            Self::Unknown => Value::Null,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Count(count) => f.pad(&short(*count)),
            Self::Rate(rate) => f.pad(&format!("{}/s", short(*rate))),
            Self::Secs(secs) if *secs < 1.0 => f.pad(&format!("{:.1} ms", secs * 1e3)),
            Self::Secs(secs) if *secs < 120.0 => f.pad(&format!("{secs:.1} s")),
            Self::Secs(secs) => f.pad(&format!("{:.0} min", secs / 60.0)),
            Self::Unknown => f.pad("-"),
        }
    }
}

/// Returns a number in at most six characters: `17`, `1.5`, `12.3k`, `4.5M`.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.1}G", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.1}k", n / 1e3),
        n if n.fract() == 0.0 || n >= 100.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

#[cfg(test)]
pub(super) mod tests;
