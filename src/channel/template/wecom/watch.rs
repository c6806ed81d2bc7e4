//! What became of messages to customers: WeCom calls nobody back about them, so it is asked, every `poll_every`, by one
//! process for all. Sources: developer.work.weixin.qq.com/document/path/93338 (messages and results), /97610 (reminding and
//! stopping).
//!
//! | WeCom says of a customer or group | the job |
//! |---|---|
//! | 0, not sent | `awaiting_operator` |
//! | 1, sent | `delivered` |
//! | 2, not a friend any more | `undelivered`, `not_friend` |
//! | 3, has had as many as may come | `suppressed`, `vendor_limit` |
//! | 0, and the time to confirm is up | the message is stopped, then `expired`, `not_confirmed` |
//! | 0, and all who would still get it are taken back | the message is stopped, then as for any job that is taken back |
//!
//! Nothing is kept that a crash could lose: WeCom lists what was handed over and when, from which the deadline follows, and
//! [`Books`] have whose it is and how it ended. What is told twice, record tells apart. Before a job is said to have ended
//! because its message was stopped, WeCom has said that it is, and was asked once more who has it.
//!
//! What goes wrong with one message concerns that one: it is asked about again, ever less often. What would go wrong with
//! all, the others do not wait for. A look has a bound, and the next one begins where it ended.

mod ask;
mod books;
mod lists;
mod post;
mod turn;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hashbrown::HashMap;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

pub use self::books::{Books, Kept};

use self::ask::{Asks, Trouble};
use self::lists::Lists;
use self::post::{Found, Post, Stop, Told};
use self::turn::Turn;
use super::super::super::http::client::Client;
use super::super::super::{Inbound, News};
use super::super::token::Vault;
use super::door;
use super::page::{Entry, Listed, Said, Sender};
use super::reminders;
use crate::config;
use crate::domain::event::{Receipt, Report, State};
use crate::domain::ids::ProviderId;
use crate::domain::time::{Clock, UnixMicros};
use crate::rate_limited;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::{PollMetrics, PollResult};

/// So long after its time to be confirmed a message is still looked at, if it could not be stopped by then.
const STILL: Duration = Duration::from_secs(24 * 3_600);
/// Messages that are asked about at a time: WeCom does not like more (45033).
const AT_ONCE: usize = 4;
/// A look begins with no more messages after this, or after the time to the next one if that is longer; asking about one
/// message takes no longer either.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// A process that died has its turn for twice as long at most, or for two answers that are waited for.
const TURN_MAX: Duration = Duration::from_secs(60);
/// A message that was stopped before.
const STOPPED: i64 = 41_093;
/// A message that WeCom only just took, and cannot tell of yet.
const NOT_YET: i64 = 41_063;

/// Asks about a provider's messages to customers.
pub struct Watch {
    provider: ProviderId,
    settings: config::Wecom,
    asks: Asks,
    books: Arc<dyn Books>,
    inbox: mpsc::Sender<Inbound>,
    clock: Clock,
    turn: Turn,
    lists: Lists,
    metrics: PollMetrics,
    /// Messages that WeCom listed lately.
    posts: HashMap<Box<str>, Post>,
}

/// What a watch needs of others.
pub struct Needs {
    /// Asks.
    pub client: Client,
    /// Takes what it hears.
    pub inbox: mpsc::Sender<Inbound>,
    /// Where processes share tokens, whose turn it is, and what employees were told.
    pub vault: Arc<dyn Vault>,
    /// Which messages are the provider's.
    pub books: Arc<dyn Books>,
    /// How long an answer may take.
    pub limit: Duration,
}

// === impl Watch ===

impl Watch {
    /// Starts to watch the messages of a provider.
    pub fn start((provider, settings): (ProviderId, config::Wecom), needs: Needs, tasks: &Tasks, clock: &Clock) {
        let stop = tasks.stop().clone();
        let mut watch = Self::new(provider, settings, needs, clock);
        tasks.spawn("wecom_watch", async move {
            let (every, clock) = (watch.settings.poll_every, watch.clock.clone());
            while stop.run_until_cancelled(clock.sleep(every)).await.is_some() {
                if stop.run_until_cancelled(watch.look()).await.is_none() {
                    break;
                }
            }
            watch.turn.give_back().await;
        });
    }

