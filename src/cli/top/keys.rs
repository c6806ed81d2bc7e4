//! What keys do: which table is shown, in which order, from which row on. Pure.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::board::Board;

/// Views: the overview, then one for each table.
pub(super) const VIEWS: &[&str] = &["overview", "lanes", "providers", "outcomes", "stops", "slowest", "tenants"];
/// Rows that a page key moves by.
const PAGE: usize = 10;
/// How often to look at least and at most; a scrape costs a process about a millisecond.
const INTERVALS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(60)];

/// What the person at the keys has chosen.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Chosen {
    /// Index into [`VIEWS`].
    pub(super) view: usize,
    /// By table: the column, and whether the other way round. `None`: as the table is sorted at first.
    sorted: Vec<Option<(usize, bool)>>,
    /// The first row that is shown.
    pub(super) from: usize,
    pub(super) paused: bool,
    pub(super) help: bool,
    pub(super) interval: Duration,
}

/// What follows a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// Draw again.
    Go,
    /// Look again, now.
    Look,
    /// End.
    Quit,
}

impl Chosen {
    pub(super) fn new(interval: Duration) -> Self {
        let [least, most] = INTERVALS;
        let sorted = vec![None; VIEWS.len() - 1];
        Self { view: 0, sorted, from: 0, paused: false, help: false, interval: interval.clamp(least, most) }
    }

    /// Returns by which column a table is sorted, and whether the other way round.
    pub(super) fn sorting(&self, board: &Board, table: usize) -> (usize, bool) {
        self.sorted[table].unwrap_or((board.tables[table].sorted_by, false))
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent, board: &Board) -> Then {
        if key.kind == KeyEventKind::Release {
            return Then::Go;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Then::Quit,
            KeyCode::Char('q') => return Then::Quit,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc => return Then::Quit,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('r') => return Then::Look,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Tab | KeyCode::Right => self.show((self.view + 1) % VIEWS.len()),
            KeyCode::BackTab | KeyCode::Left => self.show((self.view + VIEWS.len() - 1) % VIEWS.len()),
            KeyCode::Char(digit @ '1'..='9') => self.show(digit as usize - '1' as usize),
            KeyCode::Char('s') => self.sort(board, |(column, _), columns| ((column + 1) % columns, false)),
            KeyCode::Char('o') => self.sort(board, |(column, reversed), _| (column, !reversed)),
            KeyCode::Down | KeyCode::Char('j') => self.scroll(board, 1),
            KeyCode::PageDown => self.scroll(board, PAGE),
            KeyCode::Up | KeyCode::Char('k') => self.from = self.from.saturating_sub(1),
            KeyCode::PageUp => self.from = self.from.saturating_sub(PAGE),
            KeyCode::Home => self.from = 0,
            KeyCode::Char('+') => self.interval = (self.interval / 2).max(INTERVALS[0]),
            KeyCode::Char('-') => self.interval = (self.interval * 2).min(INTERVALS[1]),
            _ => {}
        }
        Then::Go
    }

    fn show(&mut self, view: usize) {
        if view < VIEWS.len() {
            (self.view, self.from) = (view, 0);
        }
    }

    fn scroll(&mut self, board: &Board, rows: usize) {
        let last = self.view.checked_sub(1).map_or(0, |table| board.tables[table].rows.len().saturating_sub(1));
        self.from = (self.from + rows).min(last);
    }

    fn sort(&mut self, board: &Board, next: fn((usize, bool), usize) -> (usize, bool)) {
        if let Some(table) = self.view.checked_sub(1) {
            self.sorted[table] = Some(next(self.sorting(board, table), board.tables[table].columns.len()));
            self.from = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::board::tests::sample;

    fn press(chosen: &mut Chosen, codes: &[KeyCode]) -> Then {
        let press = |code: &KeyCode| chosen.press(KeyEvent::new(*code, KeyModifiers::NONE), &sample());
        codes.iter().map(press).last().unwrap()
    }

    #[test]
    fn every_view_is_a_table_of_the_board() {
        let names: Vec<_> = sample().tables.iter().map(|table| table.name).collect();
        assert_eq!(VIEWS[1..], names);
    }

    #[test]
    fn keys_choose_views_and_orders() {
        let mut chosen = Chosen::new(Duration::from_secs(2));
        press(&mut chosen, &[KeyCode::Tab]);
        assert_eq!((chosen.view, chosen.sorting(&sample(), 0)), (1, (2, false)));
        press(&mut chosen, &[KeyCode::Char('s'), KeyCode::Char('o')]);
        assert_eq!(chosen.sorting(&sample(), 0), (0, true), "after the last column comes the first");
        press(&mut chosen, &[KeyCode::BackTab, KeyCode::BackTab]);
        assert_eq!(VIEWS[chosen.view], "tenants");
        press(&mut chosen, &[KeyCode::Char('2'), KeyCode::Char('9')]);
        assert_eq!(VIEWS[chosen.view], "lanes", "there is no ninth");
        press(&mut chosen, &[KeyCode::Down, KeyCode::PageDown]);
        assert_eq!(chosen.from, 1, "the last of two rows");
        press(&mut chosen, &[KeyCode::Up, KeyCode::Up]);
        assert_eq!(chosen.from, 0);
    }

    #[test]
    fn keys_pause_look_and_end() {
        let mut chosen = Chosen::new(Duration::from_millis(1));
        assert_eq!(chosen.interval, INTERVALS[0]);
        press(&mut chosen, &[KeyCode::Char('p'), KeyCode::Char('-')]);
        assert!(chosen.paused && chosen.interval == 2 * INTERVALS[0]);
        assert_eq!(press(&mut chosen, &[KeyCode::Char('r')]), Then::Look);
        assert_eq!(press(&mut chosen, &[KeyCode::Char('?'), KeyCode::Esc]), Then::Go, "closes the help first");
        assert_eq!(press(&mut chosen, &[KeyCode::Esc]), Then::Quit);
        assert_eq!(press(&mut chosen, &[KeyCode::Char('q')]), Then::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(chosen.press(interrupt, &sample()), Then::Quit);
    }
}
