//! Messages to customers and groups of a simulated corporation, which wait until an employee confirms them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Message;
use super::Operators;
use crate::domain::time::UnixMicros;

/// The reference of a message to a customer or a group that the employee does not have.
pub(super) const FAILED: &str = "fail_list";
/// Most customers or groups in a message.
const TARGETS_MAX: usize = 2_000;

/// What is asked cannot be, or not of this message.
type Wrong = (i64, &'static str);

/// Of a message that was stopped.
const STOPPED: Wrong = (41_093, "stopped before");

/// The messages of a corporation.
#[derive(Default, Debug)]
pub(super) struct Posts {
    posts: Vec<Post>,
    lists: usize,
    /// Nothing is said of what was stopped.
    hides_stopped: bool,
}

#[derive(Debug)]
struct Post {
    msgid: String,
    sender: String,
    group: bool,
    created: i64,
    text: String,
    stopped: bool,
    /// Nothing good is to be heard of it.
    broken: bool,
    /// How often it was asked about.
    asked: usize,
    /// Whom it is for, and what WeCom says of each: 0 to 3.
    targets: Vec<(String, u8)>,
}

/// What add_msg_template is asked.
#[derive(Deserialize)]
pub(super) struct Asked {
    chat_type: String,
    #[serde(default)]
    external_userid: Vec<String>,
    #[serde(default)]
    chat_id_list: Vec<String>,
    #[serde(default)]
    sender: String,
    text: super::Text,
}

/// What is asked about messages.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Question {
    chat_type: String,
    start_time: i64,
    end_time: i64,
    msgid: String,
    userid: String,
    limit: usize,
    cursor: String,
}

// === impl Posts ===

impl Posts {
    /// Takes a message in, to nobody yet; returns its parts, one for each whom it is for.
    pub(super) fn add(&mut self, asked: Asked, (msgid, now): (String, UnixMicros)) -> Result<Vec<Message>, Wrong> {
        let group = asked.chat_type == "group";
        let targets = if group { asked.chat_id_list } else { asked.external_userid };
        if asked.text.content.is_empty() {
            return Err((40_008, "invalid message type"));
        }
        if targets.len() > TARGETS_MAX {
            return Err((40_130, "too many targets"));
        }
        if targets.iter().all(|target| is_nobody(target)) || asked.sender.is_empty() {
            return Err((41_048, "no customer to send to"));
        }
        let message = |to: &String| Message {
            id: msgid.clone(),
            from: asked.sender.clone(),
            to: to.clone(),
            text: asked.text.content.clone(),
            reference: if is_nobody(to) { FAILED.to_owned() } else { String::new() },
        };
        let messages = targets.iter().map(message).collect();
        let (sender, text) = (asked.sender, asked.text.content);
        self.posts.push(Post::new(msgid, (sender, group), text, now));
        Ok(messages)
    }

    /// Takes a message of another application in, to a customer; returns its id.
    pub(super) fn strange(&mut self, (employee, customer): (&str, &str), now: UnixMicros) -> String {
        let msgid = format!("strange-{}", self.posts.len());
        let mut post = Post::new(msgid.clone(), (employee.to_owned(), false), "hello".to_owned(), now);
        post.targets.push((customer.to_owned(), 0));
        self.posts.push(post);
        msgid
    }

    /// Lets time pass: employees decide about what they have had long enough.
    pub(super) fn pass(&mut self, operators: Operators, now: UnixMicros) {
        let due = |post: &&mut Post| now.since(UnixMicros::from_secs(post.created)) >= operators.after;
        // The same every time, and another for each message.
        let chance = |post: &Post| f64::from(crc32fast::hash(post.msgid.as_bytes())) / f64::from(u32::MAX);
        for post in self.posts.iter_mut().filter(due).filter(|post| chance(post) < operators.confirm) {
            post.confirm();
        }
    }

    /// Answers every question about a message with an error.
    pub(super) fn break_one(&mut self, msgid: &str) {
        self.posts.iter_mut().filter(|post| post.msgid == msgid).for_each(|post| post.broken = true);
    }

    /// Says nothing any more of what was stopped.
    pub(super) fn hide_stopped(&mut self) {
        self.hides_stopped = true;
    }

    /// Returns the ids of the messages, oldest first.
    pub(super) fn ids(&self) -> Vec<String> {
        self.posts.iter().filter(|post| !post.targets.is_empty()).map(|post| post.msgid.clone()).collect()
    }

    /// Returns how often a message was asked about or stopped; and how often all were listed.
    pub(super) fn asked(&self, msgid: &str) -> (usize, usize) {
        (self.posts.iter().find(|post| post.msgid == msgid).map_or(0, |post| post.asked), self.lists)
    }