    fn new(provider: ProviderId, settings: config::Wecom, needs: Needs, clock: &Clock) -> Self {
        let Needs { client, inbox, vault, books, limit } = needs;
        let tokens = door::tokens(&settings, Arc::clone(&vault), clock);
        let asks = Asks { tokens, client, settings: settings.clone(), limit };
        let length = 2 * settings.poll_every.min(TURN_MAX).max(limit);
        let turn = Turn::new(Arc::clone(&vault), format!("wecom-turn:{provider}"), length, clock);
        let lists = Lists::new(&settings, provider.clone(), vault);
        let metrics = PollMetrics::new(&provider);
        let (clock, posts) = (clock.clone(), HashMap::new());
        Self { provider, settings, asks, books, inbox, clock, turn, lists, metrics, posts }
    }

    /// Looks at all messages that may have news, in its turn.
    async fn look(&mut self) {
        if !self.turn.take().await {
            return;
        }
        if let Err(trouble) = self.look_at_all().await {
            rate_limited!(per_min = 6, warn, provider = %self.provider, %trouble, "cannot ask about messages");
        }
        let now = self.clock.now();
        self.lists.send(&self.asks, &mut self.posts, now).await;
    }

    async fn look_at_all(&mut self) -> Result<(), Trouble> {
        let (now, watch) = (self.clock.now(), self.clock.stopwatch());
        let mut due = self.list(now).await?;
        let looked_at = |msgid: &str| self.posts.get(msgid).map(|post| post.looked_at);
        // Those that a look had no time for are the first of the next.
        due.sort_by_key(|msgid| looked_at(msgid));
        let mut left = due.chunks(AT_ONCE);
        let looked = loop {
            let Some(some) = left.next() else { break Ok(()) };
            if watch.elapsed() > LOOK_MAX.max(self.settings.poll_every) || !self.turn.take().await {
                self.metrics.count(PollResult::Left, some.len());
                break Ok(());
            }
            if let Err(trouble) = self.look_at(some).await {
                self.metrics.count(PollResult::Left, some.len());
                break Err(trouble);
            }
        };
        self.metrics.count(PollResult::Left, left.map(<[_]>::len).sum());
        looked
    }

    /// Brings in which messages there are; returns those that are to be looked at.
    async fn list(&mut self, now: UnixMicros) -> Result<Vec<Box<str>>, Trouble> {
        let since = now.minus(self.settings.confirm_within + STILL).as_secs();
        let (mut all, mut whole) = (Vec::new(), true);
        for chat_type in ["single", "group"] {
            let asked = json!({
                // Those of the corporation; 1 would be an employee's own.
                "chat_type": chat_type, "start_time": since, "end_time": now.as_secs() + 1, "filter_type": 0, "limit": 100,
            });
            let listed = match self.asks.pages::<Listed>("get_groupmsg_list_v2", asked).await {
                Ok(listed) => listed,
                Err(trouble @ Trouble::Everything(_)) => return Err(trouble),
                Err(trouble) => {
                    rate_limited!(per_min = 6, warn, provider = %self.provider, %trouble, chat_type, "cannot list messages");
                    whole = false;
                    continue;
                }
            };
            if listed.cut {
                rate_limited!(per_min = 1, warn, provider = %self.provider, "more messages are open than can be asked about");
            }
            all.extend(listed.entries);
        }
        let mut known = std::mem::take(&mut self.posts);
        for Listed { msgid, create_time, text } in all {
            let new = || Post::new(UnixMicros::from_secs(create_time), reminders::excerpt(&text.content));
            let post = known.remove(&msgid).unwrap_or_else(new);
            self.posts.entry(msgid).or_insert(post);
        }
        if !whole {
            self.posts.extend(known); // Those of the list that is missing are among these.
        }
        Ok(self.posts.iter().filter(|(_, post)| post.is_due(now)).map(|(msgid, _)| msgid.clone()).collect())
    }

    /// Looks at some messages at once.
    async fn look_at(&mut self, msgids: &[Box<str>]) -> Result<(), Trouble> {
        let now = self.clock.now();
        let Some(kept) = self.books.handed_over(&self.provider, msgids).await else {
            return Err(Trouble::Everything("the books cannot be looked up".into()));
        };
        let mut ours = Vec::new();
        for (msgid, mut kept) in msgids.iter().zip(kept) {
            let Some(post) = self.posts.get_mut(msgid) else { continue };
            if kept.is_empty() {
                post.strange(now);
                self.metrics.count(PollResult::Foreign, 1);
                continue;
            }
            post.complete(&mut kept);
            ours.push((msgid, post.created, kept));
        }
        let looks = ours.iter().map(async |(msgid, created, kept)| {
            let asked = self.clock.timeout(LOOK_MAX, self.ask_about(msgid, *created, kept)).await;
            asked.unwrap_or_else(|_| Err(Trouble::Silence("it takes too long".into())))
        });
        let looks = join_all(looks).await;
        let silent = looks.iter().filter(|look| matches!(look, Err(Trouble::Silence(_)))).count();
        let mut all = if silent == AT_ONCE { Err(Trouble::Everything("no answers".into())) } else { Ok(()) };
        for ((msgid, _, kept), look) in ours.iter().zip(looks) {
            match look {
                Ok(found) => self.tell(msgid, found, kept, now).await,
                Err(trouble) => {
                    self.metrics.count(PollResult::Failed, 1);
                    rate_limited!(per_min = 6, warn, provider = %self.provider, %trouble, "cannot ask about a message");
                    let (every, post) = (self.settings.poll_every, self.posts.get_mut(*msgid));
                    // Also where it concerns all: should it be this one's after all, the next look begins with others.
                    post.into_iter().for_each(|post| post.failed(every, now));
                    if matches!(trouble, Trouble::Everything(_)) {
                        all = Err(trouble);
                    }
                }
            }
        }
        all
    }

