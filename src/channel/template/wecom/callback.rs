//! What WeCom calls back with: encrypted events of a corporation, as signals. Sources:
//! developer.work.weixin.qq.com/document/path/92130 (customers), /92319 (groups), /90240 (applications).

use std::fmt;

use roxmltree::Node;

use super::super::super::News;
use super::super::super::callback::{Call, Callbacks, Refused, clipped};
use super::super::super::http::{Bytes, Response, StatusCode, answer};
use super::super::crypt::Crypt;
use super::super::envelope::{self, Query};
use super::super::xml;
use crate::config;
use crate::domain::ids::{ProviderId, TenantId};
use crate::domain::recipient::{Recipient, RecipientKind, Wecom as At};
use crate::domain::signal::{DETAIL_LEN_MAX, Signal, Told};
use crate::domain::time::UnixMicros;

/// Most bytes of an id.
const ID_LEN_MAX: usize = 128;
/// Most members that one change of a group names; more are told of the group as a whole.
const MEMBERS_MAX: usize = 200;

/// Reads WeCom's callbacks.
pub struct Desk {
    provider: ProviderId,
    tenant: TenantId,
    corp_id: Box<str>,
    crypt: Crypt,
}

/// What is known of a signal by name; empty values are left out.
type Details<'a> = &'a [(&'static str, &'a str)];

// === impl Desk ===

impl Desk {
    /// Returns a desk for the callbacks of an application, whose secrets are these.
    pub fn new(provider: ProviderId, application: &config::Wecom, secrets: config::Crypt) -> Self {
        let crypt = Crypt::new(secrets, &application.corp_id);
        Self { provider, tenant: application.tenant.clone(), corp_id: application.corp_id.clone(), crypt }
    }

    fn event(&self, root: Node<'_, '_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        match xml::text(root, "Event") {
            "change_external_contact" => self.contact(root, at),
            "change_external_chat" => self.group(root, at),
            "LOCATION" => {
                let of = |name| xml::text(root, name);
                let user = Recipient { wecom_userid: Some(id(of("FromUserName"))?), ..operator() };
                let details =
                    [("latitude", of("Latitude")), ("longitude", of("Longitude")), ("precision", of("Precision"))];
                Ok(vec![self.signal(root, (Told::Location, user), (of("FromUserName"), &details), at)])
            }
            _ => Ok(vec![]),
        }
    }

    /// Reads who became an employee's friend, or is it no more.
    fn contact(&self, root: Node<'_, '_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        let of = |name| xml::text(root, name);
        let (told, by) = match of("ChangeType") {
            "add_external_contact" | "add_half_external_contact" => (Told::FriendAdded, ""),
            "del_external_contact" => (Told::FriendRemoved, "employee"),
            "del_follow_user" => (Told::FriendRemoved, "customer"),
            _ => return Ok(vec![]),
        };
        let (user, contact) = (of("UserID"), of("ExternalUserID"));
        let wecom = Some(At { corp_id: self.corp_id.clone(), external_userid: id(contact)? });
        let recipient = Recipient { wecom, ..Recipient::default() };
        let details = [
            ("userid", user),
            ("state", of("State")),
            ("welcome_code", of("WelcomeCode")),
            ("by", by),
            ("source", of("Source")),
        ];
        Ok(vec![self.signal(root, (told, recipient), (&format!("{user} {contact}"), &details), at)])
    }

    /// Reads who joined a customer group, or left it.
    fn group(&self, root: Node<'_, '_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        let of = |name| xml::text(root, name);
        let (told, scene) = match (of("ChangeType"), of("UpdateDetail")) {
            ("update", "add_member") => (Told::GroupJoined, of("JoinScene")),
            ("update", "del_member") => (Told::GroupLeft, of("QuitScene")),
            _ => return Ok(vec![]),
        };
        let chat = of("ChatId");
        let group = Recipient { kind: RecipientKind::Group, wecom_chat_id: Some(id(chat)?), ..Recipient::default() };
        let members: Vec<&str> = xml::child(root, "MemChangeList")
            .into_iter()
            .flat_map(|list| list.children())
            .filter(|child| child.has_tag_name("Item"))
            .filter_map(|item| item.text())
            .collect();
        if members.is_empty() || members.len() > MEMBERS_MAX {
            let details = [("scene", scene), ("members", of("MemChangeCnt"))];
            return Ok(vec![self.signal(root, (told, group), (chat, &details), at)]);
        }
        let member = |member: &&str| {
            let wecom = Some(At { corp_id: self.corp_id.clone(), external_userid: id(member)? });
            // A person, who is in that group.
            let who = Recipient { wecom, kind: RecipientKind::Person, ..group.clone() };
            Ok(self.signal(root, (told, who), (&format!("{chat} {member}"), &[("scene", scene)]), at))
        };
        members.iter().map(member).collect()
    }

    /// Returns a signal; `part` tells it from others of the same moment.
    fn signal(
        &self,
        root: Node<'_, '_>,
        (told, recipient): (Told, Recipient),
        (part, details): (&str, Details<'_>),
        at: UnixMicros,
    ) -> News {
        let (created, change) = (xml::text(root, "CreateTime"), xml::text(root, "ChangeType"));
        let known = details.iter().filter(|(_, value)| !value.is_empty());
        News::Signal(Box::new(Signal {
            id: Signal::id_of(&self.provider, &[created, xml::text(root, "Event"), change, told.as_str(), part]),
            provider: self.provider.clone(),
            tenant: self.tenant.clone(),
            told,
            recipient,
            to: self.corp_id.clone(),
            details: known.map(|&(name, value)| (name.into(), clipped(value, DETAIL_LEN_MAX))).collect(),
            at,
        }))
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
        // Unlike WeChat's, its word is encrypted: only who has the key can say it.
        let opened = self.crypt.open(&query.signed(&query.msg_signature), &query.echostr);
        let greeted = opened.and_then(|word| query.fresh(at).map(|()| word));
        Some(greeted.map(|word| answer(StatusCode::OK, "text/plain; charset=utf-8", word)))
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

fn operator() -> Recipient {
    Recipient { kind: RecipientKind::Operator, ..Recipient::default() }
}

/// Returns an id, which must be there.
fn id(text: &str) -> Result<Box<str>, Refused> {
    if text.is_empty() { Err(Refused::Unreadable) } else { Ok(clipped(text, ID_LEN_MAX)) }
}
