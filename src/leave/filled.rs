//! What a job says to its recipient, filled in.

use std::sync::Arc;

use crate::channel::{Filled, Handover};
use crate::domain::job::{Content, Job, Kind, Shared};
use crate::domain::template::{Body, Template};
use crate::domain::text;
use crate::domain::time::UnixMicros;
use crate::ledger::Templates;

/// Values by name.
type Params = Vec<(Box<str>, Box<str>)>;

/// Returns the hand-over of a job that is due at `due_at`; `template` is what it names, if it names a stored one.
pub fn handover(shared: &Shared, job: &Job, due_at: UnixMicros, template: Option<&Arc<Template>>) -> Handover {
    let filled = template.map(|template| fill(template, shared, job));
    let (params, filled) = filled.map_or_else(|| (job.params.clone(), None), |(params, filled)| (params, Some(filled)));
    let content = match (&shared.content, &filled) {
        (Content::Text(text), _) => Content::Text(text::fill(text, &job.params).into()),
        (Content::Template { .. }, Some(filled)) if shared.kind == Kind::Sms => Content::Text(filled.text.clone()),
        (other, _) => other.clone(),
    };
    Handover {
        job: job.id,
        attempt: job.attempt.saturating_add(1),
        kind: shared.kind,
        class: shared.class,
        recipient: Arc::new(job.recipient.clone()),
        sender: shared.sender.clone(),
        content,
        params,
        template: filled,
        validity: shared.expires_at.since(due_at),
        expires_at: shared.expires_at,
        extension: None,
        call: None,
    }
}

fn fill(template: &Arc<Template>, shared: &Shared, job: &Job) -> (Params, Filled) {
    let wanted = match &shared.content {
        Content::Template { locale, .. } if !locale.is_empty() => locale,
        Content::Template { .. } | Content::Text(_) | Content::Call { .. } => {
            job.recipient.locale.as_deref().unwrap_or_default()
        }
    };
    let values = template.values(&job.params);
    let body = template.body(wanted, shared.kind);
    let text = body.map(|body| body.filled(shared.kind, &values)).unwrap_or_default();
    let locale = body.map_or_else(Box::default, |Body { locale, .. }| locale.clone());
    (values, Filled { template: Arc::clone(template), locale, text, id: None })
}

/// Returns the template that jobs name, if it is in memory.
pub fn known(templates: &Templates, shared: &Shared) -> Option<Arc<Template>> {
    match &shared.content {
        Content::Template { name, version, .. } => templates.known_version(&shared.tenant, name, *version),
        Content::Text(_) | Content::Call { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::JobId;
    use crate::domain::job::{Class, samples};
    use crate::domain::recipient::Recipient;
    use crate::domain::template::{Approval, AtProvider, Form, Variable};

    fn template() -> Arc<Template> {
        let body = |locale: &str, text: &str| Body {
            locale: locale.into(),
            sms_text: text.into(),
            wecom_text: text.into(),
            ..Body::default()
        };
        let variable = |name: &str, default: &str| Variable {
            name: name.into(),
            form: Form::Thing,
            length_max: 20,
            default_value: default.into(),
        };
        let at = AtProvider {
            provider: "cloud".parse().unwrap(),
            template_id: "SMS_1".into(),
            approval: Approval::Approved,
        };
        Arc::new(Template {
            name: "order".into(),
            version: 3,
            variables: vec![variable("order", ""), variable("shop", "Pudong")],
            bodies: vec![body("en", "{order} from {shop}"), body("zh", "{shop}的{order}")],
            providers: vec![at],
            stored_at: UnixMicros(0),
        })
    }

    fn handed(kind: Kind, locale: &str, speaks: Option<&str>) -> Handover {
        let (name, version, signature) = ("order".into(), 3, "".into());
        let content = Content::Template { name, version, locale: locale.into(), signature, plan: Arc::default() };
        let shared = Shared { kind, content, ..samples::shared(Class::Otp, UnixMicros(0)) };
        let recipient = Recipient { locale: speaks.map(Into::into), ..Recipient::default() };
        let params = vec![("order".into(), "A42".into())];
        let job = Job { params, ..samples::job(JobId::new(UnixMicros(0), 1), recipient) };
        handover(&shared, &job, UnixMicros(0), Some(&template()))
    }

    #[test]
    fn the_jobs_locale_goes_before_the_recipients_and_that_before_the_templates() {
        let text = |locale, speaks| match handed(Kind::Sms, locale, speaks).content {
            Content::Text(text) => text,
            Content::Template { .. } | Content::Call { .. } => "none".into(),
        };
        assert_eq!(&*text("", None), "A42 from Pudong");
        assert_eq!(&*text("", Some("zh-CN")), "Pudong的A42");
        assert_eq!(&*text("en", Some("zh-CN")), "A42 from Pudong");
    }

    #[test]
    fn an_adapter_finds_the_vendors_id_and_every_value_in_order() {
        let handed = handed(Kind::Template, "zh", None);
        assert!(matches!(handed.content, Content::Template { .. }) && handed.template_id().is_none());
        let handed = handed.through(&"cloud".parse().unwrap(), Some("01"));
        assert_eq!((handed.template_id(), handed.extension.as_deref()), (Some("SMS_1"), Some("01")));
        assert_eq!(handed.params, [("order".into(), "A42".into()), ("shop".into(), "Pudong".into())]);
        let filled = handed.template.as_ref().unwrap();
        assert_eq!((&*filled.text, &*filled.locale), ("Pudong的A42", "zh"));
        assert!(handed.clone().through(&"other".parse().unwrap(), None).template_id().is_none());
    }
}
