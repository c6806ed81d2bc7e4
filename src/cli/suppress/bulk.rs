//! `postrider suppress import` and `export`: one opt-out a line, `ADDRESS[,SCOPE[,WORD[,KIND]]]`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::super::To;
use super::super::args::Address;
use super::super::connect::Failure;
use super::super::print::{address, word};
use crate::pb;

/// Opt-outs in one request: a few answers a second at most speeds, and far below the service's 10 000.
const REQUEST: usize = 5_000;
/// Bad lines that are printed; more are counted.
const SHOWN_MAX: usize = 1_000;
/// Longest line that can be an opt-out.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// What is known of the file while it is sent.
#[derive(Default)]
struct Sent {
    /// The line of each opt-out of the requests that are not answered yet, and the number of the first.
    open: VecDeque<(usize, Vec<u64>)>,
    /// Lines that are no opt-out, or that the service refused.
    bad: u64,
    shown: Vec<(u64, String)>,
    failure: Option<io::Error>,
}

/// The file on its way.
struct Lines {
    from: BufReader<Box<dyn Read + Send>>,
    line: u64,
    next: usize,
    sent: Arc<Mutex<Sent>>,
    bar: ProgressBar,
}

/// Imports a file, or standard input for `-`. A bad line is told by its number and costs nothing else.
pub(super) async fn import(to: To, path: &Path) -> Result<(), Failure> {
    let unreadable = |error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let (from, bytes): (Box<dyn Read + Send>, u64) = match path.to_str() {
        Some("-") => (Box::new(io::stdin()), 0),
        _ => {
            let file = File::open(path).map_err(unreadable)?;
            let bytes = file.metadata().map_err(unreadable)?.len();
            (Box::new(file), bytes)
        }
    };
    let bar = progress(bytes);
    let sent = Arc::new(Mutex::new(Sent::default()));
    let lines = Lines { from: BufReader::new(from), line: 0, next: 0, sent: Arc::clone(&sent), bar: bar.clone() };
    let requests = stream::unfold(lines, |mut lines| async move { Some((lines.request()?, lines)) });
    let mut answers = to.service.suppressions().import(requests).await?.into_inner();
    let mut added = 0;
    while let Some(answer) = answers.message().await? {
        added = answer.added;
        bar.set_message(format!("{added} added"));
        sent.lock().unwrap_or_else(PoisonError::into_inner).answered(&answer);
    }
    bar.finish_and_clear();
    let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = sent.failure.take() {
        return Err(unreadable(error));
    }
    sent.shown.sort_unstable();
    let lines: Vec<_> = sent.shown.iter().map(|(line, said)| json!({"line": line, "problem": said})).collect();
    to.out.object(&json!({"added": added, "refused": sent.bad, "lines": lines}), || {
        let line = |(line, said): &(u64, String)| format!("line {line}: {said}\n");
        let more = sent.bad.saturating_sub(sent.shown.len() as u64);
        let more = if more > 0 { format!("and {more} more lines\n") } else { String::new() };
        format!("{}{more}{added} opted out", sent.shown.iter().map(line).collect::<String>())
    })?;
    if sent.bad > 0 { Err(Failure::LinesRefused(sent.bad)) } else { Ok(()) }
}

/// Prints every opt-out of the tenant, in the form that an import reads.
pub(super) async fn export(to: To) -> Result<(), Failure> {
    let request = pb::SuppressionServiceExportRequest::default();
    let mut pages = to.service.suppressions().export(request).await?.into_inner();
    let mut out = io::BufWriter::new(io::stdout());
    let bar = progress(0);
    let mut printed = 0_u64;
    while let Some(page) = pages.message().await? {
        for suppression in &page.suppressions {
            writeln!(out, "{}", written(suppression))?;
        }
        printed += page.suppressions.len() as u64;
        bar.set_message(format!("{printed} written"));
    }
    bar.finish_and_clear();
    Ok(out.flush()?)
}

