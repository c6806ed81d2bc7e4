//! Jobs that name a stored template.

use std::sync::Arc;

use super::Jobs;
use crate::api::convert::{self, Spec};
use crate::api::status::Error;
use crate::domain::job::Content;
use crate::ledger::{Ledger, Tenant};
use crate::limits::Limits;
use crate::queue::Queue;

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Pins a spec that names a template to its newest version. A call flow that is no template is the provider's own.
    pub(super) async fn named(&self, tenant: &Arc<Tenant>, spec: Spec) -> Result<Spec, Error> {
        let (name, or_provider) = match &spec.content {
            Content::Text(_) => return Ok(spec),
            Content::Template { name, .. } => (name, false),
            Content::Call { flow } => (flow, true),
        };
        let found = self.ports.templates.newest(&self.ports.ledger, &tenant.id, name).await;
        let template = match found {
            Ok(Some(template)) => template,
            // What waits for nobody's answer is not held up by a ledger that is away.
            Ok(None) | Err(_) if or_provider => return Ok(spec),
            Ok(None) => return Err(Error::NotFound("template")),
            Err(error) => return Err(error.into()),
        };
        if convert::nowhere_approved(&template) && spec.kind == crate::domain::job::Kind::Template {
            return Err(Error::NotApproved(template.name.clone()));
        }
        Ok(convert::resolved(spec, template).map_err(|invalid| invalid.within("spec"))?)
    }
}
