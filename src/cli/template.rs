//! `postrider template`.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use super::To;
use super::args::Pair;
use super::connect::Failure;
use super::print::{self, word};
use crate::pb;

pub(super) const EXAMPLES: &str = "\
A template, in TOML or JSON:
  name = \"order-shipped\"
  variables = [{ name = \"order\", type = \"character_string\" }, { name = \"shop\", default = \"Pudong\" }]
  [[bodies]]
  locale = \"zh-CN\"
  sms_text = \"【Acme】订单{order}已从{shop}发货\"
  wecom_text = \"您的订单{order}已发货\"
  call_text = \"您的订单{order}已发货\"
  [[bodies]]
  locale = \"en\"
  sms_text = \"Your order {order} has left {shop}\"
  [[providers]]
  provider = \"aliyun\"
  template_id = \"SMS_153055065\"
  approval = \"approved\"

Types: text, thing, number, letter, symbol, character_string, time, date, amount, phone_number, car_number, name, phrase.
Approvals: draft, pending, approved, rejected.

Examples:
  postrider template put order-shipped.toml
  postrider template preview order-shipped --kind sms --locale en --param order=A42
  postrider submit sms --template order-shipped --param order=A42 --to +8613800000000
  postrider template list";

/// Largest file that is read: the service takes no larger templates.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Entries asked for at once.
const PAGE: i32 = 1_000;

/// What to do with templates.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Store new versions
    Put {
        /// The files: *.json is JSON, all others are TOML; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show a template
    Get {
        /// Its name
        name: String,
        /// Its version; without it, the newest in use
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        version: u32,
    },
    /// List the templates in use
    List,
    /// Take a template out of use; jobs that wait keep their version
    Delete {
        /// Its name
        name: String,
    },
    /// Fill a template in, sending nothing
    Preview(Preview),
}

/// What to fill in, and with what.
#[derive(Args, Debug)]
pub struct Preview {
    /// Its name
    name: String,
    /// By which means
    #[arg(long, value_enum, default_value = "sms")]
    kind: Kind,
    /// Its version; without it, the newest in use
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    version: u32,
    /// BCP 47 locale, such as zh-CN; without it, the template's first
    #[arg(long, default_value = "", hide_default_value = true)]
    locale: String,
    /// A value for a placeholder: NAME=VALUE
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<Pair>,
}

/// By which means.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A text message
    Sms,
    /// A template message
    Template,
    /// A call
    Call,
}

/// A template as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: String,
    #[serde(default)]
    variables: Vec<Variable>,
    bodies: Vec<Body>,
    #[serde(default)]
    providers: Vec<AtProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    #[serde(default, rename = "type")]
    form: String,
    #[serde(default)]
    length_max: u32,
    #[serde(default)]
    default: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Body {
    locale: String,
    sms_text: String,
    call_text: String,
    wecom_text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtProvider {
    provider: String,
    template_id: String,
    approval: String,
}

impl Command {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        match self {
            Self::Put { files } => {
                for file in files {
                    let template = Some(read(&file)?);
                    let stored = to.service.templates().put_template(pb::PutTemplateRequest { template }).await?;
                    let stored = stored.into_inner().template.unwrap_or_default();
                    to.out.object(&shown(&stored), || format!("{} version {}", stored.name, stored.version))?;
                }
            }
            Self::Get { name, version } => {
                let found = to.service.templates().get_template(pb::GetTemplateRequest { name, version }).await?;
                let found = shown(&found.into_inner().template.unwrap_or_default());
                to.out.object(&found, || serde_json::to_string_pretty(&found).unwrap_or_default())?;
            }
            Self::List => to.out.list(&["name", "version", "locales", "variables", "stored_at"], &list(&to).await?)?,
            Self::Delete { name } => {
                to.service.templates().delete_template(pb::DeleteTemplateRequest { name: name.clone() }).await?;
                to.out.object(&json!({"name": name, "deleted": true}), || format!("{name} is out of use"))?;
            }
            Self::Preview(Preview { name, kind, version, locale, params }) => {
                let kind = kind.to_pb().into();
                let params = params.into_iter().map(|Pair(name, value)| (name, value)).collect();
                let request = pb::PreviewTemplateRequest { name, version, kind, locale, params };
                let preview = to.service.templates().preview_template(request).await?.into_inner();
                preview_shown(&to, &preview)?;
            }
        }
        Ok(())
    }
}

impl Kind {
    fn to_pb(self) -> pb::Kind {
        match self {
            Self::Sms => pb::Kind::Sms,
            Self::Template => pb::Kind::Template,
            Self::Call => pb::Kind::Call,
        }
    }
}

async fn list(to: &To) -> Result<Vec<Value>, Failure> {
    let (mut rows, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListTemplatesRequest { page_size: PAGE, page_token };
        let page = to.service.templates().list_templates(request).await?.into_inner();
        rows.extend(page.templates.iter().map(shown));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(rows);
        }
    }
}