/// Returns a bar on standard error that shows itself on a terminal only.
fn progress(bytes: u64) -> ProgressBar {
    let (bar, template) = match bytes {
        0 => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        bytes => (ProgressBar::new(bytes), "{bar:40} {percent}% {msg}, {eta} left"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

// === impl Lines ===

impl Lines {
    /// Returns the next request; `None` at the end of the file.
    fn request(&mut self) -> Option<pb::SuppressionServiceImportRequest> {
        let (mut suppressions, mut numbers) = (Vec::with_capacity(REQUEST), Vec::with_capacity(REQUEST));
        let sent = Arc::clone(&self.sent);
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        while suppressions.len() < REQUEST {
            let line = match self.read() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    sent.failure = Some(error);
                    break;
                }
            };
            match parse(&line) {
                Ok(Some(suppression)) => {
                    suppressions.push(suppression);
                    numbers.push(self.line);
                }
                // The first line may name the columns.
                Err(_) if self.line == 1 && line.starts_with("address") => {}
                Ok(None) => {}
                Err(said) => sent.refused(self.line, said),
            }
        }
        if suppressions.is_empty() {
            return None;
        }
        sent.open.push_back((self.next, numbers));
        self.next += suppressions.len();
        Some(pb::SuppressionServiceImportRequest { suppressions })
    }

    fn read(&mut self) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        let most = LINE_BYTES_MAX as u64;
        let read = self.from.by_ref().take(most).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        if read == LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
            // Nobody's opt-out: the rest of the line is skipped.
            self.from.skip_until(b'\n')?;
        }
        self.line += 1;
        self.bar.inc(read as u64);
        Ok(Some(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').trim().to_owned()))
    }
}

// === impl Sent ===

impl Sent {
    fn refused(&mut self, line: u64, said: String) {
        self.bad += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push((line, said));
        }
    }

    /// Takes the answer to the oldest open request.
    fn answered(&mut self, answer: &pb::SuppressionServiceImportResponse) {
        let Some((first, lines)) = self.open.pop_front() else { return };
        for refusal in &answer.refusals {
            let number = refusal.field.strip_prefix("suppressions[").and_then(|rest| rest.split_once(']'));
            let number =
                number.and_then(|(number, _)| number.parse::<usize>().ok()).and_then(|at| at.checked_sub(first));
            let line = number.and_then(|at| lines.get(at)).copied().unwrap_or_default();
            self.refused(line, refusal.message.clone());
        }
    }
}

/// Reads a line; `None` for an empty one or a remark.
fn parse(line: &str) -> Result<Option<pb::Suppression>, String> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let fields = fields(line);
    let field = |at: usize| fields.get(at).map_or("", |field| field.trim());
    if fields.len() > 4 {
        return Err(format!("has {} fields; write ADDRESS,SCOPE,WORD,KIND", fields.len()));
    }
    let Address(address) = field(0).parse().map_err(|error| format!("{error}"))?;
    let scope = match field(1) {
        "" => pb::SuppressionScope::Brand,
        word => pb::SuppressionScope::from_str_name(&format!("SUPPRESSION_SCOPE_{}", word.to_ascii_uppercase()))
            .ok_or("the scope is none of sender, signature, topic, brand, everything, global")?,
    };
    let kind = match field(3) {
        "" => pb::Kind::Unspecified,
        word => pb::Kind::from_str_name(&format!("KIND_{}", word.to_ascii_uppercase()))
            .ok_or("the kind is none of sms, template, call")?,
    };
    Ok(Some(pb::Suppression {
        address: Some(address),
        scope: scope.into(),
        word: field(2).to_owned(),
        kind: kind.into(),
        ..pb::Suppression::default()
    }))
}

/// Divides a line at its commas; those between double quotes stay, and two quotes there are one.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// Returns an opt-out as [`parse`] reads it.
fn written(shown: &pb::Suppression) -> String {
    let mut fields = vec![shown.address.as_ref().map_or_else(String::new, address)];
    let scope = word(shown.scope().as_str_name(), "SUPPRESSION_SCOPE_");
    let kind = if shown.kind == 0 { String::new() } else { word(shown.kind().as_str_name(), "KIND_") };
    fields.extend([scope, shown.word.clone(), kind]);
    while fields.len() > 1 && (fields.last().is_some_and(String::is_empty) || *fields == [&fields[0], "brand"]) {
        fields.pop();
    }
    let quoted = |field: &String| {
        if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.clone() }
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_as_it_is_read() {
        for line in [
            "+8613800000000",
            "+8613800000000,everything",
            "+8613800000000,topic,\"sale, \"\"big\"\"\"",
            "+8613800000000,signature,品牌,sms",
            "+8613800000000,brand,,call",
            "wechat:wx1/o-1",
            "wecom:ww1/wm1,sender,shop",
            "chat:wr1",
            "user:zhang",
        ] {
            assert_eq!(parse(line).unwrap().map(|read| written(&read)).as_deref(), Some(line));
        }
    }

    #[test]
    fn a_bad_line_says_what_is_wrong_with_it() {
        for (line, said) in [
            ("13800000000", "write +8613800000000"),
            ("+8613800000000,all", "the scope is none of"),
            ("+8613800000000,brand,,fax", "the kind is none of"),
            ("+8613800000000,brand,,sms,x", "has 5 fields"),
        ] {
            let problem = parse(line).unwrap_err();
            assert!(problem.contains(said), "{line}: {problem}");
        }
        assert_eq!((parse("").unwrap(), parse("# remark").unwrap()), (None, None));
    }
}
