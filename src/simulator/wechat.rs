//! WeChat, simulated: access tokens that end, template messages and subscription messages, quotas, receipts and what users
//! do, signed and encrypted as WeChat does it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::door::{Door, encrypted};
use super::{Fared, Message, Post, REMEMBERED, Vendor, Wrong};
use crate::channel::http::{Bytes, Parts, Response, StatusCode, answer};
use crate::channel::template::crypt::Crypt;
use crate::domain::event::Fate;
use crate::domain::time::Clock;

/// China's days begin so many seconds before those of UTC.
const CHINA_S: i64 = 8 * 3_600;
const DAY_S: i64 = 24 * 3_600;
/// Longest client_msg_id.
const CLIENT_ID_MAX: usize = 64;

/// A simulated account. Clones are the same account.
#[derive(Clone, Debug)]
pub struct Wechat {
    shared: Arc<Shared>,
}

/// What a simulated account is.
#[derive(Clone, Debug)]
pub struct Account {
    /// The account.
    pub appid: String,
    /// Its secret.
    pub secret: String,
    /// How long its tokens hold.
    pub token_life: Duration,
    /// Messages a day, by China's clock.
    pub daily_max: u32,
    /// Whether each subscription message needs a consent, which is given in a popup and good once.
    pub consents: bool,
    /// Where it calls back, and its secrets for that; `None`: nowhere. A whole URL.
    pub callback: Option<(String, Crypt)>,
}

#[derive(Debug)]
struct Shared {
    account: Account,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    door: Door,
    /// Today, and how many messages came.
    day: (i64, u32),
    /// What was sent under its own id, with whom it reached.
    sent: HashSet<(String, String)>,
    /// Consents that are left, by openid and template.
    consents: HashMap<(String, String), u32>,
}

#[derive(Deserialize)]
struct Asked {
    touser: String,
    template_id: String,
    #[serde(default)]
    client_msg_id: String,
    data: Map<String, Value>,
}

#[derive(Deserialize)]
struct AskedToken {
    grant_type: String,
    appid: String,
    secret: String,
    #[serde(default)]
    force_refresh: bool,
}

// === impl Wechat ===

impl Wechat {
    /// Returns an account that has sent nothing.
    pub fn new(account: Account, clock: &Clock) -> Self {
        let state = State { door: Door::default(), day: (0, 0), sent: HashSet::new(), consents: HashMap::new() };
        Self { shared: Arc::new(Shared { account, clock: clock.clone(), state: Mutex::new(state) }) }
    }

    /// Returns how often another token was given, and how often any was asked for.
    pub fn tokens(&self) -> (u64, u64) {
        self.state().door.counts()
    }

    /// Ends the token in use, as another's refresh by force does.
    pub fn end_token(&self) {
        self.state().door.end();
    }

    /// Returns a call that brings an event, as WeChat makes it; `None`: it calls nobody. `inner` is what the event says
    /// besides whom it is about and when.
    pub fn event(&self, openid: &str, inner: &str) -> Option<Post> {
        self.event_at(openid, inner, self.shared.clock.now().as_secs())
    }

    /// Returns the same of an event that happened at another time, in seconds since the epoch.
    pub fn event_at(&self, openid: &str, inner: &str, at: i64) -> Option<Post> {
        let (url, crypt) = self.shared.account.callback.as_ref()?;
        let appid = &self.shared.account.appid;
        let said = format!(
            "<xml><ToUserName><![CDATA[{appid}]]></ToUserName><FromUserName><![CDATA[{openid}]]></FromUserName>\
             <CreateTime>{at}</CreateTime>{inner}</xml>"
        );
        Some(encrypted((url, crypt), appid, &said, &self.shared.clock))
    }

    /// Notes that a user has accepted one more message of a template.
    pub fn consent(&self, openid: &str, template_id: &str) {
        *self.state().consents.entry((openid.to_owned(), template_id.to_owned())).or_default() += 1;
    }

