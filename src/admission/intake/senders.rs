//! Who jobs leave from that name a pool of senders: each recipient keeps the member that they were given first.
//!
//! That is remembered as keyed submits are, in limits: under tenant, recipient and pool, put there by whoever comes first. The
//! member is not told again, only whether it is this one, so members are asked about in the order in which they are drawn for
//! the recipient: mostly the first is right. Where limits do not answer, or have lost their memory, that first one it is.

use std::time::Duration;

use uuid::Uuid;

use super::Admission;
use crate::admission::Request;
use crate::admission::plan::Plan;
use crate::domain::ids::JobId;
use crate::domain::keys::{Fingerprint, RecipientKey, WordKey};
use crate::domain::quota::QUOTA_MAX;
use crate::domain::sender::{Candidate, Member, SenderPool, successor};
use crate::domain::time::UnixMicros;
use crate::ledger::{Ledger, Tenant};
use crate::limits::{Allowance, Counts, Limits, LimitsError, Need, Remember, Remembered, Spend, Spent};
use crate::queue::Queue;

/// How long a recipient keeps a sender: as far ahead as jobs can be scheduled.
const KEPT: Duration = Duration::from_secs(400 * 24 * 3600);
/// Recipients that are asked about at a time.
const AT_ONCE: usize = 512;

/// Seconds in a stretch of time whose recipients are counted together: for so long those still count that are no longer kept.
const STRETCH_S: i64 = 30 * 24 * 3600;

/// Whether it is noted who was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keeps {
    /// It is: the jobs are accepted.
    Notes,
    /// It is not: they are only rehearsed.
    Looks,
}

/// A recipient whose sender is looked for.
struct Search<'a> {
    recipient: RecipientKey,
    /// Whom it may be, the likeliest first.
    among: Vec<Candidate<'a>>,
    /// The place of the next one to ask about.
    next: usize,
    found: Option<&'a str>,
}

impl<Q: Queue, L: Limits, B: Ledger> Admission<Q, L, B> {
    /// Gives the jobs of a plan that name a pool of senders one of its members each.
    pub(super) async fn choose_senders(&self, request: &Request, plan: &mut Plan, (now, keeps): (UnixMicros, Keeps)) {
        let tenant = &request.tenant;
        if !plan.groups.iter().any(|group| tenant.sender_pool(&group.sender).is_some()) {
            return;
        }
        let mut chosen = Vec::with_capacity(plan.groups.len());
        for group in std::mem::take(&mut plan.groups) {
            let Some(pool) = tenant.sender_pool(&group.sender) else {
                chosen.push(group);
                continue;
            };
            let recipient =
                |&place: &usize| self.sealer.recipient_key(&tenant.id, &request.items[place].recipient, request.kind);
            let recipients: Vec<RecipientKey> = group.items.iter().map(recipient).collect();
            let mut senders = Vec::with_capacity(recipients.len());
            for part in recipients.chunks(AT_ONCE) {
                senders.extend(self.senders((tenant, pool), part, now, keeps).await);
            }
            chosen.extend(Plan::split(group, &senders));
        }
        plan.groups = chosen;
    }

    /// Returns how many recipients keep to a sender, by themselves or since it took over from theirs; in each pool by itself.
    /// Those that it was given longest ago may be told for a month after they keep to nobody.
    ///
    /// # Errors
    /// Limits do not answer.
    pub async fn kept_to(&self, tenant: &Tenant, sender: &str, now: UnixMicros) -> Result<u64, LimitsError> {
        let has_by_now = |member: &Member| {
            let by_now = successor(&tenant.reassigned, &member.sender, (member.since, UnixMicros::MAX));
            by_now.unwrap_or(&member.sender) == sender
        };
        let mut counts = Vec::new();
        for pool in &tenant.sender_pools {
            let members = pool.members.iter().chain(&pool.left).zip(pool.marks());
            for (_, mark) in members.filter(|(member, _)| has_by_now(member)) {
                counts.extend((stretch(now.minus(KEPT))..=stretch(now)).map(|stretch| counted(mark, stretch)));
            }
        }
        self.limits.taken(&tenant.id, &counts).await
    }