    /// Asks about a message, and stops it where nobody is to get it any more.
    async fn ask_about(&self, msgid: &str, created: UnixMicros, kept: &[Kept]) -> Result<Found, Trouble> {
        let mut results = match self.results(msgid).await {
            Ok(results) => results,
            // What there is to say of it is in the books.
            Err(Trouble::Code(STOPPED)) => vec![],
            Err(Trouble::Code(NOT_YET)) => return Ok(Found { more: true, ..Found::default() }),
            Err(trouble) => return Err(trouble),
        };
        let mut stop = None;
        if post::waits(msgid, kept, &results) {
            stop = self.stops(created, kept, results.len()).await;
        }
        if stop.is_some() {
            match self.asks.ask::<Said>("cancel_groupmsg_send", &json!({ "msgid": msgid })).await {
                Ok(_) | Err(Trouble::Code(STOPPED)) => {}
                Err(trouble) => return Err(trouble),
            }
            // Somebody may have confirmed it in the last moment.
            match self.results(msgid).await {
                Ok(later) => results = later,
                Err(Trouble::Code(STOPPED)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(post::judge(msgid, kept, &results, stop.as_ref()))
    }

    /// Returns why nobody is to get a message of so many `parts` any more; `None`: they are.
    async fn stops(&self, created: UnixMicros, kept: &[Kept], parts: usize) -> Option<Stop> {
        if self.clock.now() >= created.plus(self.settings.confirm_within) {
            return Some(Stop::Late);
        }
        if kept.len() < parts {
            return None; // Of some the books do not know yet, or never will: those may be to go out.
        }
        let open: Vec<_> = kept.iter().filter(|part| part.end.is_none()).map(|part| (part.job, part.attempt)).collect();
        self.books.taken_back(&open).await.map(Stop::TakenBack)
    }

    /// Returns what WeCom says of each customer or group, with the employee who is to confirm it.
    async fn results(&self, msgid: &str) -> Result<Vec<(Box<str>, Entry)>, Trouble> {
        let asked = json!({ "msgid": msgid, "limit": 1_000 });
        let mut results = Vec::new();
        for Sender { userid } in self.asks.pages::<Sender>("get_groupmsg_task", asked).await?.whole()? {
            let asked = json!({ "msgid": msgid, "userid": userid, "limit": 1_000 });
            let entries = self.asks.pages::<Entry>("get_groupmsg_send_result", asked).await?.whole()?;
            results.extend(entries.into_iter().map(|entry| (userid.clone(), entry)));
        }
        Ok(results)
    }

    /// Tells record what is new, and remembers what is durable: the rest is said again.
    async fn tell(&mut self, msgid: &str, mut found: Found, kept: &[Kept], now: UnixMicros) {
        self.metrics.count(PollResult::Looked, 1);
        let Some(post) = self.posts.get_mut(msgid) else { return };
        let news: Vec<Told> = std::mem::take(&mut found.told).into_iter().filter(|told| post.is_news(told)).collect();
        let mut heard = Vec::with_capacity(news.len());
        for Told { message_id, end, code } in &news {
            let receipt = Receipt {
                provider: self.provider.clone(),
                message_id: message_id.clone(),
                job: None,
                report: end.map_or(Report::Progress(State::AwaitingOperator), Report::Final),
                code: code.clone(),
                at: now,
            };
            let (done, hears) = oneshot::channel();
            // Nobody takes it: then nothing is heard of it either.
            let _stopping = self.inbox.send(Inbound { news: News::Receipt(receipt), done }).await;
            heard.push(hears);
        }
        let heard = join_all(heard).await;
        let said = news.into_iter().zip(heard).filter(|(_, heard)| heard.is_ok()).map(|(told, _)| told).collect();
        post.note(found, kept, said, now);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl fmt::Debug for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needs").field("limit", &self.limit).finish_non_exhaustive()
    }
}
