//! What a scrape says, parsed: the text format of Prometheus, version 0.0.4 (prometheus.io, "Exposition formats").

use std::collections::HashMap;

/// Most series that are kept of a process; it exports a few hundred.
const SERIES_MAX: usize = 50_000;

/// The labels of a series, in the order in which they were written.
pub(super) type Labels = Vec<(Box<str>, Box<str>)>;

/// All series of one process at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Sample {
    series: HashMap<Box<str>, Vec<(Labels, f64)>>,
}

impl Sample {
    /// Reads a scrape. Lines that do not read are left out: a scrape is looked at, not stored.
    pub(super) fn parse(text: &str) -> Self {
        let mut series: HashMap<Box<str>, Vec<(Labels, f64)>> = HashMap::new();
        for (name, labels, value) in text.lines().filter_map(read).take(SERIES_MAX) {
            series.entry(name.into()).or_default().push((labels, value));
        }
        Self { series }
    }

    /// Returns the series of a metric.
    pub(super) fn of(&self, name: &str) -> &[(Labels, f64)] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns whether these are metrics of ours.
    pub(super) fn is_ours(&self) -> bool {
        self.series.contains_key(crate::telemetry::metrics::BUILD_INFO)
    }
}

/// Returns the value of a label.
pub(super) fn label<'a>(labels: &'a Labels, name: &str) -> &'a str {
    labels.iter().find(|(known, _)| &**known == name).map_or("", |(_, value)| value)
}

fn read(line: &str) -> Option<(&str, Labels, f64)> {
    let line = line.trim();
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with('#') {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (vec![], rest),
    };
    // A timestamp may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// Reads what follows `{`, and returns what follows `}`.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut found = Labels::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((found, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquoted(quoted)?;
        found.push((name.into(), value.into()));
        rest = after;
    }
}

/// Reads up to the closing quote, and returns what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "# HELP a_total x\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"} \\\\ \\n\"} 2.5\nb 4 1700000000\n\
                    c{le=\"+Inf\"} +Inf\nd NaN\n";
        let sample = Sample::parse(text);
        let [(labels, value)] = sample.of("a_total") else { panic!("{sample:?}") };
        assert_eq!((label(labels, "x"), label(labels, "y"), *value), ("1", "q\"} \\ \n", 2.5));
        assert_eq!((label(labels, "z"), sample.of("b")[0].1, sample.of("c")[0].1), ("", 4.0, f64::INFINITY));
        assert!(sample.of("d")[0].1.is_nan() && sample.of("e").is_empty() && !sample.is_ours());
        assert!(Sample::parse("postrider_build_info{version=\"1\"} 1").is_ours());
    }

    #[test]
    fn anything_else_is_left_out() {
        for text in ["", "a", "a{", "a{x=", "a{x=\"1", "a{x=\"1\"", "a{x=\"1\"}", "a one", "{} 1", "a{x=\"\\", " 1"] {
            assert_eq!(Sample::parse(text), Sample::default(), "{text}");
        }
        const LETTERS: [char; 12] = ['a', '{', '}', '=', '"', '\\', ' ', ',', '1', '\n', '#', 'é'];
        let mut chance = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let text: String = (0..chance.usize(..40)).map(|_| LETTERS[chance.usize(..LETTERS.len())]).collect();
            let _no_panic = Sample::parse(&text);
        }
    }
}
