//! Clouds that the settings describe: a request template, and mappings of answers and callbacks.

use std::sync::Arc;

use minijinja::value::{Object, Serde, Value};

use super::clouds::api;
use super::raw::RawHttp;
use super::{Link, Place, Places, Provider, in_pool, kinds, secret};
use crate::config::check::{TIMEOUTS, duration, invalid, optional, parsed, required, small, word};
use crate::config::error::{ConfigError, Reason};
use crate::config::provider::clouds::Api;
use crate::config::secret::Secret;
use crate::config::template::{Escape, Expression, InvalidTemplate, Template};
use crate::domain::job::{Kind, words};

/// A cloud that the settings describe.
#[derive(Clone, Debug)]
pub struct Custom {
    /// How it is reached.
    pub api: Api,
    /// The method of its requests.
    pub method: Method,
    /// Path and query behind the endpoint.
    pub path: Template,
    /// Headers.
    pub headers: Vec<(Box<str>, Template)>,
    /// Type of the body.
    pub content_type: Box<str>,
    /// The body.
    pub body: Template,
    /// What the templates know as `secret`.
    pub secret: Secret,
    /// The sender when a job names none; empty: none.
    pub sender: Box<str>,
    /// Longest text in characters.
    pub text_max: usize,
    /// What its answers mean.
    pub answers: Answers,
    /// What its callbacks mean; `None`: it has none.
    pub callbacks: Option<Callbacks>,
}

/// What answers mean.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Not now.
    pub throttled: Option<Expression>,
    /// Never.
    pub refused: Option<Expression>,
    /// Not taken, but not the job's fault.
    pub not_sent: Option<Expression>,
    /// Taken.
    pub taken: Option<Expression>,
    /// The cloud's id of the message.
    pub message_id: Option<Expression>,
    /// The code of a refusal.
    pub code: Option<Expression>,
}

/// What callbacks mean.
#[derive(Clone, Debug)]
pub struct Callbacks {
    /// The secret at the end of their path.
    pub token: Secret,
    /// The method of their requests.
    pub method: Method,
    /// What is reported.
    pub items: Option<Expression>,
    /// The cloud's id of the message.
    pub message_id: Option<Expression>,
    /// Our reference.
    pub job: Option<Expression>,
    /// Delivered.
    pub delivered: Option<Expression>,
    /// Never to be delivered.
    pub undelivered: Option<Expression>,
    /// Why.
    pub code: Option<Expression>,
    /// Who wrote.
    pub from: Option<Expression>,
    /// To which number.
    pub to: Option<Expression>,
    /// What.
    pub text: Option<Expression>,
    /// What a callback is answered with.
    pub answer: Box<str>,
}

words! {
    /// The method of a request.
    Method {
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// GET.
        Get = "GET",
    }
}

/// A job's parameters where no job is known: every name has a value.
#[derive(Debug)]
struct AnyParam;

impl Object for AnyParam {
    fn get_value(self: &Arc<Self>, _name: &Value) -> Option<Value> {
        Some("sample".into())
    }
}

/// More characters than any text message has.
const TEXT_MAX: u32 = 5_000;

