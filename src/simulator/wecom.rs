//! WeCom, simulated: access tokens that end, application messages of which some reach some, messages to customers that wait
//! for an employee's confirmation, and what customers do, signed and encrypted as WeCom does it.

mod posts;

mod welcomes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use self::posts::{FAILED, Posts};
use self::welcomes::Welcomes;
use super::door::{Door, encrypted};
use super::{Fared, Message, Post, Vendor, Wrong};
use crate::channel::http::{Bytes, Parts, Response, StatusCode, answer};
use crate::channel::template::crypt::Crypt;
use crate::domain::event::Fate;
use crate::domain::time::{Clock, UnixMicros};

/// Most employees in a request.
const USERS_MAX: usize = 1_000;
/// The reference of a message to an employee who is not there.
pub const NOT_THERE: &str = "invaliduser";

/// How the ids of messages to customers begin.
const TO_CUSTOMERS: &str = "mass-";
/// How the ids of welcome messages begin.
const WELCOME: &str = "welcome-";

/// A simulated corporation with one application. Clones are the same one. Whoever's userid begins with `nobody` is no
/// employee.
#[derive(Clone, Debug)]
pub struct Wecom {
    shared: Arc<Shared>,
}

/// What a simulated corporation is.
#[derive(Clone, Debug)]
pub struct Corporation {
    /// Its id.
    pub corp_id: String,
    /// The application.
    pub agent_id: u32,
    /// The application's secret.
    pub secret: String,
    /// How long its tokens hold.
    pub token_life: Duration,
    /// Where it calls back, and its secrets for that; `None`: nowhere. A whole URL.
    pub callback: Option<(String, Crypt)>,
    /// What its employees do by themselves.
    pub operators: Operators,
}

/// What employees do about messages to customers that wait for them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Operators {
    /// Share of messages that they confirm.
    pub confirm: f64,
    /// After which time.
    pub after: Duration,
}

#[derive(Debug)]
struct Shared {
    corporation: Corporation,
    clock: Clock,
    door: Mutex<Door>,
    posts: Mutex<Posts>,
    welcomes: Mutex<Welcomes>,
}

#[derive(Deserialize)]
struct Asked {
    touser: String,
    msgtype: String,
    agentid: u32,
    text: Text,
}

#[derive(Deserialize)]
struct Text {
    content: String,
}

// === impl Wecom ===

