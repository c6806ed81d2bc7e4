//! Lists for employees, of what waits for them; and for whoever is told of what they did not confirm. What was said is
//! remembered with all processes, and by provider of one corporation together: three lists a day are three.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use serde_json::json;

use super::super::super::super::sms::cloud::CHINA;
use super::super::super::token::{Held, Lent, Vault};
use super::super::customers::short;
use super::super::page::Said;
use super::super::reminders::{self, Line, Memory};
use super::ask::{Asks, Trouble};
use super::post::Post;
use crate::config;
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;
use crate::rate_limited;

/// How long what employees were told is remembered after the last word.
const REMEMBERED: Duration = Duration::from_secs(4 * 24 * 3_600);

/// Messages by the employee who is to confirm them.
type Lines = BTreeMap<Box<str>, Vec<Line>>;

/// Sends lists.
pub(super) struct Lists {
    provider: ProviderId,
    settings: config::Wecom,
    vault: Arc<dyn Vault>,
    /// Under which name what was said is remembered.
    name: String,
    /// What this process said itself, should all else be forgotten.
    memory: Memory,
}

// === impl Lists ===

impl Lists {
    /// Returns what has said nothing yet.
    pub(super) fn new(settings: &config::Wecom, provider: ProviderId, vault: Arc<dyn Vault>) -> Self {
        let name = format!("wecom-reminders:{}", settings.corp_id);
        Self { provider, settings: settings.clone(), vault, name, memory: Memory::default() }
    }

    /// Sends what is due. What cannot be sent now is sent another time: it follows from the messages.
    pub(super) async fn send(&mut self, asks: &Asks, posts: &mut HashMap<Box<str>, Post>, now: UnixMicros) {
        let (mut waiting, stopped) = (lines(posts, false), lines(posts, true));
        waiting.retain(|employee, _| config::is_employee(employee));
        if waiting.is_empty() && stopped.is_empty() {
            return;
        }
        let known = match self.vault.borrow(&self.name, None).await {
            Lent::Token(held) => held.token,
            // Nothing is remembered: from now on something is, so that nobody else waits for this one.
            Lent::Yours => match self.remember(None, &self.memory, now).await {
                Some(known) => known,
                None => return,
            },
            Lent::Wait => return,
        };
        let mut memory = self.memory.clone();
        memory.merge(serde_json::from_str(&known).unwrap_or_default(), now);
        let said = self.remind(asks, (memory.clone(), &known), &waiting, now).await;
        let known = said.unwrap_or((memory, known));
        if self.escalate(asks, known, &stopped, now).await {
            posts.values_mut().filter(|post| post.stopped).for_each(|post| post.waiting.clear());
        }
    }

    /// Sends employees lists of what waits for them. Remembered before it is said: rather a list too few than one too many.
    /// Returns what is remembered then, and as what; `None`: nothing was sent.
    async fn remind(
        &mut self,
        asks: &Asks,
        (mut memory, known): (Memory, &Arc<str>),
        waiting: &Lines,
        now: UnixMicros,
    ) -> Option<(Memory, Arc<str>)> {
        let after = self.settings.remind_after;
        let due: Vec<_> = waiting
            .iter()
            .filter_map(|(employee, lines)| Some((employee, lines, memory.remind(employee, lines, after, now)?)))
            .collect();
        if due.is_empty() {
            return None;
        }
        let mut known = self.remember(Some(known), &memory, now).await?;
        let mut taken_back = false;
        for (employee, lines, before) in due {
            let text = reminders::list(&self.settings.reminder, lines, CHINA);
            if let Err(trouble) = self.say(asks, employee, &text).await
                && trouble.is_definite()
            {
                memory.unremind(employee, before);
                taken_back = true;
            }
        }
        if taken_back && let Some(again) = self.remember(Some(&known), &memory, now).await {
            known = again;
        }
        self.memory = memory.clone();
        Some((memory, known))
    }

    /// Tells of what was not confirmed. Said before it is remembered: rather twice than never. Returns whether all is told.
    async fn escalate(
        &mut self,
        asks: &Asks,
        (mut memory, known): (Memory, Arc<str>),
        stopped: &Lines,
        now: UnixMicros,
    ) -> bool {
        let chief = self.settings.escalate_to.clone();
        let mut due = Lines::new();
        for (employee, lines) in stopped.iter().filter(|_| !chief.is_empty()) {
            let left: Vec<_> = lines.iter().filter(|line| memory.escalates(line)).cloned().collect();
            if !left.is_empty() {
                due.insert(employee.clone(), left);
            }
        }
        if due.is_empty() {
            return true;
        }
        // Where WeCom says nothing any more of what was stopped, it is not known whose it was.
        let parts: Vec<_> = due
            .iter()
            .map(|(whose, lines)| reminders::list(if whose.is_empty() { "?" } else { whose }, lines, CHINA))
            .collect();
        if self.say(asks, &chief, &reminders::joined(&self.settings.escalation, &parts)).await.is_err() {
            return false;
        }
        due.values().for_each(|lines| memory.escalated(lines));
        self.memory = memory;
        // Lost, this process still knows, and says it to the others with the next list.
        let _lost = self.remember(Some(&known), &self.memory, now).await;
        true
    }

    /// Remembers what was said, if all that is known still is `known`; returns as what.
    async fn remember(&self, known: Option<&Arc<str>>, memory: &Memory, now: UnixMicros) -> Option<Arc<str>> {
        if known.is_some() && !matches!(self.vault.borrow(&self.name, known.map(|known| &**known)).await, Lent::Yours) {
            return None; // Another process just said something.
        }
        let (token, until): (Arc<str>, _) = (serde_json::to_string(memory).ok()?.into(), now.plus(REMEMBERED));
        let held = Held { token: Arc::clone(&token), renew_at: until, until };
        self.vault.lend(&self.name, &held).await;
        // Who is told to renew something is told so while limits are away, too.
        match self.vault.borrow(&self.name, None).await {
            Lent::Token(held) if held.token == token => Some(token),
            Lent::Token(_) | Lent::Yours | Lent::Wait => None,
        }
    }

    async fn say(&self, asks: &Asks, to: &str, text: &str) -> Result<(), Trouble> {
        let agent = self.settings.agent_id;
        let said = json!({ "touser": to, "msgtype": "text", "agentid": agent, "text": { "content": text } });
        let told = asks.post::<Said>("message/send", &said).await;
        if let Err(trouble) = &told {
            rate_limited!(per_min = 6, warn, provider = %self.provider, %trouble, "a list was not sent");
        }
        told.map(|_| ())
    }
}

/// Returns the messages that wait for employees, or those that were stopped since they did not confirm them.
fn lines(posts: &HashMap<Box<str>, Post>, stopped: bool) -> Lines {
    let mut lines = Lines::new();
    for (msgid, post) in posts.iter().filter(|(_, post)| post.stopped == stopped) {
        for (employee, targets) in &post.waiting {
            let (id, created, text) = (short(msgid), post.created.as_secs(), post.excerpt.clone());
            lines.entry(employee.clone()).or_default().push(Line { id, created, targets: *targets, text });
        }
    }
    lines.values_mut().for_each(|lines| lines.sort_by_key(|line| (line.created, line.id)));
    lines
}
