//! Codes for welcome messages of a simulated corporation: each is good once, for 20 seconds.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::super::Message;
use crate::domain::time::UnixMicros;

/// How long a code is good.
const LIFE: Duration = Duration::from_secs(20);
/// Codes that are remembered; with so many, those that have ended are forgotten.
const REMEMBERED: usize = 100_000;

/// The codes of a corporation.
#[derive(Default, Debug)]
pub(super) struct Welcomes {
    codes: HashMap<String, (UnixMicros, bool)>,
}

/// What send_welcome_msg is asked.
#[derive(Deserialize)]
pub(super) struct Asked {
    welcome_code: String,
    text: super::Text,
}

impl Welcomes {
    /// Gives out a code; told again, it is the same one.
    pub(super) fn give(&mut self, code: &str, now: UnixMicros) {
        if self.codes.len() >= REMEMBERED {
            self.codes.retain(|_, (at, _)| now.since(*at) < LIFE);
        }
        self.codes.entry(code.to_owned()).or_insert((now, false));
    }

    /// Checks a message, which is to whoever the code is for.
    pub(super) fn check(&self, asked: Asked, (id, now): (String, UnixMicros)) -> Result<Message, (i64, &'static str)> {
        let code = asked.welcome_code;
        match self.codes.get(&code) {
            Some((at, false)) if now.since(*at) < LIFE => {}
            Some((_, true)) => return Err((41_051, "externaluser has started chatting")),
            Some(_) | None => return Err((41_050, "invalid welcome code")),
        }
        let (from, reference) = (String::new(), String::new());
        Ok(Message { id, from, to: code, text: asked.text.content, reference })
    }

    /// Notes that a code was used.
    pub(super) fn taken(&mut self, message: &Message) {
        if let Some((_, used)) = self.codes.get_mut(&message.to) {
            *used = true;
        }
    }
}
