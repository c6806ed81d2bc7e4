//! Templates as they are stored: their texts sealed, as the API's own message.

use bytes::Bytes;
use prost::Message as _;

use super::LedgerError;
use super::columns::missing;
use crate::domain::ids::TenantId;
use crate::domain::template::{Approval, AtProvider, Body, Form, Template, Variable};
use crate::domain::time::UnixMicros;
use crate::pb;
use crate::seal::Sealer;

/// A template to be stored: its version is not known yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTemplate {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: Box<str>,
    /// When it is stored.
    pub at: UnixMicros,
    /// What it says, sealed.
    pub sealed: Bytes,
}

/// A version of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TemplateRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: Box<str>,
    /// Its version.
    pub version: u32,
    /// The number of its last change; each change of any template has a higher one.
    pub changed: i64,
    /// When it was stored.
    pub stored_at: UnixMicros,
    /// When it was taken out of use, if it was.
    pub dropped_at: Option<UnixMicros>,
    /// What it says, sealed.
    pub sealed: Bytes,
}

// === impl NewTemplate ===

impl NewTemplate {
    /// Seals a template.
    pub fn new(tenant: &TenantId, template: &Template, at: UnixMicros, sealer: &Sealer) -> Self {
        let sealed = sealer.seal(&shown(template).encode_to_vec(), &aad(tenant, &template.name)).into();
        Self { tenant: tenant.clone(), name: template.name.clone(), at, sealed }
    }
}

// === impl TemplateRow ===

impl TemplateRow {
    /// Opens it.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] when it is not whole or not ours.
    pub fn open(&self, sealer: &Sealer) -> Result<Template, LedgerError> {
        let damaged = || missing("template");
        let plain = sealer.open(&self.sealed, &aad(&self.tenant, &self.name)).map_err(|_| damaged())?;
        let raw = pb::Template::decode(&*plain).map_err(|_| damaged())?;
        let template = stored(raw).ok_or_else(damaged)?;
        Ok(Template { version: self.version, stored_at: self.stored_at, ..template })
    }
}

/// Binds what is sealed to its purpose and place.
fn aad(tenant: &TenantId, name: &str) -> Vec<u8> {
    format!("postrider template 1 {tenant}/{name}").into_bytes()
}

/// Returns a template as the API shows it, but for when it was stored.
pub fn shown(template: &Template) -> pb::Template {
    let variable = |variable: &Variable| pb::TemplateVariable {
        name: variable.name.to_string(),
        r#type: variable.form.as_str().into(),
        length_max: variable.length_max,
        default_value: variable.default_value.to_string(),
    };
    let body = |body: &Body| pb::TemplateBody {
        locale: body.locale.to_string(),
        sms_text: body.sms_text.to_string(),
        call_text: body.call_text.to_string(),
        // A flow is kept as its document, where its start would stand: what it says is no matter of the ledger.
        call_flow: (!body.call_flow.is_empty())
            .then(|| pb::CallFlow { start: body.call_flow.to_string(), ..pb::CallFlow::default() }),
        wecom_text: body.wecom_text.to_string(),
    };
    let at = |at: &AtProvider| pb::ProviderTemplate {
        provider_id: at.provider.to_string(),
        template_id: at.template_id.to_string(),
        approval: approval_to_pb(at.approval).into(),
    };
    pb::Template {
        name: template.name.to_string(),
        version: template.version,
        variables: template.variables.iter().map(variable).collect(),
        bodies: template.bodies.iter().map(body).collect(),
        providers: template.providers.iter().map(at).collect(),
        stored_at: None,
    }
}

/// Returns the template that [`shown`] showed; `None` where it can have shown no such thing.
pub fn stored(raw: pb::Template) -> Option<Template> {
    let variable = |raw: pb::TemplateVariable| {
        Some(Variable {
            name: raw.name.into(),
            form: Form::from_word(&raw.r#type)?,
            length_max: raw.length_max,
            default_value: raw.default_value.into(),
        })
    };
    let body = |raw: pb::TemplateBody| Body {
        locale: raw.locale.into(),
        sms_text: raw.sms_text.into(),
        call_text: raw.call_text.into(),
        call_flow: raw.call_flow.map(|flow| flow.start).unwrap_or_default().into(),
        wecom_text: raw.wecom_text.into(),
    };
    let at = |raw: pb::ProviderTemplate| {
        Some(AtProvider {
            provider: raw.provider_id.parse().ok()?,
            approval: approval_from_pb(raw.approval())?,
            template_id: raw.template_id.into(),
        })
    };
    Some(Template {
        name: raw.name.into(),
        version: raw.version,
        variables: raw.variables.into_iter().map(variable).collect::<Option<_>>()?,
        bodies: raw.bodies.into_iter().map(body).collect(),
        providers: raw.providers.into_iter().map(at).collect::<Option<_>>()?,
        stored_at: UnixMicros(0),
    })
}

fn approval_to_pb(approval: Approval) -> pb::ApprovalState {
    match approval {
        Approval::Draft => pb::ApprovalState::Draft,
        Approval::Pending => pb::ApprovalState::Pending,
        Approval::Approved => pb::ApprovalState::Approved,
        Approval::Rejected => pb::ApprovalState::Rejected,
    }
}

fn approval_from_pb(raw: pb::ApprovalState) -> Option<Approval> {
    match raw {
        pb::ApprovalState::Unspecified => None,
        pb::ApprovalState::Draft => Some(Approval::Draft),
        pb::ApprovalState::Pending => Some(Approval::Pending),
        pb::ApprovalState::Approved => Some(Approval::Approved),
        pb::ApprovalState::Rejected => Some(Approval::Rejected),
    }
}
