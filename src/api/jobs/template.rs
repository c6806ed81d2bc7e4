//! Jobs that name a stored template.

use std::sync::Arc;

use super::Jobs;
use crate::api::convert::{self, Spec};
use crate::api::status::Error;
use crate::domain::job::{Content, Kind};
use crate::domain::template::Template;
use crate::ledger::{Ledger, Tenant};
use crate::limits::Limits;
use crate::queue::Queue;

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Pins a spec, and what follows it, to the newest versions of the templates that they name.
    pub(super) async fn named(&self, tenant: &Arc<Tenant>, mut spec: Spec) -> Result<Spec, Error> {
        if let Some((content, template)) =
            self.pin(tenant, spec.kind, &spec.content).await.map_err(|e| e.within("spec"))?
        {
            (spec.content, spec.template) = (content, Some(template));
        }
        for (index, step) in spec.fallback.iter_mut().enumerate() {
            let pinned = self.pin(tenant, step.kind, &step.content).await;
            if let Some((content, template)) = pinned.map_err(|e| e.within(&format!("spec.fallback[{index}]")))? {
                (step.content, step.template) = (content, Some(template));
            }
        }
        Ok(spec)
    }

    /// Returns the pinned content, and the template. A call flow that is no template is the provider's own.
    async fn pin(
        &self,
        tenant: &Arc<Tenant>,
        kind: Kind,
        content: &Content,
    ) -> Result<Option<(Content, Arc<Template>)>, Error> {
        let (name, or_provider) = match content {
            Content::Text(_) => return Ok(None),
            Content::Template { name, .. } => (name, false),
            // Its flow comes with it.
            Content::Call { flow, .. } if flow.is_empty() => return Ok(None),
            Content::Call { flow, .. } => (flow, true),
        };
        let template = match self.ports.templates.newest(&self.ports.ledger, &tenant.id, name).await {
            Ok(Some(template)) => template,
            // What waits for nobody's answer is not held up by a ledger that is away.
            Ok(None) | Err(_) if or_provider => return Ok(None),
            Ok(None) => return Err(Error::NotFound("template")),
            Err(error) => return Err(error.into()),
        };
        if kind == Kind::Template && convert::nowhere_approved(&template) {
            return Err(Error::NotApproved(template.name.clone()));
        }
        Ok(Some((convert::pinned(kind, content, &template)?, template)))
    }
}
