//! Draws a board: key figures above, one table or the overview of four below.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, Tabs, Wrap};

use super::board::{self, Board, Cell};
use super::keys::{Chosen, VIEWS};

/// The tables of the overview, by their place in the board.
const OVERVIEW: [usize; 4] = [1, 2, 0, 4];
/// Figures in a line.
const FIGURES: usize = 6;

const HELP: &str = "\
tab, 1-7   another view            s   sort by the next column
arrows     scroll                  o   the other way round
p, space   pause                   r   look now
+, -       look more, less often   q   quit

Rates are those of the last interval, quantiles those of the last minute.
A provider's `may` is what it is believed to carry.";

/// What is drawn.
pub(super) struct Scene<'a> {
    pub(super) board: &'a Board,
    pub(super) chosen: &'a Chosen,
    /// Jobs accepted per second at the last looks, the newest last.
    pub(super) accepted: &'a [u64],
    /// Processes that were asked.
    pub(super) processes: usize,
}

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, scene: &Scene<'_>) {
    let away = u16::try_from(scene.board.away.len().min(3)).unwrap_or(3);
    let rows = [1, 2, away, 1].map(Constraint::Length);
    let [title, figures, away, tabs, body, foot] =
        Layout::vertical([rows[0], rows[1], rows[2], rows[3], Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    draw_title(frame, title, scene);
    draw_figures(frame, figures, scene.board);
    draw_away(frame, away, scene.board);
    let tab_names = VIEWS.iter().enumerate().map(|(index, name)| format!("{} {name}", index + 1));
    let chosen_style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Tabs::new(tab_names).select(scene.chosen.view).highlight_style(chosen_style), tabs);
    match scene.chosen.view.checked_sub(1) {
        Some(table) => draw_table(frame, body, scene, table, scene.chosen.from),
        None => draw_overview(frame, body, scene),
    }
    let hint = "tab view  s sort  o order  p pause  ? help  q quit";
    frame.render_widget(Paragraph::new(hint).style(Style::new().fg(Color::DarkGray)), foot);
    if scene.chosen.help {
        draw_help(frame, body);
    }
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
    let [text, line] = Layout::horizontal([Constraint::Length(54), Constraint::Fill(1)]).areas(area);
    let Scene { board, chosen, processes, .. } = scene;
    let up = processes - board.away.len();
    let state = if chosen.paused { "paused".into() } else { format!("every {:.1} s", chosen.interval.as_secs_f64()) };
    let title = format!("postrider top: {up} of {processes} processes, {state}");
    frame.render_widget(Paragraph::new(title).style(Style::new().add_modifier(Modifier::BOLD)), text);
    let newest = scene.accepted.len().saturating_sub(line.width.into());
    frame.render_widget(Sparkline::default().data(&scene.accepted[newest..]), line);
}

