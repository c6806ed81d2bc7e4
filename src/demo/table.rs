//! The account as a table.

use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::account::Account;

/// Draws it.
pub(super) fn render(account: &Account) -> Table {
    let sums = account.sums();
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["what became of it", "jobs"]);
    let mut row = |what: String, jobs: u64| {
        table.add_row([what, jobs.to_string()]);
    };
    row("accepted".into(), sums.accepted);
    row("sent".into(), sums.sent);
    for ((fate, reason), jobs) in &sums.outcomes {
        let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        row(format!("  {fate}{reason}"), *jobs);
    }
    row("deferred, waiting for its cap".into(), sums.deferred);
    row("unresolved, no answer came".into(), sums.unresolved);
    let seconds = sums.span.as_secs_f64().max(0.001);
    table.add_row(["sent per second".to_owned(), format!("{:.0}", sums.sent as f64 / seconds)]);
    table.add_row(["accept p50 / p99".to_owned(), pair(sums.accept)]);
    table.add_row(["accept to sent p50 / p99".to_owned(), pair(sums.accept_to_sent)]);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn pair([p50, p99]: [Duration; 2]) -> String {
    format!("{:.1} / {:.1} ms", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3)
}
