//! What WeChat calls back with: encrypted events. Those about template messages are receipts, those of users signals.
//! Sources: developers.weixin.qq.com/doc/offiaccount/Message_Management/Receiving_event_pushes.html, and
//! /doc/service/guide/product/subscription_messages/push.html.

use std::fmt;

use roxmltree::Node;

use super::super::super::News;
use super::super::super::callback::{Call, Callbacks, Refused, clipped, code};
use super::super::super::http::{Bytes, Response, StatusCode, answer};
use super::super::crypt::Crypt;
use super::super::envelope::{self, Query};
use super::super::xml;
use crate::config;
use crate::domain::event::{Fate, Receipt, Report};
use crate::domain::ids::{ProviderId, TenantId};
use crate::domain::recipient::{Recipient, Wechat};
use crate::domain::signal::{BY, BY_POPUP, BY_SETTINGS, DETAIL_LEN_MAX, SAID_AT, Signal, TEMPLATE_ID, Told};
use crate::domain::time::UnixMicros;

/// Most bytes of an id.
const ID_LEN_MAX: usize = 128;
/// Most templates that one popup asks for, with room to spare; WeChat allows five.
const LIST_MAX: usize = 16;

/// Reads WeChat's callbacks.
pub struct Desk {
    provider: ProviderId,
    tenant: TenantId,
    appid: Box<str>,
    crypt: Crypt,
}

/// What is known of a signal by name; empty values are left out.
type Details<'a> = &'a [(&'static str, &'a str)];

// === impl Desk ===

impl Desk {
    /// Returns a desk for the callbacks of an account, whose secrets are these.
    pub fn new(provider: ProviderId, account: &config::Wechat, secrets: config::Crypt) -> Self {
        let crypt = Crypt::new(secrets, &account.appid);
        Self { provider, tenant: account.tenant.clone(), appid: account.appid.clone(), crypt }
    }

    fn event(&self, root: Node<'_, '_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        let of = |name| xml::text(root, name);
        let one = |told, details: Details<'_>| Ok(vec![self.signal(root, (told, ""), details, at)?]);
        match of("Event") {
            "TEMPLATESENDJOBFINISH" => Ok(vec![News::Receipt(self.receipt(of("MsgID"), of("Status"), at)?)]),
            "subscribe" => {
                let key = of("EventKey");
                one(Told::Subscribed, &[("scene", key.strip_prefix("qrscene_").unwrap_or(key))])
            }
            "unsubscribe" => one(Told::Unsubscribed, &[]),
            "LOCATION" => one(
                Told::Location,
                &[("latitude", of("Latitude")), ("longitude", of("Longitude")), ("precision", of("Precision"))],
            ),
            "subscribe_msg_popup_event" => self.consents(root, ("SubscribeMsgPopupEvent", BY_POPUP), at),
            "subscribe_msg_change_event" => self.consents(root, ("SubscribeMsgChangeEvent", BY_SETTINGS), at),
            _ => Ok(vec![]),
        }
    }

    /// Reads what a user said to each template that a popup asks for, or changed in the account's settings, of which WeChat
    /// pushes refusals only.
    fn consents(&self, root: Node<'_, '_>, (list, by): (&str, &str), at: UnixMicros) -> Result<Vec<News>, Refused> {
        let all = xml::child(root, list).ok_or(Refused::Unreadable)?;
        let items: Vec<_> = all.children().filter(|child| child.has_tag_name("List")).take(LIST_MAX).collect();
        let signal = |item: &Node<'_, '_>| {
            let told = match xml::text(*item, "SubscribeStatusString") {
                "accept" => Told::PopupAccepted,
                "reject" => Told::PopupRejected,
                _ => return Err(Refused::Unreadable),
            };
            let template = xml::text(*item, "TemplateId");
            let (scene, said_at) = (xml::text(*item, "PopupScene"), xml::text(root, "CreateTime"));
            let details = [(TEMPLATE_ID, template), (BY, by), ("scene", scene), (SAID_AT, said_at)];
            self.signal(root, (told, template), &details, at)
        };
        items.iter().map(signal).collect()
    }

    /// Returns a signal; `part` tells it from others of the same event.
    fn signal(
        &self,
        root: Node<'_, '_>,
        (told, part): (Told, &str),
        details: Details<'_>,
        at: UnixMicros,
    ) -> Result<News, Refused> {
        let (openid, event) = (xml::text(root, "FromUserName"), xml::text(root, "Event"));
        if openid.is_empty() {
            return Err(Refused::Unreadable);
        }
        let id = Signal::id_of(&self.provider, &[openid, xml::text(root, "CreateTime"), event, told.as_str(), part]);
        let at_account = Wechat { appid: self.appid.clone(), openid: clipped(openid, ID_LEN_MAX) };
        let known = details.iter().filter(|(_, value)| !value.is_empty());
        Ok(News::Signal(Box::new(Signal {
            id,
            provider: self.provider.clone(),
            tenant: self.tenant.clone(),
            told,
            recipient: Recipient { wechat: vec![at_account], ..Recipient::default() },
            to: self.appid.clone(),
            details: known.map(|&(name, value)| (name.into(), clipped(value, DETAIL_LEN_MAX))).collect(),
            at,
        })))
    }

    fn receipt(&self, id: &str, status: &str, at: UnixMicros) -> Result<Receipt, Refused> {
        let (fate, why) = match status.split_once(':') {
            None if status == "success" => (Fate::Delivered, ""),
            // Blanks follow the colon, or do not.
            Some(("failed", why)) => (Fate::Undelivered, why.trim()),
            _ => return Err(Refused::Unreadable),
        };
        if id.is_empty() {
            return Err(Refused::Unreadable);
        }
        let (provider, message_id) = (self.provider.clone(), clipped(id, ID_LEN_MAX));
        Ok(Receipt { provider, message_id, job: None, report: Report::Final(fate), code: code(why), at })
    }
}

impl Callbacks for Desk {
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        let plain = envelope::open(&self.crypt, call, at)?;
        let document = xml::read(&plain)?;
        let root = document.root_element();
        match xml::text(root, "MsgType") {
            "event" => self.event(root, at),
            "" => Err(Refused::Unreadable),
            _ => Ok(vec![]),
        }
    }

    fn greet(&self, call: &Call<'_>, at: UnixMicros) -> Option<Result<Response<Bytes>, Refused>> {
        let query = Query::of(call.target);
        let greeted = self.crypt.verify(&query.signed(&query.signature), None).and_then(|()| query.fresh(at));
        Some(greeted.map(|()| answer(StatusCode::OK, "text/plain; charset=utf-8", query.echostr)))
    }

    fn thanks(&self) -> Response<Bytes> {
        answer(StatusCode::OK, "text/plain; charset=utf-8", "success")
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("provider", &self.provider).finish_non_exhaustive()
    }
}