impl Wecom {
    /// Returns a corporation to whose employees nothing was sent.
    pub fn new(corporation: Corporation, clock: &Clock) -> Self {
        let (door, posts, welcomes) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { corporation, clock: clock.clone(), door, posts, welcomes }) }
    }

    /// Returns how often another token was given, and how often any was asked for.
    pub fn tokens(&self) -> (u64, u64) {
        self.door().counts()
    }

    /// Ends the token in use.
    pub fn end_token(&self) {
        self.door().end();
    }

    /// Returns a call that brings an event, as WeCom makes it; `None`: it calls nobody. `inner` is what the event says
    /// besides whose it is and when.
    pub fn event(&self, inner: &str) -> Option<Post> {
        self.event_at(inner, self.shared.clock.now().as_secs())
    }

    /// Returns the same of an event that happened at another time, in seconds since the epoch.
    pub fn event_at(&self, inner: &str, at: i64) -> Option<Post> {
        let (url, crypt) = self.shared.corporation.callback.as_ref()?;
        let corp_id = &self.shared.corporation.corp_id;
        let said = format!(
            "<xml><ToUserName><![CDATA[{corp_id}]]></ToUserName><FromUserName><![CDATA[sys]]></FromUserName>\
             <CreateTime>{at}</CreateTime><MsgType><![CDATA[event]]></MsgType>{inner}</xml>"
        );
        Some(encrypted((url, crypt), corp_id, &said, &self.shared.clock))
    }

    /// Lets an employee confirm all that waits for them; returns to how many customers and groups it goes. Who is called
    /// `stranger…` is a friend no more, and who is called `full…` has had as many messages as may come.
    pub fn confirm(&self, employee: &str) -> usize {
        self.posts().confirm(employee)
    }

    /// Returns how many messages to customers and groups there are, and how many of them were stopped.
    pub fn posted(&self) -> (usize, usize) {
        self.posts().counts()
    }

    /// Has another application of the corporation hand over a message to a customer; returns its id.
    pub fn strange(&self, employee: &str, customer: &str) -> String {
        let now = self.shared.clock.now();
        self.posts().strange((employee, customer), now)
    }

    /// Answers every question about a message with an error.
    pub fn break_message(&self, msgid: &str) {
        self.posts().break_one(msgid);
    }

    /// Says nothing any more of messages that were stopped, but that they were.
    pub fn hide_stopped(&self) {
        self.posts().hide_stopped();
    }

    /// Returns the ids of the messages, oldest first.
    pub fn msgids(&self) -> Vec<String> {
        self.posts().ids()
    }

    /// Returns how often a message was asked about or stopped; and how often all were listed.
    pub fn asked(&self, msgid: &str) -> (usize, usize) {
        self.posts().asked(msgid)
    }

    fn posts(&self) -> MutexGuard<'_, Posts> {
        let mut posts = self.shared.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.pass(self.shared.corporation.operators, self.shared.clock.now());
        posts
    }

    /// Lets a customer become an employee's friend at some time, in seconds since the epoch; returns the call that says so,
    /// with this code for a welcome. Told again, it is the same one.
    pub fn befriend(&self, employee: &str, customer: &str, code: &str, at: i64) -> Option<Post> {
        self.welcomes().give(code, UnixMicros::from_secs(at));
        let inner = format!(
            "<Event><![CDATA[change_external_contact]]></Event><ChangeType>add_external_contact</ChangeType>\
             <UserID>{employee}</UserID><ExternalUserID>{customer}</ExternalUserID><WelcomeCode>{code}</WelcomeCode>"
        );
        self.event_at(&inner, at)
    }

    fn welcomes(&self) -> MutexGuard<'_, Welcomes> {
        self.shared.welcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.shared.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_token(&self, query: &str) -> Response<Bytes> {
        let Corporation { corp_id, secret, token_life, .. } = &self.shared.corporation;
        if of(query, "corpid") != *corp_id {
            return error(40_013, "invalid corpid");
        }
        if of(query, "corpsecret") != *secret {
            return error(40_001, "invalid credential");
        }
        let (token, life) = self.door().give(self.shared.clock.now(), *token_life, false);
        respond(&json!({ "errcode": 0, "errmsg": "ok", "access_token": token, "expires_in": life.as_secs() }))
    }

    /// Reads what is asked about customers.
    fn customers(
        &self,
        what: &str,
        (query, body): (&str, &Bytes),
        number: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<Message>, Wrong> {
        let wrong = |(code, why)| Box::new(error(code, why));
        let now = self.shared.clock.now();
        self.door().check(&of(query, "access_token"), now).map_err(wrong)?;
        let unreadable = |_| wrong((47_001, "data format error"));
        if what == "add_msg_template" {
            let asked = serde_json::from_slice(body).map_err(unreadable)?;
            return self.posts().add(asked, (format!("{TO_CUSTOMERS}{}", number()), now)).map_err(wrong);
        }
        if what == "send_welcome_msg" {
            let asked = serde_json::from_slice(body).map_err(unreadable)?;
            let message = self.welcomes().check(asked, (format!("{WELCOME}{}", number()), now));
            return message.map(|message| vec![message]).map_err(wrong);
        }
        let asked = serde_json::from_slice(body).map_err(unreadable)?;
        Err(Box::new(self.posts().ask(what, &asked).map_or_else(|(code, why)| error(code, why), |said| respond(&said))))
    }

    fn admit(&self, query: &str, body: &Bytes) -> Result<Asked, (i64, &'static str)> {
        self.door().check(&of(query, "access_token"), self.shared.clock.now())?;
        let asked: Asked = serde_json::from_slice(body).map_err(|_| (47_001, "data format error"))?;
        if asked.agentid != self.shared.corporation.agent_id {
            return Err((40_056, "invalid agentid"));
        }
        if asked.msgtype != "text" || asked.text.content.is_empty() {
            return Err((40_008, "invalid message type"));
        }
        let users = asked.touser.split('|').count();
        if users > USERS_MAX {
            return Err((40_130, "too many users"));
        }
        if asked.touser.split('|').all(|user| user.is_empty() || is_nobody(user)) {
            return Err((81_013, "user & party & tag all invalid"));
        }
        Ok(asked)
    }
}

