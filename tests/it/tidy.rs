//! Keeps the code as it was meant: layers, sizes, vendors in their place, words, and a README that tells the truth.

use std::fs;
use std::path::{Path, PathBuf};

use postrider::telemetry::metrics;

/// The layers, lowest first. A module may use those below its layer and nothing beside it; `crash` and `shutdown` lie
/// below the rest of their layer because the metrics listener is a task like any other.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["crash", "disk", "shutdown"],
    &["config", "pb", "seal", "telemetry"],
    &["channel", "ledger", "limits", "policy", "queue"],
    &["admission", "agenda", "dialer", "leave", "receipt", "simulator"],
    &["api", "dispatch", "record"],
    &["app", "cli"],
    &["demo"],
];
/// Macros at the root of the crate, and the module they belong to.
const MACROS: &[(&str, &str)] = &[("rate_limited", "telemetry")];

/// Crates that only one place may name, so that the rest never depends on what lies behind a port.
const VENDORS: &[(&str, &str)] = &[
    ("lapin", "src/queue/amqp"),
    ("deadpool_redis", "src/limits/redis"),
    ("tokio_postgres", "src/ledger/postgres"),
    ("rusqlite", "src/ledger/sqlite"),
    ("rusmpp", "src/channel/sms"),
    ("rustix", "src/disk"),
    ("metrics_exporter_prometheus", "src/telemetry/exporter"),
    ("opentelemetry", "src/telemetry/traces"),
    ("opentelemetry_sdk", "src/telemetry/traces"),
    ("opentelemetry_otlp", "src/telemetry/traces"),
    ("ratatui", "src/cli/top"),
    ("crossterm", "src/cli/top"),
];

/// Most lines of a file without its tests.
const LINES_MAX: usize = 500;