fn preview_shown(to: &To, preview: &pb::PreviewTemplateResponse) -> io::Result<()> {
    let cost = preview.cost.as_ref().map(|cost| json!({"currency": cost.currency, "micros": cost.micros}));
    let segments = (preview.segments > 0).then_some(preview.segments);
    to.out.object(&json!({"text": preview.text, "segments": segments, "cost": cost}), || {
        let segments = segments.map_or(String::new(), |segments| format!("\n({segments} segments)"));
        format!("{}{segments}", preview.text)
    })
}

/// Reads a template from a file.
fn read(file: &Path) -> Result<pb::Template, Failure> {
    let wrong = |what: &dyn std::fmt::Display| Failure::Usage(format!("{}: {what}", file.display()));
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)),
    };
    read.map_err(|error| wrong(&error))?;
    let json = file.extension().is_some_and(|extension| extension == "json") || text.trim_start().starts_with('{');
    let document: Document = match json {
        true => serde_json::from_str(&text).map_err(|error| wrong(&error))?,
        false => toml::from_str(&text).map_err(|error| wrong(&error))?,
    };
    document.into_pb().map_err(|error| wrong(&error))
}

impl Document {
    fn into_pb(self) -> Result<pb::Template, String> {
        let variable = |variable: Variable| pb::TemplateVariable {
            name: variable.name,
            r#type: variable.form,
            length_max: variable.length_max,
            default_value: variable.default,
        };
        let body = |Body { locale, sms_text, call_text, wecom_text }| pb::TemplateBody {
            locale,
            sms_text,
            call_text,
            call_flow: None,
            wecom_text,
        };
        let at = |at: AtProvider| {
            let name = format!("APPROVAL_STATE_{}", at.approval.to_ascii_uppercase());
            let approval = pb::ApprovalState::from_str_name(&name)
                .ok_or_else(|| format!("approval is draft, pending, approved or rejected, not {:?}", at.approval))?;
            let (provider_id, template_id) = (at.provider, at.template_id);
            Ok::<_, String>(pb::ProviderTemplate { provider_id, template_id, approval: approval.into() })
        };
        Ok(pb::Template {
            name: self.name,
            variables: self.variables.into_iter().map(variable).collect(),
            bodies: self.bodies.into_iter().map(body).collect(),
            providers: self.providers.into_iter().map(at).collect::<Result<_, _>>()?,
            ..pb::Template::default()
        })
    }
}

/// Shows a template in the form of its file, with what the service added.
fn shown(template: &pb::Template) -> Value {
    let text = |name: &str, text: &str| (!text.is_empty()).then(|| (name.to_owned(), json!(text)));
    let variable = |variable: &pb::TemplateVariable| {
        let mut shown = json!({"name": variable.name, "type": variable.r#type, "length_max": variable.length_max});
        if !variable.default_value.is_empty() {
            shown["default"] = json!(variable.default_value);
        }
        shown
    };
    let body = |body: &pb::TemplateBody| -> Value {
        let texts = [
            text("locale", &body.locale),
            text("sms_text", &body.sms_text),
            text("call_text", &body.call_text),
            text("wecom_text", &body.wecom_text),
        ];
        texts.into_iter().flatten().collect::<serde_json::Map<_, _>>().into()
    };
    let at = |at: &pb::ProviderTemplate| {
        let approval = word(at.approval().as_str_name(), "APPROVAL_STATE_");
        json!({"provider": at.provider_id, "template_id": at.template_id, "approval": approval})
    };
    json!({
        "name": template.name,
        "version": template.version,
        "stored_at": print::time(template.stored_at.as_ref()),
        "locales": template.bodies.iter().map(|body| body.locale.as_str()).collect::<Vec<_>>(),
        "variables": template.variables.iter().map(variable).collect::<Vec<_>>(),
        "bodies": template.bodies.iter().map(body).collect::<Vec<_>>(),
        "providers": template.providers.iter().map(at).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document in the manual, as TOML.
    fn manual() -> String {
        let lines = EXAMPLES.lines().skip(1).take_while(|line| !line.is_empty());
        lines.map(|line| format!("{}\n", line.trim_start())).collect()
    }

    #[test]
    fn the_document_of_the_manual_is_read() {
        let document: Document = toml::from_str(&manual()).unwrap();
        let template = document.into_pb().unwrap();
        assert_eq!((template.variables.len(), template.bodies.len(), template.providers.len()), (2, 2, 1));
        assert_eq!(template.variables[1].default_value, "Pudong");
        assert_eq!(shown(&template)["bodies"][1]["locale"], "en");
    }

    #[test]
    fn what_a_document_does_not_know_is_refused() {
        let extra = manual().replace("locale = \"en\"", "language = \"en\"");
        assert!(toml::from_str::<Document>(&extra).is_err());
        let odd = manual().replace("\"approved\"", "\"perhaps\"");
        assert!(toml::from_str::<Document>(&odd).unwrap().into_pb().is_err());
    }
}