impl Vendor for Wecom {
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong> {
        let query = head.uri.query().unwrap_or_default();
        let path = head.uri.path();
        if let Some(what) = path.strip_prefix("/cgi-bin/externalcontact/") {
            return self.customers(what, (query, body), number);
        }
        match path {
            "/cgi-bin/gettoken" => return Err(Box::new(self.give_token(query))),
            "/cgi-bin/message/send" => {}
            _ => return Err(Box::new(answer(StatusCode::NOT_FOUND, "text/plain", "no such path"))),
        }
        let asked = self.admit(query, body).map_err(|(code, why)| Box::new(error(code, why)))?;
        // One id for all of a request.
        let id = format!("msg-{}", number());
        let message = |user: &str| Message {
            id: id.clone(),
            from: asked.agentid.to_string(),
            to: user.to_owned(),
            text: asked.text.content.clone(),
            reference: if is_nobody(user) { NOT_THERE.to_owned() } else { String::new() },
        };
        Ok(asked.touser.split('|').map(message).collect())
    }

    fn together(&self) -> bool {
        true
    }

    fn taken(&self, message: &Message) {
        if message.id.starts_with(TO_CUSTOMERS) {
            self.posts().taken(message);
        }
        if message.id.starts_with(WELCOME) {
            self.welcomes().taken(message);
        }
    }

    fn is_code(&self, code: &str) -> bool {
        code.parse::<i64>().is_ok_and(|code| code != 0)
    }

    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes> {
        match messages {
            [(_, Fared::Error(code)), ..] => error(code.parse().unwrap_or(-1), "as the script says"),
            [(message, Fared::Taken(_)), ..] if message.id.starts_with(TO_CUSTOMERS) => {
                let failed = messages.iter().filter(|(message, _)| message.reference == FAILED);
                let failed: Vec<_> = failed.map(|(message, _)| message.to.as_str()).collect();
                respond(&json!({ "errcode": 0, "errmsg": "ok", "fail_list": failed, "msgid": message.id }))
            }
            [(message, Fared::Taken(_)), ..] => {
                let gone = messages.iter().filter(|(message, _)| message.reference == NOT_THERE);
                // In small letters, as WeCom has them.
                let gone: Vec<_> = gone.map(|(message, _)| message.to.to_ascii_lowercase()).collect();
                respond(&json!({ "errcode": 0, "errmsg": "ok", "invaliduser": gone.join("|"), "msgid": message.id }))
            }
            [(_, Fared::Throttled), ..] => error(45_033, "api concurrent out of limit"),
            [(_, Fared::Refused), ..] => error(81_013, "user & party & tag all invalid"),
            [(_, Fared::Failed), ..] | [] => error(-1, "system busy"),
        }
    }

    fn receipt(&self, _message: &Message, _fate: Fate) -> Option<Post> {
        None
    }

    fn reply(&self, _from: &str, _to: &str, _text: &str) -> Option<Post> {
        None
    }
}

/// Returns whether no employee has that id; ids are compared without regard to case.
fn is_nobody(user: &str) -> bool {
    user.get(..6).is_some_and(|front| front.eq_ignore_ascii_case("nobody"))
}

fn of(query: &str, wanted: &str) -> String {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted);
    found.map_or_else(String::new, |(_, value)| value.into_owned())
}

fn error(code: i64, why: &str) -> Response<Bytes> {
    respond(&json!({ "errcode": code, "errmsg": why }))
}

fn respond(said: &Value) -> Response<Bytes> {
    answer(StatusCode::OK, "application/json; charset=utf-8", said.to_string())
}