    /// Returns whom each of some recipients leaves from.
    async fn senders(
        &self,
        (tenant, pool): (&Tenant, &SenderPool),
        recipients: &[RecipientKey],
        now: UnixMicros,
        keeps: Keeps,
    ) -> Vec<Box<str>> {
        let marks = pool.marks();
        let search = |&recipient: &RecipientKey| {
            let among = pool.ranked(&marks, recipient);
            Search { recipient, among, next: 0, found: None }
        };
        let mut searches: Vec<Search<'_>> = recipients.iter().map(search).collect();
        loop {
            let mut open: Vec<&mut Search<'_>> = searches.iter_mut().filter(|search| search.open()).collect();
            let asked: Vec<Spend> = open.iter().filter_map(|search| search.ask((tenant, pool), now, keeps)).collect();
            if asked.is_empty() {
                break;
            }
            let Ok(answers) = self.limits.spend(now, &asked).await else { break };
            for (search, answer) in open.iter_mut().zip(answers) {
                search.learn(tenant, answer);
            }
        }
        searches.into_iter().map(|search| search.sender().into()).collect()
    }
}

/// Returns the count of those that are given to a member in the stretch of `now`. It is kept for as long as the last of them
/// keeps the member.
fn count(mark: Uuid, now: UnixMicros) -> Allowance {
    let stretch = stretch(now);
    let ends_at = UnixMicros::from_secs((stretch + 1) * STRETCH_S).plus(KEPT);
    Allowance { key: counted(mark, stretch), counts: Counts::Jobs, most: QUOTA_MAX, ends_at }
}

fn counted(mark: Uuid, stretch: i64) -> WordKey {
    WordKey(Uuid::new_v5(&mark, format!("recipients {stretch}").as_bytes()).into_bytes())
}

fn stretch(at: UnixMicros) -> i64 {
    at.as_secs().div_euclid(STRETCH_S)
}

impl<'a> Search<'a> {
    fn open(&self) -> bool {
        self.found.is_none() && self.next < self.among.len()
    }

    /// Returns the question whether the recipient keeps the next one: noted at once where nobody is kept and it may be given.
    fn ask(&self, (tenant, pool): (&Tenant, &SenderPool), now: UnixMicros, keeps: Keeps) -> Option<Spend> {
        let one = self.among.get(self.next)?;
        let id = Uuid::new_v5(&Uuid::from_bytes(self.recipient.0), format!("sender {}", pool.name).as_bytes());
        let fingerprint = Fingerprint(one.mark.into_bytes());
        let key = Remember { id: JobId(id), fingerprint, until: now.plus(KEPT) };
        // Who is noted is counted in the same step.
        let (from, items) = match one.there && keeps == Keeps::Notes {
            true => (vec![count(one.mark, now)], vec![Need { jobs: 1, micros: 0 }]),
            false => (vec![], vec![]),
        };
        Some(Spend { tenant: tenant.id.clone(), key: Some(key), from, items })
    }

    fn learn(&mut self, tenant: &'a Tenant, answer: Spent) {
        let Some(&Candidate { member, there, .. }) = self.among.get(self.next) else { return };
        self.next += 1;
        match answer.met {
            // Nobody was kept. It is this one, unless others took over from it: then it is one of those that follow.
            Remembered::New if there => self.found = Some(&member.sender),
            Remembered::New => {}
            Remembered::Pending | Remembered::Accepted => {
                let taken_over = || successor(&tenant.reassigned, &member.sender, (member.since, UnixMicros::MAX));
                self.found = if there { Some(&member.sender) } else { taken_over() };
            }
            Remembered::Conflict => {}
        }
    }

    /// Returns whom it is: where nobody is known to be kept, the first that is there.
    fn sender(&self) -> &'a str {
        let first = || self.among.iter().find(|one| one.there).map(|one| &*one.member.sender);
        self.found.or_else(first).unwrap_or_default()
    }
}
