//! Jobs that follow from calls, on their way through admission like any other.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ring::digest::{SHA256, digest};

use super::{Base, SharedLimits};
use crate::admission::{Admission, Batch, Item, Refusal, Request, Start};
use crate::channel::call::{Followed, asks};
use crate::domain::call::Skill;
use crate::domain::job::{Content, Kind};
use crate::domain::keys::Fingerprint;
use crate::domain::text;
use crate::ledger::{AnyLedger, Directory, Templates};
use crate::queue::AnyQueue;
use crate::receipt::{self, NotFollowed};

type Params = Vec<(Box<str>, Box<str>)>;

/// What a job says.
struct Said {
    content: Content,
    asks: Vec<Skill>,
    params: Params,
}

pub(super) struct FollowUps {
    admission: Admission<AnyQueue, SharedLimits, AnyLedger>,
    directory: Directory,
    ledger: AnyLedger,
    templates: Templates,
}

impl FollowUps {
    pub(super) fn new(base: &Base) -> Self {
        Self {
            admission: base.admission(),
            directory: base.directory.clone(),
            ledger: base.ledger.clone(),
            templates: base.templates.clone(),
        }
    }

    /// Returns the template that a job is to use, and what of the call fills it.
    async fn content(&self, Followed { shared, follow_up, .. }: &Followed) -> Result<Said, NotFollowed> {
        let never = |why: String| NotFollowed::Never(why.into());
        let found = self.templates.newest(&self.ledger, &shared.tenant, &follow_up.template).await;
        let found = found.map_err(|error| NotFollowed::NotNow(error.to_string().into()))?;
        let template = found.ok_or_else(|| never(format!("there is no template {}", follow_up.template)))?;
        let body = template.body("", follow_up.kind);
        let body = body.ok_or_else(|| never(format!("the template says nothing by {}", follow_up.kind)))?;
        let known = |name: &str| template.variables.iter().any(|variable| *variable.name == *name);
        let params: Params = follow_up.params.iter().filter(|(name, _)| known(name)).cloned().collect();
        if template.check(&params).is_err() {
            return Err(never(format!("the call has no value that fits for a variable of {}", follow_up.template)));
        }
        let signature = text::signature(body.text(Kind::Sms)).filter(|_| follow_up.kind == Kind::Sms);
        let content = Content::Template {
            name: template.name.clone(),
            version: template.version,
            locale: "".into(),
            signature: signature.unwrap_or_default().into(),
            plan: Arc::default(),
        };
        Ok(Said { asks: asks(follow_up.kind, &content, Some(&*template)), content, params })
    }

    fn request(&self, followed: &Followed, Said { content, asks, params }: Said) -> Option<Request> {
        let Followed { job, shared, recipient, follow_up, at: _ } = followed;
        // The same call and place are the same job, however often it is handed in, by whichever attempt.
        let key = format!("call/{job}/{}", follow_up.from);
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&digest(&SHA256, key.as_bytes()).as_ref()[..16]);
        Some(Request {
            tenant: self.directory.tenant(&shared.tenant)?,
            kind: follow_up.kind,
            class: shared.class,
            content,
            asks,
            fallback: vec![],
            sender: "".into(),
            topic: shared.topic.clone(),
            labels: shared.labels.clone(),
            origin: shared.origin.clone(),
            priority: shared.priority,
            on_missed: shared.on_missed,
            start: Start::Now,
            windows: vec![],
            expires_at: None,
            key: Some((key.into(), Fingerprint(fingerprint))),
            trace: shared.trace,
            batch: Batch::Single,
            items: vec![Item {
                index: 0,
                recipient: recipient.clone(),
                params,
                cancel_key: "".into(),
                collapse_key: "".into(),
                send_at: None,
            }],
        })
    }
}

impl receipt::FollowUps for FollowUps {
    fn submit<'a>(&'a self, followed: &'a Followed) -> BoxFuture<'a, Result<(), NotFollowed>> {
        Box::pin(async move {
            let never = |why: &str| NotFollowed::Never(why.into());
            let content = self.content(followed).await?;
            let request = self.request(followed, content).ok_or_else(|| never("its tenant is gone"))?;
            match self.admission.submit(request).await {
                Ok(_) => Ok(()),
                Err(
                    refusal @ (Refusal::OverRate { .. }
                    | Refusal::OverQuota { .. }
                    | Refusal::Draining
                    | Refusal::KeysAway
                    | Refusal::CollapseAway
                    | Refusal::NotDurable(_)),
                ) => Err(NotFollowed::NotNow(refusal.to_string().into())),
                Err(refusal) => Err(never(&refusal.to_string())),
            }
        })
    }
}
