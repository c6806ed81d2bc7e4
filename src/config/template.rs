//! Templates and expressions in the settings (minijinja): checked when they are read, not when a job needs them.

use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, escape_formatter};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// What one evaluation may take, in steps of the template engine: far more than any sensible template.
const FUEL: u64 = 50_000;
/// Functions that templates may call.
const FUNCTIONS: &[&str] = &["range", "dict", "namespace", "loop"];

/// How values are written into a template's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Escape {
    /// As JSON: a text with its quotes.
    Json,
    /// As in XML and HTML.
    Markup,
    /// Percent-encoded, as in a path, a query or a form.
    Url,
    /// As it is.
    None,
}

/// A text with `{{ values }}`.
#[derive(Clone, Debug)]
pub struct Template {
    environment: Arc<Environment<'static>>,
}

/// A question to an answer, such as `status == 200 and body.code == 0`.
#[derive(Clone, Debug)]
pub struct Expression(Arc<minijinja::Expression<'static, 'static>>);

/// A template or an expression that can never work.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTemplate {
    /// It does not read.
    #[error("{0}")]
    Syntax(Error),
    /// It names something that there is not.
    #[error("knows no `{name}`; there is {}", .known.join(", "))]
    Unknown {
        /// What it names.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
}

/// A template or an expression that does not work for these values.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(Error);

static EXPRESSIONS: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("utf16", utf16);
    environment
});

const NAME: &str = "template";

// === impl Template ===

impl Template {
    /// Reads a template whose values are among `sample`, and renders it once with them.
    ///
    /// # Errors
    /// [`InvalidTemplate`], with what is wrong with it.
    pub fn new(source: &str, escape: Escape, sample: &[(&'static str, Value)]) -> Result<Self, InvalidTemplate> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(move |_| match escape {
            Escape::Json => AutoEscape::Json,
            Escape::Markup => AutoEscape::Html,
            Escape::Url | Escape::None => AutoEscape::None,
        });
        if escape == Escape::Url {
            environment.set_formatter(|out, state, value| match value.as_str() {
                Some(text) if !value.is_safe() => {
                    let encoded = Value::from_safe_string(utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
                    escape_formatter(out, state, &encoded)
                }
                _ => escape_formatter(out, state, value),
            });
        }
        environment.add_template_owned(NAME, source.to_owned()).map_err(InvalidTemplate::Syntax)?;
        let template = Self { environment: Arc::new(environment) };
        let found = template.environment.get_template(NAME).map_err(InvalidTemplate::Syntax)?;
        known(found.undeclared_variables(false), sample)?;
        template.render(Value::from_pairs(sample.iter().cloned())).map_err(|TemplateError(error)| {
            // A parameter that only some jobs have is no mistake of the template.
            InvalidTemplate::Syntax(error)
        })?;
        Ok(template)
    }

    /// Returns the text with these values.
    ///
    /// # Errors
    /// [`TemplateError`] when a value is not there or does not fit.
    pub fn render(&self, values: Value) -> Result<String, TemplateError> {
        self.environment.get_template(NAME).and_then(|template| template.render(values)).map_err(TemplateError)
    }
}

// === impl Expression ===

impl Expression {
    /// Reads an expression whose values are among `sample`.
    ///
    /// # Errors
    /// [`InvalidTemplate`], with what is wrong with it.
    pub fn new(source: &str, sample: &[(&'static str, Value)]) -> Result<Self, InvalidTemplate> {
        let read = EXPRESSIONS.compile_expression_owned(source.to_owned()).map_err(InvalidTemplate::Syntax)?;
        known(read.undeclared_variables(false), sample)?;
        match read.eval(Value::from_pairs(sample.iter().cloned())) {
            Err(error) if names_nothing(error.kind()) => Err(InvalidTemplate::Syntax(error)),
            // What an answer holds is not known yet.
            Ok(_) | Err(_) => Ok(Self(Arc::new(read))),
        }
    }

    /// Returns whether it holds; what cannot be said does not hold.
    pub fn holds(&self, values: &Value) -> bool {
        self.0.eval(values.clone()).is_ok_and(|value| value.is_true())
    }

    /// Returns what it names as text: a text or a number that is there. Bytes that are no text are one with replacements.
    pub fn text(&self, values: &Value) -> Option<String> {
        let value = self.0.eval(values.clone()).ok()?;
        let text = match value.as_bytes() {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None if value.is_number() => value.to_string(),
            None => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// Returns what it names as a list: its elements, or the one thing that it is; at most `max`.
    pub fn list(&self, values: &Value, max: usize) -> Vec<Value> {
        use minijinja::value::ValueKind;
        match self.0.eval(values.clone()) {
            Ok(value) if value.kind() == ValueKind::Seq => {
                value.try_iter().map(|items| items.take(max).collect()).unwrap_or_default()
            }
            Ok(value) if !value.is_undefined() && !value.is_none() => vec![value],
            Ok(_) | Err(_) => Vec::new(),
        }
    }
}

/// Reads bytes, or a text for which they were taken, as UTF-16, big endian.
fn utf16(value: &Value) -> Result<String, Error> {
    let bytes = value.as_bytes().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "no bytes"))?;
    let units = bytes.chunks(2).map(|pair| pair.iter().fold(0, |unit, &byte| unit << 8 | u16::from(byte)));
    Ok(String::from_utf16_lossy(&units.collect::<Vec<_>>()))
}

fn names_nothing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction | ErrorKind::UnknownMethod
    )
}

fn known(named: impl IntoIterator<Item = String>, sample: &[(&'static str, Value)]) -> Result<(), InvalidTemplate> {
    let there = |name: &String| sample.iter().any(|(known, _)| known == name) || FUNCTIONS.contains(&name.as_str());
    match named.into_iter().filter(|name| !there(name)).min() {
        Some(name) => Err(InvalidTemplate::Unknown { name, known: sample.iter().map(|(known, _)| *known).collect() }),
        None => Ok(()),
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Markup => "markup",
            Self::Url => "url",
            Self::None => "none",
        })
    }
}
