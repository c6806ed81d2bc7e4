//! The template service: what is said, in versions, for every kind.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::{Caller, caller};
use super::convert::{self, Invalid, Problem};
use super::status::Error;
use super::{Ports, tokens};
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;
use crate::domain::template::{TEMPLATES_MAX, Template};
use crate::ledger::{Ledger, Tenant};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// What page tokens of lists are for.
const PURPOSE: &[u8] = b"templates";

/// Stores, shows and fills in templates.
pub(super) struct TemplateStore<Q, L, B> {
    ports: Arc<Ports<Q, L, B>>,
}

impl<Q: Queue, L: Limits, B: Ledger> TemplateStore<Q, L, B> {
    pub(super) fn new(ports: Arc<Ports<Q, L, B>>) -> Self {
        Self { ports }
    }

    async fn put(&self, caller: &Caller, raw: Option<pb::Template>) -> Result<Template, Error> {
        let template = convert::template(raw).map_err(|invalid| invalid.within("template"))?;
        let Ports { templates, ledger, clock, .. } = &*self.ports;
        let tenant = &caller.tenant.id;
        let names = templates.names(tenant);
        if names.len() >= TEMPLATES_MAX && !names.iter().any(|(name, _)| *name == template.name) {
            return Err(Error::TooManyTemplates);
        }
        let stored = templates.put(ledger, tenant, template, clock.now()).await?;
        tracing::info!(%tenant, template = %stored.name, version = stored.version, "template stored");
        Ok(stored)
    }

    /// Returns a version of a template, or the newest in use.
    async fn get(&self, tenant: &TenantId, name: String, version: u32) -> Result<Arc<Template>, Error> {
        let name = convert::named("name", name)?;
        let Ports { templates, ledger, .. } = &*self.ports;
        let found = match version {
            0 => templates.newest(ledger, tenant, &name).await?,
            version => templates.version(ledger, tenant, &name, version).await?,
        };
        found.ok_or(Error::NotFound("template"))
    }

    async fn list(
        &self,
        tenant: &TenantId,
        raw: &pb::ListTemplatesRequest,
    ) -> Result<pb::ListTemplatesResponse, Error> {
        let size = convert::page_size(raw.page_size)? as usize;
        let Ports { templates, ledger, sealer, .. } = &*self.ports;
        let after: Option<Box<str>> = match raw.page_token.as_str() {
            "" => None,
            token => Some(tokens::take_text(sealer, tenant, PURPOSE, ("page_token", token))?),
        };
        let mut names = templates.names(tenant);
        names.retain(|(name, _)| after.as_ref().is_none_or(|after| name > after));
        let more = names.len() > size;
        names.truncate(size);
        let next =
            names.last().filter(|_| more).map(|(last, _)| tokens::give(sealer, tenant, PURPOSE, last.as_bytes()));
        let mut page = Vec::with_capacity(names.len());
        for (name, version) in names {
            let template = templates.version(ledger, tenant, &name, version).await?;
            page.extend(template.map(|template| convert::template_to_pb(&template)));
        }
        Ok(pb::ListTemplatesResponse { templates: page, next_page_token: next.unwrap_or_default() })
    }

    async fn delete(&self, caller: &Caller, name: String) -> Result<(), Error> {
        let name = convert::named("name", name)?;
        let Ports { templates, ledger, clock, .. } = &*self.ports;
        let tenant = &caller.tenant.id;
        if !templates.drop(ledger, tenant, &name, clock.now()).await? {
            return Err(Error::NotFound("template"));
        }
        tracing::info!(%tenant, template = %name, "template taken out of use");
        Ok(())
    }

    async fn preview(
        &self,
        tenant: &Tenant,
        mut raw: pb::PreviewTemplateRequest,
    ) -> Result<pb::PreviewTemplateResponse, Error> {
        let kind = convert::kind_filter("kind", raw.kind)?.ok_or_else(|| Invalid::new("kind", Problem::Missing))?;
        let template = self.get(&tenant.id, std::mem::take(&mut raw.name), raw.version).await?;
        let text = convert::preview(&template, kind, raw)?;
        let routes = self.ports.admission.routes();
        // What no provider carries has a text, and nothing else.
        let (segments, price) = routes.plain(&tenant.id, &tenant.routes, kind).map_or((0, None), |(pool, sender)| {
            let member = tenant.sender_pool(&sender).and_then(|staff| staff.members.first());
            let sender = member.map_or(&*sender, |member| &member.sender);
            let segments = if kind == Kind::Sms { self.ports.segments(&pool, &text, sender) } else { 0 };
            (segments, routes.tariff(&pool).and_then(|tariff| tariff.price))
        });
        let cost = price.map(|price| convert::money_to_pb(price.times(segments.max(1))));
        Ok(pb::PreviewTemplateResponse { text: text.into(), segments, cost })
    }
}

#[tonic::async_trait]
impl<Q: Queue, L: Limits, B: Ledger> pb::template_service_server::TemplateService for TemplateStore<Q, L, B> {
    async fn put_template(
        &self,
        request: Request<pb::PutTemplateRequest>,
    ) -> Result<Response<pb::PutTemplateResponse>, Status> {
        let stored = self.put(&caller(&request)?, request.into_inner().template).await?;
        Ok(Response::new(pb::PutTemplateResponse { template: Some(convert::template_to_pb(&stored)) }))
    }

    async fn get_template(
        &self,
        request: Request<pb::GetTemplateRequest>,
    ) -> Result<Response<pb::GetTemplateResponse>, Status> {
        let caller = caller(&request)?;
        let pb::GetTemplateRequest { name, version } = request.into_inner();
        let template = self.get(&caller.tenant.id, name, version).await?;
        Ok(Response::new(pb::GetTemplateResponse { template: Some(convert::template_to_pb(&template)) }))
    }

    async fn list_templates(
        &self,
        request: Request<pb::ListTemplatesRequest>,
    ) -> Result<Response<pb::ListTemplatesResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.list(&caller.tenant.id, request.get_ref()).await?))
    }

    async fn delete_template(
        &self,
        request: Request<pb::DeleteTemplateRequest>,
    ) -> Result<Response<pb::DeleteTemplateResponse>, Status> {
        self.delete(&caller(&request)?, request.into_inner().name).await?;
        Ok(Response::new(pb::DeleteTemplateResponse {}))
    }

    async fn preview_template(
        &self,
        request: Request<pb::PreviewTemplateRequest>,
    ) -> Result<Response<pb::PreviewTemplateResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.preview(&caller.tenant, request.into_inner()).await?))
    }
}
