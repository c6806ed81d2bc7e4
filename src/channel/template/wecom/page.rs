//! How WeCom answers what it is asked about messages to customers: lists, page by page.

use serde::Deserialize;

/// Every answer.
#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) errcode: i64,
}

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    /// Asks for the next page; empty: there is none.
    #[serde(default)]
    pub(super) next_cursor: String,
    /// One list has one name, another has another.
    #[serde(default = "Vec::new", alias = "group_msg_list", alias = "task_list", alias = "send_list")]
    pub(super) entries: Vec<T>,
}

/// A message of the corporation's: whose of its applications', it does not say.
#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) msgid: Box<str>,
    /// In seconds since the epoch.
    pub(super) create_time: i64,
    #[serde(default)]
    pub(super) text: Text,
}

/// What a message says.
#[derive(Deserialize, Default)]
pub(super) struct Text {
    #[serde(default)]
    pub(super) content: Box<str>,
}

/// An employee who is to confirm a message.
#[derive(Deserialize)]
pub(super) struct Sender {
    pub(super) userid: Box<str>,
}

/// What became of a message to a customer or a group.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    pub(super) external_userid: Box<str>,
    #[serde(default)]
    pub(super) chat_id: Box<str>,
    pub(super) status: u8,
}