pub(super) fn custom(
    raw: &RawHttp,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Provider, ConfigError> {
    let key = |name: &str| place.key(name);
    let places = Places { name: "secret", plain: &raw.secret, variable: &raw.secret_env, file: &raw.secret_file };
    let template = |name: &str, source: &str, escape| {
        Template::new(source, escape, &job_sample()).map_err(|error| wrong(&key(name), error))
    };
    let header = |(name, source): (&String, &String)| {
        let lower = name.to_ascii_lowercase();
        let plain = !lower.is_empty() && lower.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !plain {
            return Err(invalid(&key("headers"), Reason::Characters("letters, digits and `-` in its names")));
        }
        Ok((lower.into(), template(&format!("headers.{name}"), source, Escape::None)?))
    };
    let link = Custom {
        api: api(place, (&raw.endpoint, &raw.tls_ca), (raw.connections, raw.window))?,
        method: word(&key("method"), &raw.method, Method::ALL, Method::as_str)?,
        path: template("path", required(&key("path"), &raw.path)?, Escape::Url)?,
        headers: raw.headers.iter().map(header).collect::<Result<_, _>>()?,
        content_type: raw.content_type.as_str().into(),
        body: template("body", &raw.body, escape(&raw.content_type))?,
        secret: Secret::new(&secret(&places, place, environment)?),
        sender: raw.sender.as_str().into(),
        text_max: small(&key("text_max"), raw.text_max, TEXT_MAX)?.get() as usize,
        answers: answers(raw, place)?,
        callbacks: callbacks(raw, place, environment)?,
    };
    if raw.receipts {
        for (name, text) in
            [("callback_token", link.callbacks.is_some()), ("callback_delivered", !raw.callback_delivered.is_empty())]
        {
            if !text {
                return Err(invalid(&key(name), Reason::Needed("`receipts` is true")));
            }
        }
        if raw.callback_job.is_empty() && (raw.callback_message_id.is_empty() || raw.message_id.is_empty()) {
            let reason = Reason::Needed("a receipt must name its job: or set `message_id` and `callback_message_id`");
            return Err(invalid(&key("callback_job"), reason));
        }
    }
    Ok(Provider {
        id: parsed(&key("id"), &raw.id)?,
        pool: parsed(&key("pool"), &raw.pool)?,
        in_pool: in_pool(place, raw.order, raw.weight)?,
        kinds: kinds(&key("kinds"), &raw.kinds, &[Kind::Sms])?,
        rate: optional(&raw.rate, |text| parsed(&key("rate"), text))?,
        price: optional(&raw.price, |text| parsed(&key("price"), text))?,
        receipts: raw.receipts,
        response_timeout: duration(&key("response_timeout"), &raw.response_timeout, TIMEOUTS)?,
        link: Link::Custom(Box::new(link)),
    })
}

fn answers(raw: &RawHttp, place: &Place<'_>) -> Result<Answers, ConfigError> {
    let sample = [("status", Value::from(200)), ("body", Value::from(Serde(serde_json::json!({}))))];
    let expression = |name: &str, source: &str| expression(place, name, source, &sample);
    Ok(Answers {
        throttled: expression("throttled", &raw.throttled)?,
        refused: expression("refused", &raw.refused)?,
        not_sent: expression("not_sent", &raw.not_sent)?,
        taken: Some(expression("taken", required(&place.key("taken"), &raw.taken)?)?).flatten(),
        message_id: expression("message_id", &raw.message_id)?,
        code: expression("code", &raw.code)?,
    })
}

fn callbacks(
    raw: &RawHttp,
    place: &Place<'_>,
    environment: &[(String, String)],
) -> Result<Option<Callbacks>, ConfigError> {
    let Some(token) = super::clouds::callback_token(
        (&raw.callback_token, &raw.callback_token_env, &raw.callback_token_file),
        place,
        environment,
    )?
    else {
        return Ok(None);
    };
    let empty = || Value::from(Serde(serde_json::json!({})));
    let sample = [("body", empty()), ("query", empty()), ("item", empty())];
    let expression = |name: &str, source: &str| expression(place, name, source, &sample);
    Ok(Some(Callbacks {
        token,
        method: word(&place.key("callback_method"), &raw.callback_method, Method::ALL, Method::as_str)?,
        items: self::expression(place, "callback_items", &raw.callback_items, &sample[..2])?,
        message_id: expression("callback_message_id", &raw.callback_message_id)?,
        job: expression("callback_job", &raw.callback_job)?,
        delivered: expression("callback_delivered", &raw.callback_delivered)?,
        undelivered: expression("callback_undelivered", &raw.callback_undelivered)?,
        code: expression("callback_code", &raw.callback_code)?,
        from: expression("callback_from", &raw.callback_from)?,
        to: expression("callback_to", &raw.callback_to)?,
        text: expression("callback_text", &raw.callback_text)?,
        answer: raw.callback_answer.as_str().into(),
    }))
}

fn expression(
    place: &Place<'_>,
    name: &str,
    source: &str,
    sample: &[(&'static str, Value)],
) -> Result<Option<Expression>, ConfigError> {
    optional(source, |source| Expression::new(source, sample).map_err(|error| wrong(&place.key(name), error)))
}

/// Returns what request templates know, with values that a job could have.
fn job_sample() -> Vec<(&'static str, Value)> {
    vec![
        ("to", "+8613800000000".into()),
        ("digits", "8613800000000".into()),
        ("text", "sample".into()),
        ("unicode", false.into()),
        ("sender", "sample".into()),
        ("extension", "01".into()),
        ("job", "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11".into()),
        ("attempt", 1.into()),
        ("class", "marketing".into()),
        ("validity", 60.into()),
        ("params", Value::from_object(AnyParam)),
        ("callback", "https://example.com/callback/sample".into()),
        ("secret", "sample".into()),
    ]
}

fn escape(content_type: &str) -> Escape {
    let plain = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match plain.as_str() {
        "application/x-www-form-urlencoded" => Escape::Url,
        json if json == "application/json" || json.ends_with("+json") => Escape::Json,
        xml if xml.ends_with("/xml") || xml.ends_with("+xml") => Escape::Markup,
        _ => Escape::None,
    }
}

fn wrong(key: &str, error: InvalidTemplate) -> ConfigError {
    invalid(key, Reason::Template(Box::new(error)))
}
