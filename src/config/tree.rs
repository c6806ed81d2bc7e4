//! What was written: defaults, file and environment, laid over each other, each value with its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::error::{ConfigError, Reason};
use super::provider::raw::{DOCUMENTS, RawProvider};
use super::raw::{RawCap, RawExtension, RawRoute, RawSettings, RawWindow};
use crate::crash;

/// In front of every variable that is a setting.
pub(super) const PREFIX: &str = "POSTRIDER_";
/// Variables of that prefix that are no settings.
const OTHER_VARIABLES: &[&str] =
    &["POSTRIDER_CONFIG", "POSTRIDER_ENDPOINT", "POSTRIDER_KEY", "POSTRIDER_METRICS", crash::VARIABLE];
/// A name this similar to a known one (1 is equal) is taken for a slip of the pen.
const SIMILAR: f64 = 0.7;
/// A variable must be more similar: others put variables with our prefix there, such as Kubernetes for a service that is
/// called `postrider`.
const SIMILAR_VARIABLE: f64 = 0.9;

const DEFAULTS: &str = include_str!("defaults.toml");
const WINDOWS: &str = include_str!("windows.toml");
/// The setting that says whether [`WINDOWS`] hold.
const WINDOWS_DEFAULTS: &str = "windows.defaults";
/// The defaults of a cap.
pub(super) const CAP: &str = include_str!("cap.toml");
/// The defaults of a route.
pub(super) const ROUTE: &str = include_str!("route.toml");
/// The defaults of an extension.
pub(super) const EXTENSION: &str = include_str!("extension.toml");

/// What the service runs on when no provider is set.
const FALLBACK: &str = "id = \"simulated\"\nkind = \"simulated\"\n";

/// One setting there is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Its full name, such as `grpc.listen`.
    pub(super) key: String,
    /// Its default.
    pub(super) default: Value,
    /// What it means.
    pub(super) help: String,
}

/// Where a value came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    Default,
    File,
    Environment,
}

/// The settings as written.
#[derive(Clone)]
pub(super) struct Tree {
    entries: Vec<Entry>,
    values: BTreeMap<String, (Value, Origin)>,
    providers: Vec<(&'static str, Table)>,
    windows: Vec<Table>,
    caps: Vec<Table>,
    routes: Vec<Table>,
    extensions: Vec<Table>,
}

/// Returns the settings of a document with defaults, in its order; its comments are their help.
pub(super) fn entries(document: &str) -> Vec<Entry> {
    let values: Table = document.parse().expect("the defaults are TOML");
    let (mut entries, mut section, mut help) = (Vec::new(), String::new(), Vec::new());
    for line in document.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            help.push(comment);
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((name, _value)) = line.split_once(" = ") {
            let key = format!("{section}{name}");
            let default = find(&values, &key).expect("the parser saw this line too").clone();
            entries.push(Entry { key, default, help: std::mem::take(&mut help).join(" ") });
        }
    }
    entries
}

/// Returns the document with the defaults of a provider.
pub(super) fn provider_document(kind: &str) -> Option<&'static str> {
    DOCUMENTS.iter().find(|(known, _)| *known == kind).map(|(_, document)| *document)
}

/// Returns the variable that overrides a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

// === impl Tree ===

impl Tree {
    /// Returns the defaults.
    pub(super) fn defaults() -> Self {
        let entries = entries(DEFAULTS);
        let values = entries.iter().map(|entry| (entry.key.clone(), (entry.default.clone(), Origin::Default)));
        let (providers, windows) = (Vec::new(), Vec::new());
        let (caps, routes, extensions) = (Vec::new(), Vec::new(), Vec::new());
        Self { values: values.collect(), entries, providers, windows, caps, routes, extensions }
    }

