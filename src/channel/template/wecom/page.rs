//! How WeCom answers what it is asked about messages to customers: lists, page by page. The lists are a corporation's, so
//! what one entry says in another way than expected is left out, and the others are read.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Every answer.
#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) errcode: i64,
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(super) struct Page<T> {
    /// Asks for the next page; empty: there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) next_cursor: String,
    /// One list has one name, another has another. `None` is an entry that does not read.
    #[serde(
        default = "Vec::new",
        deserialize_with = "each",
        alias = "group_msg_list",
        alias = "task_list",
        alias = "send_list"
    )]
    pub(super) entries: Vec<Option<T>>,
}

/// A message of the corporation's: whose of its applications', it does not say.
#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) msgid: Box<str>,
    /// In seconds since the epoch: a number, which the documentation writes as a string.
    #[serde(deserialize_with = "secs")]
    pub(super) create_time: i64,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) text: Text,
}

/// What a message says.
#[derive(Deserialize, Default)]
pub(super) struct Text {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) content: Box<str>,
}

/// An employee who is to confirm a message.
#[derive(Deserialize)]
pub(super) struct Sender {
    pub(super) userid: Box<str>,
}

/// What became of a message to a customer or a group.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Entry {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) external_userid: Box<str>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) chat_id: Box<str>,
    pub(super) status: u8,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never whose: this ends in panics.
        f.debug_struct("Entry").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Takes `null` for what is not there.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn each<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<Option<T>>, D::Error> {
    let entries: Vec<Value> = or_default(from)?;
    Ok(entries.into_iter().map(|entry| serde_json::from_value(entry).ok()).collect())
}

fn secs<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let value = Value::deserialize(from)?;
    let secs = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    secs.ok_or_else(|| D::Error::custom("no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_does_not_read_costs_the_others_nothing() {
        let text = r#"{"errcode":0,"next_cursor":null,"group_msg_list":[
            {"msgid":"a","create_time":"1600000000","text":{"content":"hi"}},
            {"msgid":"b","create_time":1600000001,"text":null,"attachments":[{"msgtype":"image"}]},
            {"msgid":"c","create_time":"xxxx"}, {"create_time":1}, 7,
            {"msgid":"d","create_time":1600000002,"text":{"content":null}}]}"#;
        let page: Page<Listed> = serde_json::from_str(text).unwrap();
        let read = |entry: &Option<Listed>| entry.as_ref().map(|entry| (entry.msgid.to_string(), entry.create_time));
        let read: Vec<_> = page.entries.iter().map(read).collect();
        let (a, b, d) = (("a".into(), 1_600_000_000), ("b".into(), 1_600_000_001), ("d".into(), 1_600_000_002));
        assert_eq!(read, [Some(a), Some(b), None, None, None, Some(d)]);
        assert_eq!(page.next_cursor, "");
        let page: Page<Entry> = serde_json::from_str(r#"{"send_list":[{"chat_id":null,"status":1}]}"#).unwrap();
        assert_eq!(page.entries[0].as_ref().map(|entry| entry.status), Some(1));
        assert!(serde_json::from_str::<Page<Entry>>(r#"{"send_list":null}"#).unwrap().entries.is_empty());
    }
}