    /// Returns the call that says what a user answered to a popup that asks for one more message of a template, at some
    /// time, in seconds since the epoch.
    pub fn popup_at(&self, openid: &str, template_id: &str, accepts: bool, at: i64) -> Option<Post> {
        let said = if accepts { "accept" } else { "reject" };
        let inner = format!(
            "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_popup_event]]></Event>\
             <SubscribeMsgPopupEvent><List><TemplateId><![CDATA[{template_id}]]></TemplateId>\
             <SubscribeStatusString><![CDATA[{said}]]></SubscribeStatusString><PopupScene>2</PopupScene></List>\
             </SubscribeMsgPopupEvent>"
        );
        self.event_at(openid, &inner, at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic between two statements leaves counts, no meaning.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_token(&self, body: &Bytes) -> Response<Bytes> {
        let Ok(asked) = serde_json::from_slice::<AskedToken>(body) else { return error(47_001, "data format error") };
        self.give(&asked, true)
    }

    fn give_plain_token(&self, query: &str) -> Response<Bytes> {
        let of = |wanted: &str| {
            let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted);
            found.map_or_else(String::new, |(_, value)| value.into_owned())
        };
        let (grant_type, appid, secret) = (of("grant_type"), of("appid"), of("secret"));
        self.give(&AskedToken { grant_type, appid, secret, force_refresh: false }, false)
    }

    fn give(&self, asked: &AskedToken, stable: bool) -> Response<Bytes> {
        let Account { appid, secret, token_life, .. } = &self.shared.account;
        if asked.grant_type != "client_credential" {
            return error(40_002, "invalid grant_type");
        }
        if asked.appid != *appid {
            return error(40_013, "invalid appid");
        }
        if asked.secret != *secret {
            return error(40_125, "invalid appsecret");
        }
        let now = self.shared.clock.now();
        let (token, life) = match stable {
            true => self.state().door.give(now, *token_life, asked.force_refresh),
            false => (self.state().door.give_plain(now, *token_life), *token_life),
        };
        respond(&json!({ "access_token": token, "expires_in": life.as_secs() }))
    }

    /// Checks whether a message may be sent, and counts it.
    fn admit(&self, query: &str, asked: &Asked, template: bool) -> Result<(), (i64, &'static str)> {
        let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "access_token");
        let token = token.map(|(_, token)| token.into_owned()).ok_or((41_001, "access_token missing"))?;
        let now = self.shared.clock.now();
        let today = (now.as_secs() + CHINA_S).div_euclid(DAY_S);
        let mut state = self.state();
        state.door.check(&token, now)?;
        if asked.touser.is_empty() {
            return Err((40_003, "invalid openid"));
        }
        if asked.template_id.is_empty() {
            return Err((40_037, "invalid template_id"));
        }
        if asked.data.values().any(|value| !value["value"].is_string()) {
            return Err((47_003, "argument invalid"));
        }
        if asked.client_msg_id.len() > CLIENT_ID_MAX {
            return Err((45_067, "clientmsgid is too long"));
        }
        if !asked.client_msg_id.is_empty() && state.sent.contains(&(asked.touser.clone(), asked.client_msg_id.clone()))
        {
            return Err((45_065, "clientmsgid exist"));
        }
        if self.shared.account.consents && !template {
            let left = state.consents.entry((asked.touser.clone(), asked.template_id.clone())).or_default();
            *left = left.checked_sub(1).ok_or((43_101, "user refuse to accept the msg"))?;
        }
        let sent = if state.day.0 == today { state.day.1 } else { 0 };
        if sent >= self.shared.account.daily_max {
            return Err((45_009, "reach max api daily quota limit"));
        }
        state.day = (today, sent + 1);
        Ok(())
    }
}

impl Vendor for Wechat {
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong> {
        let template = head.uri.path() == "/cgi-bin/message/template/send";
        match head.uri.path() {
            "/cgi-bin/stable_token" => return Err(Box::new(self.give_token(body))),
            "/cgi-bin/token" => return Err(Box::new(self.give_plain_token(head.uri.query().unwrap_or_default()))),
            "/cgi-bin/message/template/send"
            | "/cgi-bin/message/subscribe/bizsend"
            | "/cgi-bin/message/subscribe/send" => {}
            _ => return Err(Box::new(answer(StatusCode::NOT_FOUND, "text/plain", "no such path"))),
        }
        let Ok(asked) = serde_json::from_slice::<Asked>(body) else {
            return Err(Box::new(error(47_001, "data format error")));
        };
        let query = head.uri.query().unwrap_or_default();
        self.admit(query, &asked, template).map_err(|(code, why)| Box::new(error(code, why)))?;
        let text: Vec<_> = asked
            .data
            .iter()
            .map(|(name, value)| format!("{name}={}", value["value"].as_str().unwrap_or("")))
            .collect();
        Ok(vec![Message {
            // Subscription messages have none, and nothing tells what became of them.
            id: if template { (1_000_000_000_000 + number()).to_string() } else { String::new() },
            from: self.shared.account.appid.clone(),
            to: asked.touser,
            text: format!("{} {}", asked.template_id, text.join(" ")),
            reference: asked.client_msg_id,
        }])
    }

    fn taken(&self, message: &Message) {
        if !message.reference.is_empty() {
            let mut state = self.state();
            if state.sent.len() >= REMEMBERED {
                state.sent.clear();
            }
            state.sent.insert((message.to.clone(), message.reference.clone()));
        }
    }

    fn is_code(&self, code: &str) -> bool {
        code.parse::<i64>().is_ok_and(|code| code != 0)
    }

    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes> {
        // What it did not send used no consent.
        for (message, fared) in messages {
            let template_id = message.text.split(' ').next().unwrap_or_default();
            if self.shared.account.consents && message.id.is_empty() && !matches!(fared, Fared::Taken(_)) {
                self.consent(&message.to, template_id);
            }
        }
        match messages {
            [(_, Fared::Error(code)), ..] => error(code.parse().unwrap_or(-1), "as the script says"),
            [(message, Fared::Taken(_)), ..] => {
                let mut said = json!({ "errcode": 0, "errmsg": "ok" });
                if let Ok(msgid) = message.id.parse::<u64>() {
                    said["msgid"] = msgid.into();
                }
                respond(&said)
            }
            [(_, Fared::Throttled), ..] => error(45_011, "api minute-quota reach limit"),
            [(_, Fared::Refused), ..] => error(43_004, "require subscribe"),
            [(_, Fared::Failed), ..] | [] => error(-1, "system error"),
        }
    }

    fn receipt(&self, message: &Message, fate: Fate) -> Option<Post> {
        if message.id.is_empty() {
            return None;
        }
        let status = if fate == Fate::Delivered { "success" } else { "failed:user block" };
        let inner = format!(
            "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>{}</MsgID>\
             <Status><![CDATA[{status}]]></Status>",
            message.id
        );
        self.event(&message.to, &inner)
    }

    fn reply(&self, from: &str, _to: &str, text: &str) -> Option<Post> {
        let id = uuid::Uuid::new_v4().as_u64_pair().0 >> 1;
        let inner =
            format!("<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{text}]]></Content><MsgId>{id}</MsgId>");
        self.event(from, &inner)
    }
}

fn error(code: i64, why: &str) -> Response<Bytes> {
    respond(&json!({ "errcode": code, "errmsg": why }))
}

fn respond(said: &Value) -> Response<Bytes> {
    answer(StatusCode::OK, "application/json; charset=utf-8", said.to_string())
}