    /// Notes that a part of a message was taken.
    pub(super) fn taken(&mut self, message: &Message) {
        let post = self.posts.iter_mut().rev().find(|post| post.msgid == message.id);
        if let Some(post) = post.filter(|_| message.reference != FAILED) {
            post.targets.push((message.to.clone(), 0));
        }
    }

    /// Lets an employee confirm all that waits for them; returns to how many it goes. Who is called `stranger…` is a friend
    /// no more, and who is called `full…` has had as many as may come.
    pub(super) fn confirm(&mut self, employee: &str) -> usize {
        self.posts.iter_mut().filter(|post| post.sender == employee).map(Post::confirm).sum()
    }

    /// Returns how many messages there are, and how many of them were stopped.
    pub(super) fn counts(&self) -> (usize, usize) {
        let posts = self.posts.iter().filter(|post| !post.targets.is_empty());
        (posts.clone().count(), posts.filter(|post| post.stopped).count())
    }

    /// Answers a question about messages.
    pub(super) fn ask(&mut self, what: &str, asked: &Question) -> Result<Value, Wrong> {
        let entries = match what {
            "get_groupmsg_list_v2" => {
                self.lists += 1;
                ("group_msg_list", self.list(asked))
            }
            "get_groupmsg_task" => ("task_list", self.find(&asked.msgid)?.task()),
            "get_groupmsg_send_result" => ("send_list", self.find(&asked.msgid)?.results(&asked.userid)),
            "cancel_groupmsg_send" => {
                self.find(&asked.msgid)?.stop()?;
                return Ok(json!({ "errcode": 0, "errmsg": "ok" }));
            }
            _ => return Err((40_058, "no such question")),
        };
        let (name, entries) = entries;
        let from: usize = asked.cursor.parse().unwrap_or(0);
        let to = from.saturating_add(asked.limit.clamp(1, 1_000)).min(entries.len());
        let next = if to < entries.len() { to.to_string() } else { String::new() };
        let page = entries.get(from..to).unwrap_or_default();
        let mut said = json!({ "errcode": 0, "errmsg": "ok", "next_cursor": next });
        said[name] = page.into();
        Ok(said)
    }

    fn find(&mut self, msgid: &str) -> Result<&mut Post, Wrong> {
        let post = self.posts.iter_mut().find(|post| post.msgid == msgid).ok_or((41_047, "invalid msgid"))?;
        post.asked += 1;
        match post {
            Post { broken: true, .. } => Err((60_111, "userid not found")),
            Post { stopped: true, .. } if self.hides_stopped => Err(STOPPED),
            post => Ok(post),
        }
    }

    fn list(&self, asked: &Question) -> Vec<Value> {
        let group = asked.chat_type == "group";
        let listed = self.posts.iter().filter(|post| post.group == group && !post.targets.is_empty());
        let listed = listed.filter(|post| (asked.start_time..=asked.end_time).contains(&post.created));
        let shown = |post: &Post| json!({ "msgid": post.msgid, "create_time": post.created, "create_type": 0, "text": { "content": post.text } });
        listed.map(shown).collect()
    }
}

impl Post {
    fn new(msgid: String, (sender, group): (String, bool), text: String, now: UnixMicros) -> Self {
        let (created, targets) = (now.as_secs(), vec![]);
        Self { msgid, sender, group, created, text, stopped: false, broken: false, asked: 0, targets }
    }

    /// Sends it; returns to how many it goes.
    fn confirm(&mut self) -> usize {
        if self.stopped {
            return 0;
        }
        let mut sent = 0;
        for (target, status) in self.targets.iter_mut().filter(|(_, status)| *status == 0) {
            *status = if target.starts_with("stranger") {
                2
            } else if target.starts_with("full") {
                3
            } else {
                sent += 1;
                1
            };
        }
        sent
    }

    fn stop(&mut self) -> Result<(), Wrong> {
        if std::mem::replace(&mut self.stopped, true) { Err(STOPPED) } else { Ok(()) }
    }

    fn task(&self) -> Vec<Value> {
        let waits = self.targets.iter().any(|(_, status)| *status == 0);
        vec![json!({ "userid": self.sender, "status": if waits { 0 } else { 2 } })]
    }

    fn results(&self, userid: &str) -> Vec<Value> {
        let name = if self.group { "chat_id" } else { "external_userid" };
        let shown = |(target, status): &(String, u8)| {
            let mut shown = json!({ "userid": self.sender, "status": status });
            shown[name] = target.as_str().into();
            shown
        };
        if userid == self.sender { self.targets.iter().map(shown).collect() } else { vec![] }
    }
}

fn is_nobody(target: &str) -> bool {
    target.starts_with("nobody")
}