fn draw_figures(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let lines = board.figures.chunks(FIGURES).map(|figures| {
        let spans = figures.iter().flat_map(|(name, cell)| {
            let value = Span::styled(format!("{cell}  "), style_of(name, cell));
            [Span::styled(format!("{} ", name.replace('_', " ")), Style::new().fg(Color::DarkGray)), value]
        });
        Line::from_iter(spans)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

/// Red is what somebody has to look at.
fn style_of(name: &str, cell: &Cell) -> Style {
    let number = cell.number().unwrap_or_default();
    let bad = match name {
        "queue_up" => cell.number() == Some(0.0),
        "limits_recovering" | "dead_letters" => number > 0.0,
        "oldest_due" | "ledger_lag" => number > 60.0,
        _ => false,
    };
    if bad { Style::new().fg(Color::Red).add_modifier(Modifier::BOLD) } else { Style::new() }
}

fn draw_away(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let line = |(at, why): &(String, String)| Line::from(format!("{at} is away: {why}; asking again"));
    let lines: Vec<_> = board.away.iter().take(area.height.into()).map(line).collect();
    frame.render_widget(Paragraph::new(lines).style(Style::new().fg(Color::Red)), area);
}

fn draw_overview(frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
    let halves = Layout::vertical([Constraint::Fill(1); 2]).areas::<2>(area);
    let quarters = halves.map(|half| Layout::horizontal([Constraint::Fill(1); 2]).areas::<2>(half));
    for (area, table) in quarters.into_iter().flatten().zip(OVERVIEW) {
        draw_table(frame, area, scene, table, 0);
    }
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>, index: usize, from: usize) {
    let (column, reversed) = scene.chosen.sorting(scene.board, index);
    let mut table = scene.board.tables[index].clone();
    table.sort(column, reversed);
    let titles = table.columns.iter().enumerate().map(|(index, name)| {
        let mark = if index != column {
            ""
        } else if reversed {
            " ^"
        } else {
            " v"
        };
        format!("{}{mark}", name.replace('_', " "))
    });
    let header = Row::new(titles).style(Style::new().fg(Color::Cyan));
    let rows = table.rows.iter().skip(from).map(|row| {
        let style = if is_bad(row) { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new(row.iter().map(ToString::to_string)).style(style)
    });
    let widths = widths(&table, column);
    let title = match table.rows.len() {
        0 => format!(" {}: nothing yet ", table.name),
        rows => format!(" {} ({rows}) ", table.name),
    };
    let shown = Table::new(rows.collect::<Vec<_>>(), widths)
        .header(header)
        .column_spacing(2)
        .block(Block::bordered().title(title));
    frame.render_widget(shown, area);
}

fn is_bad(row: &[Cell]) -> bool {
    row.iter().any(|cell| matches!(cell, Cell::Text(text) if text == "down" || text == "open"))
}

/// As wide as what stands in a column, within bounds; a mark stands beside the name of the one that is sorted by.
fn widths(table: &board::Table, sorted_by: usize) -> Vec<Constraint> {
    let width = |(index, name): (usize, &&str)| {
        let cells = table.rows.iter().map(|row| row[index].to_string().chars().count());
        let widest = cells.max().unwrap_or_default().max(name.len() + if index == sorted_by { 2 } else { 0 });
        Constraint::Max(u16::try_from(widest.min(40)).unwrap_or(40))
    };
    table.columns.iter().enumerate().map(width).collect()
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let [area] = Layout::horizontal([Constraint::Max(78)]).areas(area);
    let [area] = Layout::vertical([Constraint::Max(10)]).areas(area);
    frame.render_widget(Clear, area);
    let help = Paragraph::new(HELP).wrap(Wrap { trim: false }).block(Block::bordered().title(" keys "));
    frame.render_widget(help, area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::top::board::tests::sample;

    /// Returns what stands on a screen of this size after some keys.
    fn screen((width, height): (u16, u16), keys: &[KeyCode]) -> Vec<String> {
        let (board, mut chosen) = (sample(), Chosen::new(Duration::from_secs(2)));
        for key in keys {
            chosen.press(KeyEvent::new(*key, KeyModifiers::NONE), &board);
        }
        let scene = Scene { board: &board, chosen: &chosen, accepted: &[0, 10, 20], processes: 3 };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &scene)).unwrap();
        let cells = terminal.backend().buffer().content().chunks(width.into());
        cells.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect()
    }

    #[track_caller]
    fn has(screen: &[String], words: &[&str]) {
        let found = screen.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} in:\n{}", screen.join("\n"));
    }

    #[test]
    fn the_overview_shows_figures_lanes_providers_outcomes_and_the_slowest() {
        let screen = screen((160, 40), &[]);
        has(&screen, &["2 of 3 processes", "every 2.0 s"]);
        has(&screen, &["accepted 20/s", "handed over 35/s", "in agenda -"]);
        has(&screen, &["10.0.0.2:9464 is away: connection refused; asking again"]);
        has(&screen, &["1 overview", "7 tenants"]);
        for words in [["marketing", "7"], ["delivered", "30/s"], ["accept a job", "ms"], ["closed", "35/s"]] {
            has(&screen, &words);
        }
    }

    #[test]
    fn a_table_has_the_screen_for_itself() {
        let shown = screen((120, 20), &[KeyCode::Char('3')]);
        has(&shown, &["providers (2)"]);
        has(&shown, &["provider", "handed over v", "answer p99"]);
        has(&shown, &["a", "up", "35/s", "500/s", "12", "closed", "50.0 ms"]);
        let scrolled = screen((120, 20), &[KeyCode::Char('3'), KeyCode::Down]);
        assert!(!scrolled.iter().any(|line| line.contains("closed")), "{scrolled:#?}");
    }

    #[test]
    fn keys_are_explained_and_small_screens_do_no_harm() {
        has(&screen((100, 30), &[KeyCode::Char('?')]), &["sort by the next column"]);
        has(&screen((100, 30), &[KeyCode::Char('p')]), &["paused"]);
        for size in [(1, 1), (20, 5), (300, 2)] {
            for view in 0..VIEWS.len() {
                screen(size, &vec![KeyCode::Tab; view + 1]);
            }
        }
    }
}