#[test]
fn layers_point_down() {
    let mut wrong = Vec::new();
    for file in rust("src") {
        let name = module_of(&file.path);
        if ["lib", "main"].contains(&name.as_str()) {
            continue;
        }
        let Some(rank) = rank(&name) else {
            wrong.push(format!("{}: `{name}` stands in no layer", file.path.display()));
            continue;
        };
        for used in uses(without_tests(&file.text)) {
            if used != name && self::rank(&used).is_none_or(|below| below >= rank) {
                wrong.push(format!("{}: `{name}` may not use `{used}`", file.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "layers point down, and nothing beside is used:\n{}", wrong.join("\n"));
}

#[test]
fn files_fit_in_the_head() {
    let long = ["src", "load-tests", "benches", "proto"].into_iter().flat_map(rust).filter_map(|file| {
        let lines = without_tests(&file.text).lines().count();
        (lines > LINES_MAX && !is_test(&file.path)).then(|| format!("{}: {lines} lines", file.path.display()))
    });
    nothing(long, "more than 500 lines, tests aside");
}

#[test]
fn every_file_says_what_it_answers() {
    let silent = ["src", "load-tests", "benches", "tests", "proto"].into_iter().flat_map(rust);
    let silent = silent.filter(|file| !file.text.starts_with("//! "));
    nothing(silent.map(|file| file.path.display().to_string()), "no `//!` line at the top");
}

#[test]
fn vendors_stay_behind_their_ports() {
    let mut wrong = Vec::new();
    for file in rust("src") {
        for (vendor, place) in VENDORS {
            // A log filter may name a crate, in quotes.
            let crate_name = format!("{vendor}::");
            let quoted = file.text.matches(&format!("\"{crate_name}")).count();
            let named = paths(&file.text, &crate_name).count() > quoted;
            if named && !text(&file.path).starts_with(place) && !is_test(&file.path) {
                wrong.push(format!("{}: names {vendor}", file.path.display()));
            }
        }
    }
    nothing(wrong.into_iter(), "a vendor outside its place");
}

#[test]
fn metrics_are_counted_through_their_handles() {
    let macros = ["counter!(", "gauge!(", "histogram!("];
    let wrong = rust("src").into_iter().filter(|file| !text(&file.path).starts_with("src/telemetry/"));
    let wrong = wrong.filter(|file| macros.iter().any(|name| file.text.contains(name)));
    nothing(wrong.map(|file| file.path.display().to_string()), "a metric outside the table in telemetry/metrics.rs");
}

#[test]
fn logs_read_like_logs() {
    let mut wrong = Vec::new();
    for file in ["src", "load-tests"].into_iter().flat_map(rust) {
        let code = without_tests(&file.text);
        for level in ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "rate_limited!("] {
            for call in paths(code, level) {
                let Some(line) = last_literal(enclosed(call)) else { continue };
                let mut chars = line.chars();
                let shouts =
                    chars.next().is_some_and(char::is_uppercase) && chars.next().is_some_and(char::is_lowercase);
                if shouts || line.ends_with('.') {
                    wrong.push(format!("{}: {line:?}", file.path.display()));
                }
            }
        }
    }
    nothing(wrong.into_iter(), "a log line is a lowercase fragment without a period");
}

#[test]
fn nothing_is_left_to_do_and_nothing_points_outside() {
    // Spelled in two halves, because this file is read too.
    let words = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X:"),
        concat!("/wo", "rk/"),
        concat!("/tmp/", "w/"),
        concat!("DESI", "GN"),
        concat!("PROMI", "SES"),
        concat!("CHANN", "ELS.md"),
        concat!("STY", "LE.md"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut wrong = Vec::new();
    for place in ["src", "load-tests", "benches", "tests", "proto", "deploy", ".ci"] {
        for file in files(place, &["rs", "toml", "proto", "lua", "sql", "sh", "js", "py", "md", "run"]) {
            wrong.extend(words.iter().filter(|word| file.text.contains(**word)).map(|word| {
                let line = file.text.lines().position(|line| line.contains(word)).unwrap_or_default() + 1;
                format!("{}:{line}: {word}", file.path.display())
            }));
        }
    }
    nothing(wrong.into_iter(), "words that must not be there");
}

#[test]
fn the_readme_tells_the_truth() {
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let mut expected = readme.clone();
    for (marker, table) in [
        ("settings", postrider::config::reference()),
        ("smpp", postrider::config::provider_reference("smpp")),
        ("twilio", postrider::config::provider_reference("twilio")),
        ("aliyun-sms", postrider::config::provider_reference("aliyun-sms")),
        ("tencent-sms", postrider::config::provider_reference("tencent-sms")),
        ("http", postrider::config::provider_reference("http")),
        ("asterisk", postrider::config::provider_reference("asterisk")),
        ("aliyun-voice", postrider::config::provider_reference("aliyun-voice")),
        ("twilio-voice", postrider::config::provider_reference("twilio-voice")),
        ("simulated-trunk", postrider::config::provider_reference("simulated-trunk")),
        ("simulated", postrider::config::provider_reference("simulated")),
        ("wechat", postrider::config::provider_reference("wechat")),
        ("wecom", postrider::config::provider_reference("wecom")),
        ("cap", postrider::config::cap_reference()),
        ("route", postrider::config::route_reference()),
        ("extension", postrider::config::extension_reference()),
        ("metrics", metrics::reference()),
    ] {
        expected = replaced(&expected, marker, &table);
    }
    if std::env::var_os("POSTRIDER_TEST_UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(
        readme == expected,
        "the tables of README.md differ from the code: POSTRIDER_TEST_UPDATE=1 cargo test --test it tidy writes them"
    );
}

fn replaced(readme: &str, marker: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {marker} -->\n"), format!("<!-- /{marker} -->"));
    let parts = readme.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.unwrap_or_else(|| panic!("README.md has no {begin}...{end}"));
    format!("{before}{begin}\n{table}\n{end}{after}")
}

#[test]
fn the_checks_find_what_they_look_for() {
    let code = "use crate::queue::Queue;\nuse crate::{app::App, domain::{ids, job}};\ncrate::rate_limited!(x);\n";
    assert_eq!(uses(code), ["queue", "telemetry", "app", "domain"]);
    assert_eq!(without_tests("fn a() {}\n#[cfg(test)]\nmod tests {\n"), "fn a() {}\n");
    assert_eq!(paths("my_warn!(1) warn!(2) x::warn!(3)", "warn!(").collect::<Vec<_>>(), ["2) x::warn!(3)", "3)"]);
    assert_eq!(last_literal(enclosed("a = f(\"x\"), \"said \\\"so\\\"\") \"later\"")), Some("said \\\"so\\\""));
    assert_eq!(module_of(Path::new("src/queue/amqp.rs")), "queue");
    assert!(is_test(Path::new("src/config/tests.rs")) && !is_test(Path::new("src/config/tree.rs")));
}

struct File {
    /// From the root of the repository.
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain names")
}

fn rust(place: &str) -> Vec<File> {
    files(place, &["rs"])
}

fn files(place: &str, endings: &[&str]) -> Vec<File> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(place)]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "node_modules" {
                open.push(path);
            } else if endings.iter().any(|ending| name == *ending || name.ends_with(&format!(".{ending}"))) {
                let text = fs::read_to_string(&path).unwrap();
                found.push(File { path: path.strip_prefix(root()).unwrap().to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn module_of(path: &Path) -> String {
    let name = path.components().nth(1).expect("a file under src").as_os_str().to_string_lossy().into_owned();
    name.trim_end_matches(".rs").to_owned()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "tests.rs", "contract.rs"].iter().any(|name| part.as_os_str() == *name))
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Returns a file up to its tests.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |end| &text[..end])
}

/// Returns the top modules that code names, in the order of `crate::name`, then of `crate::{..}`.
fn uses(code: &str) -> Vec<String> {
    let ident = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut used: Vec<_> = paths(code, "crate::").map(ident).filter(|name| !name.is_empty()).collect();
    for group in paths(code, "crate::{") {
        let mut depth = 0;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                c if depth == 0
                    && c.is_alphabetic()
                    && !group[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') =>
                {
                    used.push(ident(&group[at..]));
                }
                _ => {}
            }
        }
    }
    let owner = |name: String| {
        let found = MACROS.iter().find(|(known, _)| *known == name);
        found.map_or(name, |(_, module)| (*module).to_owned())
    };
    used.into_iter().map(owner).collect()
}

/// Returns what follows each place where `code` names `word`, not counting longer names that end in it.
fn paths<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(word).filter_map(move |(at, _)| {
        let longer = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        (!longer).then(|| &code[at + word.len()..])
    })
}

/// Returns the text up to the parenthesis that closes it.
fn enclosed(text: &str) -> &str {
    let mut depth = 1;
    let end = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        depth == 0
    });
    end.map_or(text, |(end, _)| &text[..end])
}

fn last_literal(code: &str) -> Option<&str> {
    let quotes: Vec<_> = code.match_indices('"').map(|(at, _)| at).filter(|&at| !code[..at].ends_with('\\')).collect();
    let [.., begin, end] = quotes[..] else { return None };
    code.get(begin + 1..end)
}

#[track_caller]
fn nothing(found: impl Iterator<Item = String>, what: &str) {
    let found: Vec<_> = found.collect();
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}
