//! Keyed hashes that stand for people, addresses, words and secrets: HMAC-SHA256 under keys derived from the lookup key.

use std::borrow::Cow;

use ring::hmac;

use super::Sealer;
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;
use crate::domain::keys::{AddressKey, Fingerprint, RecipientKey, WordKey};
use crate::domain::recipient::Recipient;

/// One key per question, so that no answer can stand for another question.
pub(super) struct Lookup {
    address: hmac::Key,
    recipient: hmac::Key,
    word: hmac::Key,
    fingerprint: hmac::Key,
    pepper: hmac::Key,
}

/// Returns the address that a job of `kind` reaches `recipient` under: the number for SMS and calls; for a template
/// message the first openid, else the WeCom contact, group or employee, each with its account in front.
pub fn job_address(kind: Kind, recipient: &Recipient) -> Option<Cow<'_, str>> {
    match kind {
        Kind::Sms | Kind::Call => recipient.phone.as_ref().map(|phone| Cow::Borrowed(phone.as_str())),
        Kind::Template => {
            let wechat = recipient.wechat.first().map(|at| format!("wechat:{}/{}", at.appid, at.openid));
            let wecom = || recipient.wecom.as_ref().map(|at| format!("wecom:{}/{}", at.corp_id, at.external_userid));
            let chat = || recipient.wecom_chat_id.as_ref().map(|id| format!("wecom-chat:{id}"));
            let user = || recipient.wecom_userid.as_ref().map(|id| format!("wecom-user:{id}"));
            wechat.or_else(wecom).or_else(chat).or_else(user).map(Cow::Owned)
        }
    }
}

impl Lookup {
    pub(super) fn new(root: &[u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, root);
        let derive = |purpose: &str| {
            let tag = hmac::sign(&root, purpose.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())
        };
        Self {
            address: derive("postrider address"),
            recipient: derive("postrider recipient"),
            word: derive("postrider word"),
            fingerprint: derive("postrider fingerprint"),
            pepper: derive("postrider api key"),
        }
    }
}

impl Sealer {
    /// Returns what stands for an address; the same for all tenants. Give it what [`job_address`] returns.
    pub fn address_key(&self, address: &str) -> AddressKey {
        AddressKey(short(&hmac::sign(&self.inner.lookup.address, address.as_bytes())))
    }

    /// Returns what stands for a recipient of `tenant`: its id, else the address that jobs of `kind` use.
    pub fn recipient_key(&self, tenant: &TenantId, recipient: &Recipient, kind: Kind) -> RecipientKey {
        match &recipient.id {
            Some(id) => self.recipient_id_key(tenant, id),
            None => {
                let address = job_address(kind, recipient).unwrap_or(Cow::Borrowed(""));
                RecipientKey(parts(&self.inner.lookup.recipient, tenant, "address", &address))
            }
        }
    }

    /// Returns what stands for the recipient that `tenant` calls `id`.
    pub fn recipient_id_key(&self, tenant: &TenantId, id: &str) -> RecipientKey {
        RecipientKey(parts(&self.inner.lookup.recipient, tenant, "id", id))
    }

    /// Returns what stands for a word of `tenant`. The `space` (`topic`, `campaign`, ...) keeps equal words with
    /// different meanings apart.
    pub fn word_key(&self, tenant: &TenantId, space: &str, word: &str) -> WordKey {
        WordKey(parts(&self.inner.lookup.word, tenant, space, word))
    }

    /// Returns what stands for the body of a submit.
    pub fn fingerprint(&self, body: &[u8]) -> Fingerprint {
        Fingerprint(short(&hmac::sign(&self.inner.lookup.fingerprint, body)))
    }

    /// Returns what is stored of an API key's secret.
    pub fn api_key_mac(&self, secret: &str) -> [u8; 32] {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.inner.lookup.pepper, secret.as_bytes()).as_ref());
        mac
    }

    /// Returns whether `mac` was stored for this secret; compared in constant time.
    pub fn api_key_matches(&self, secret: &str, mac: &[u8; 32]) -> bool {
        hmac::verify(&self.inner.lookup.pepper, secret.as_bytes(), mac).is_ok()
    }
}

/// A tenant's name and a space hold no zero byte, so the parts cannot be mistaken for each other.
fn parts(key: &hmac::Key, tenant: &TenantId, space: &str, word: &str) -> [u8; 16] {
    let mut context = hmac::Context::with_key(key);
    for part in [tenant.as_str(), "\0", space, "\0", word] {
        context.update(part.as_bytes());
    }
    short(&context.sign())
}

/// 128 bits: among 2^40 people the chance that any two share a key is 2^-49.
fn short(tag: &hmac::Tag) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&tag.as_ref()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::recipient::Wechat;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn a_recipient_is_the_id_or_else_the_address() {
        let sealer = Sealer::ephemeral().unwrap();
        let by_phone = Recipient { phone: Some("+4915112345678".parse().unwrap()), ..Recipient::default() };
        let by_id = Recipient { id: Some("anna".into()), ..by_phone.clone() };
        let key = |name: &str, recipient: &Recipient, kind| sealer.recipient_key(&tenant(name), recipient, kind);
        assert_eq!(key("a", &by_phone, Kind::Sms), key("a", &by_phone, Kind::Call));
        assert_ne!(key("a", &by_phone, Kind::Sms), key("a", &by_id, Kind::Sms));
        assert_eq!(key("a", &by_id, Kind::Sms), sealer.recipient_id_key(&tenant("a"), "anna"));
        assert_ne!(key("a", &by_id, Kind::Sms), key("b", &by_id, Kind::Sms));
    }

    #[test]
    fn words_in_different_spaces_differ() {
        let sealer = Sealer::ephemeral().unwrap();
        let key = |space, word| sealer.word_key(&tenant("a"), space, word);
        assert_ne!(key("topic", "sale"), key("campaign", "sale"));
        assert_eq!(key("topic", "sale"), key("topic", "sale"));
    }

    #[test]
    fn each_kind_has_its_address() {
        let recipient = Recipient {
            phone: Some("+4915112345678".parse().unwrap()),
            wechat: vec![Wechat { appid: "wx1".into(), openid: "o1".into() }],
            ..Recipient::default()
        };
        assert_eq!(job_address(Kind::Sms, &recipient).as_deref(), Some("+4915112345678"));
        assert_eq!(job_address(Kind::Template, &recipient).as_deref(), Some("wechat:wx1/o1"));
        assert_eq!(job_address(Kind::Call, &Recipient::default()), None);
    }

    #[test]
    fn only_the_right_secret_matches_its_mac() {
        let sealer = Sealer::ephemeral().unwrap();
        let mac = sealer.api_key_mac("pr_secret");
        assert!(sealer.api_key_matches("pr_secret", &mac));
        assert!(!sealer.api_key_matches("pr_other", &mac));
    }
}