    /// Lays a file over what is there.
    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let mut table: Table =
            text.parse().map_err(|error| ConfigError::Syntax { path: path.into(), error: Box::new(error) })?;
        match table.remove("provider") {
            None => {}
            Some(Value::Array(providers)) => {
                for (index, provider) in providers.into_iter().enumerate() {
                    self.add_provider(index, provider)?;
                }
            }
            Some(_) => return Err(wrong_type("provider", "write each provider under [[provider]], with two brackets")),
        }
        match table.remove("window").map(Value::try_into) {
            None => {}
            Some(Ok(windows)) => self.windows = windows,
            Some(Err(_)) => return Err(wrong_type("window", "write each send window under [[window]]")),
        }
        self.caps.append(&mut several(&mut table, ("cap", CAP), "write each cap under [[cap]], with two brackets")?);
        let route = "write each route under [[route]], with two brackets";
        self.routes.append(&mut several(&mut table, ("route", ROUTE), route)?);
        let extension = "write each extension under [[extension]], with two brackets";
        self.extensions.append(&mut several(&mut table, ("extension", EXTENSION), extension)?);
        self.add_table("", table)
    }

    fn add_table(&mut self, section: &str, table: Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{section}{name}");
            let inner = format!("{key}.");
            if let Some(slot) = self.values.get_mut(&key) {
                *slot = (value, Origin::File);
            } else if let (Value::Table(table), true) = (value, self.entries.iter().any(|e| e.key.starts_with(&inner)))
            {
                self.add_table(&inner, table)?;
            } else {
                let meant = closest(&key, self.entries.iter().map(|entry| entry.key.as_str()));
                return Err(ConfigError::Unknown { key, meant });
            }
        }
        Ok(())
    }

    fn add_provider(&mut self, index: usize, written: Value) -> Result<(), ConfigError> {
        let key = |name: &str| format!("provider[{index}].{name}");
        let Value::Table(written) = written else {
            return Err(wrong_type("provider", "write each provider under [[provider]]"));
        };
        let kind = written.get("kind").and_then(Value::as_str).unwrap_or_default();
        let Some(document) = provider_document(kind) else {
            let reason =
                Reason::Word { found: kind.to_owned(), allowed: DOCUMENTS.iter().map(|(kind, _)| *kind).collect() };
            return Err(ConfigError::Invalid { key: key("kind"), reason });
        };
        self.providers.push((document, laid_over(document, written, key)?));
        Ok(())
    }

    /// Returns the extensions, each with all its settings.
    pub(super) fn extensions(&self) -> &[Table] {
        &self.extensions
    }

    /// Returns the extensions in their raw form.
    pub(super) fn raw_extensions(&self) -> Result<Vec<RawExtension>, ConfigError> {
        raw("extension", &self.extensions)
    }

    /// Returns the routes, each with all its settings.
    pub(super) fn routes(&self) -> &[Table] {
        &self.routes
    }

    /// Returns the routes in their raw form.
    pub(super) fn raw_routes(&self) -> Result<Vec<RawRoute>, ConfigError> {
        raw("route", &self.routes)
    }

    /// Returns the caps, each with all its settings.
    pub(super) fn caps(&self) -> &[Table] {
        &self.caps
    }

    /// Returns the caps in their raw form.
    pub(super) fn raw_caps(&self) -> Result<Vec<RawCap>, ConfigError> {
        raw("cap", &self.caps)
    }

    /// Lays the environment over what is there.
    pub(super) fn add_environment(&mut self, environment: &[(String, String)]) -> Result<(), ConfigError> {
        for entry in &self.entries {
            let variable = variable(&entry.key);
            if let Some((_, text)) = environment.iter().find(|(name, _)| *name == variable) {
                let value = read_as(text, &entry.default)
                    .map_err(|expected| wrong_type(&format!("{} (from {variable})", entry.key), expected))?;
                self.values.insert(entry.key.clone(), (value, Origin::Environment));
            }
        }
        let known: Vec<_> = self.entries.iter().map(|entry| variable(&entry.key)).collect();
        for (name, _) in environment.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            if known.contains(name) || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let similar =
                known.iter().find(|known| strsim::normalized_damerau_levenshtein(known, name) > SIMILAR_VARIABLE);
            if let Some(meant) = similar {
                return Err(ConfigError::UnknownVariable { name: name.clone(), meant: meant.clone() });
            }
        }
        Ok(())
    }

    /// Returns every setting with its value and origin, in the order of the defaults.
    pub(super) fn values(&self) -> impl Iterator<Item = (&Entry, &Value, Origin)> {
        self.entries.iter().filter_map(|entry| {
            let (value, origin) = self.values.get(&entry.key)?;
            Some((entry, value, *origin))
        })
    }

    /// Returns the providers, each with the document that its defaults stand in.
    pub(super) fn providers(&self) -> Vec<(&'static str, Table)> {
        if self.providers.is_empty() {
            let document = provider_document("simulated").expect("a kind of provider");
            let mut provider: Table = document.parse().expect("the defaults are TOML");
            provider.extend(FALLBACK.parse::<Table>().expect("a constant"));
            return vec![(document, provider)];
        }
        self.providers.clone()
    }

    /// Returns the send windows that hold, each with its origin: the shipped ones, unless they are switched off or
    /// replaced by one of the same name, and those of the file.
    pub(super) fn windows(&self) -> Result<Vec<(Table, Origin)>, ConfigError> {
        let (value, _) = &self.values[WINDOWS_DEFAULTS];
        let text = value.as_str().ok_or_else(|| wrong_type(WINDOWS_DEFAULTS, "shipped or none is expected"))?;
        let shipped = match text {
            "shipped" => shipped_windows(),
            "none" => vec![],
            other => {
                let reason = Reason::Word { found: other.to_owned(), allowed: vec!["shipped", "none"] };
                return Err(ConfigError::Invalid { key: WINDOWS_DEFAULTS.into(), reason });
            }
        };
        let replaced = |table: &Table| self.windows.iter().any(|own| own.get("name") == table.get("name"));
        let kept = shipped.into_iter().filter(|table| !replaced(table)).map(|table| (table, Origin::Default));
        Ok(kept.chain(self.windows.iter().map(|table| (table.clone(), Origin::File))).collect())
    }

    /// Returns the send windows that hold in their raw form.
    pub(super) fn raw_windows(&self) -> Result<Vec<RawWindow>, ConfigError> {
        let raw = |(table, _): (Table, Origin)| {
            let name = table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            Value::Table(table).try_into().map_err(|error| type_error(&format!("window.{name}."), &error))
        };
        self.windows()?.into_iter().map(raw).collect()
    }

    /// Returns everything in its raw form.
    pub(super) fn raw(&self) -> Result<(RawSettings, Vec<RawProvider>), ConfigError> {
        let mut table = Table::new();
        for (key, (value, _)) in &self.values {
            insert(&mut table, key, value.clone());
        }
        let settings = table.try_into().map_err(|error: toml::de::Error| type_error("", &error))?;
        let provider = |(index, (_, table)): (usize, (&str, Table))| {
            raw_provider(table).map_err(|error| type_error(&format!("provider[{index}]."), &error))
        };
        let providers = self.providers().into_iter().enumerate().map(provider).collect::<Result<_, _>>()?;
        Ok((settings, providers))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the values: passwords are among them.
        f.debug_struct("Tree").field("providers", &self.providers.len()).finish_non_exhaustive()
    }
}

fn shipped_windows() -> Vec<Table> {
    let mut document: Table = WINDOWS.parse().expect("the shipped windows are TOML");
    let windows = document.remove("window").expect("there are windows");
    windows.try_into().expect("each is a table")
}

fn raw_provider(mut table: Table) -> Result<RawProvider, toml::de::Error> {
    // The document has it, and a kind without a document was refused.
    let kind = table.remove("kind").and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
    RawProvider::read(&kind, table).expect("a known kind")
}

/// Takes the tables of one name out of a file, each laid over its document; `how` says how they are written.
fn several(file: &mut Table, (name, document): (&str, &str), how: &str) -> Result<Vec<Table>, ConfigError> {
    match file.remove(name).map(Value::try_into::<Vec<Table>>) {
        None => Ok(vec![]),
        Some(Ok(tables)) => {
            let whole = |(index, table)| laid_over(document, table, |field| format!("{name}[{index}].{field}"));
            tables.into_iter().enumerate().map(whole).collect()
        }
        Some(Err(_)) => Err(wrong_type(name, how)),
    }
}

/// Returns tables of one name in their raw form.
fn raw<T: DeserializeOwned>(name: &str, tables: &[Table]) -> Result<Vec<T>, ConfigError> {
    let raw = |(index, table): (usize, &Table)| {
        let raw = Value::Table(table.clone()).try_into();
        raw.map_err(|error| type_error(&format!("{name}[{index}]."), &error))
    };
    tables.iter().enumerate().map(raw).collect()
}

/// Lays what was written over a document with defaults; `key` names a setting in errors.
fn laid_over(document: &str, written: Table, key: impl Fn(&str) -> String) -> Result<Table, ConfigError> {
    let mut whole: Table = document.parse().expect("the defaults are TOML");
    for (name, value) in written {
        match whole.get_mut(&name) {
            Some(slot) => *slot = value,
            None => {
                let meant = closest(&name, whole.keys().map(String::as_str));
                return Err(ConfigError::Unknown { key: key(&name), meant });
            }
        }
    }
    Ok(whole)
}

/// Reads a variable as the type that a setting has.
fn read_as(text: &str, like: &Value) -> Result<Value, &'static str> {
    match like {
        Value::Integer(_) => text.parse().map(Value::Integer).map_err(|_| "a whole number is expected"),
        Value::Boolean(_) => text.parse().map(Value::Boolean).map_err(|_| "true or false is expected"),
        Value::Float(_) => text.parse().map(Value::Float).map_err(|_| "a number is expected"),
        Value::Array(_) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(Value::Array(words.map(|word| Value::String(word.into())).collect()))
        }
        Value::String(_) | Value::Datetime(_) | Value::Table(_) => Ok(Value::String(text.into())),
    }
}

fn wrong_type(key: &str, expected: &str) -> ConfigError {
    ConfigError::Invalid { key: key.to_owned(), reason: Reason::Type(expected.to_owned()) }
}

/// Says which setting has another type than expected: the error's last line is ``in `key` ``.
fn type_error(section: &str, error: &toml::de::Error) -> ConfigError {
    let text = error.to_string();
    let key = text.lines().rev().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`')).unwrap_or_default();
    wrong_type(&format!("{section}{key}"), error.message())
}

fn closest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |known: &str| {
        // The right name in the wrong section is close too.
        let misplaced = if last(known) == last(key) { SIMILAR + 0.01 } else { 0.0 };
        strsim::normalized_damerau_levenshtein(known, key).max(misplaced)
    };
    let best = known.map(|known| (score(known), known)).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 > SIMILAR).then(|| best.1.to_owned())
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, rest)) => find(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
}
