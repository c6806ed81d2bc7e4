//! How envelopes, jobs and checks are written in a frame.

use std::sync::Arc;
use std::time::Duration;

use super::FrameError;
use super::wire::{Reader, Writer};
use crate::domain::call::Plan;
use crate::domain::chain::{Chain, STEPS_MAX, Step};
use crate::domain::ids::JobId;
use crate::domain::job::{Check, Class, Content, ENVELOPE_JOBS_MAX, Envelope, Job, Kind, OnMissed, Origin, Shared};
use crate::domain::recipient::{Recipient, RecipientKind, Wechat, Wecom};
use crate::domain::trace::Trace;
use crate::domain::window::{Hours, Weekdays};

/// Fewest bytes of a job: its id, and one byte for each other field.
const JOB_BYTES_MIN: usize = 16 + 7;
/// Fewest bytes of an envelope: three times, thirteen other fields (names and content take two bytes), the count, a job.
pub(super) const ENVELOPE_BYTES_MIN: usize = 3 * 8 + 16 + 1 + JOB_BYTES_MIN;
/// Fewest bytes of a check.
pub(super) const CHECK_BYTES_MIN: usize = 2 + 8 + ENVELOPE_BYTES_MIN;

const KINDS: [RecipientKind; 3] = [RecipientKind::Person, RecipientKind::Group, RecipientKind::Operator];
const MISSED: [OnMissed; 2] = [OnMissed::Defer, OnMissed::Drop];
/// In the byte of `on_missed`: windows follow.
const HAS_WINDOWS: u8 = 1 << 1;
/// In the same byte: a chain follows.
const HAS_CHAIN: u8 = 1 << 2;
/// Fewest bytes of a step of a chain.
const STEP_BYTES_MIN: usize = 5;
/// In the same byte: a trace follows. Only jobs of sampled calls have one, so a process of an older version, which does
/// not know it, meets none before tracing is turned on.
const HAS_TRACE: u8 = 1 << 3;
/// In the first byte of a check, beside whether a provider follows: a call that was taken has ended by then.
const ENDS_CALL: u8 = 1 << 1;
/// Fewest bytes of hours.
const HOURS_BYTES_MIN: usize = 4;

/// Which fields of a recipient are there, one bit each, above the two bits of its kind.
mod has {
    pub(super) const ID: u64 = 1 << 2;
    pub(super) const PHONE: u64 = 1 << 3;
    pub(super) const WECHAT: u64 = 1 << 4;
    pub(super) const WECOM: u64 = 1 << 5;
    pub(super) const CHAT: u64 = 1 << 6;
    pub(super) const USER: u64 = 1 << 7;
    pub(super) const ZONE: u64 = 1 << 8;
    pub(super) const LOCALE: u64 = 1 << 9;
    pub(super) const ALL: u64 = (1 << 10) - 1;
}

impl Writer<'_> {
    pub(super) fn envelope(&mut self, envelope: &Envelope) {
        self.shared(&envelope.shared);
        self.time(envelope.due_at);
        self.count(envelope.jobs.len());
        for job in &envelope.jobs {
            self.job(job);
        }
    }

    pub(super) fn check(&mut self, check: &Check) {
        self.uint(check.attempt.into());
        self.byte(u8::from(check.provider.is_some()) | if check.ends_call { ENDS_CALL } else { 0 });
        if let Some(provider) = &check.provider {
            self.text(provider.as_str());
        }
        self.time(check.due_at);
        self.envelope(&check.envelope);
    }

    pub(super) fn shared(&mut self, shared: &Shared) {
        self.text(shared.tenant.as_str());
        self.byte(shared.kind as u8);
        self.byte(shared.class as u8);
        self.text(shared.pool.as_str());
        self.content(&shared.content);
        self.text(&shared.sender);
        self.text(&shared.topic);
        self.pairs(&shared.labels);
        self.origin(&shared.origin);
        self.option(shared.batch, Self::uuid);
        self.byte(shared.priority.cast_unsigned());
        self.time(shared.accepted_at);
        self.time(shared.expires_at);
        // Few jobs have windows of their own: it costs the others no byte.
        let windows = if shared.windows.is_empty() { 0 } else { HAS_WINDOWS };
        let chain = if shared.chain.is_some() { HAS_CHAIN } else { 0 };
        let trace = if shared.trace.is_some() { HAS_TRACE } else { 0 };
        self.byte(shared.on_missed as u8 | windows | chain | trace);
        self.option(shared.moved_at, Self::time);
        if windows != 0 {
            self.count(shared.windows.len());
            shared.windows.iter().for_each(|hours| self.hours(hours));
        }
        if let Some(chain) = &shared.chain {
            self.chain(chain);
        }
        if let Some(Trace { trace, span }) = &shared.trace {
            self.fixed(trace);
            span.iter().for_each(|byte| self.byte(*byte));
        }
    }

    fn chain(&mut self, chain: &Chain) {
        self.option(chain.first, |writer, first| writer.uuid(first.0));
        self.byte(chain.step);
        self.option(chain.life, Self::duration);
        self.count(chain.next.len());
        for Step { kind, pool, content, sender, after } in &chain.next {
            self.byte(*kind as u8);
            self.text(pool.as_str());
            self.content(content);
            self.text(sender);
            self.duration(*after);
        }
    }

    fn duration(&mut self, length: Duration) {
        self.uint(u64::try_from(length.as_micros()).unwrap_or(u64::MAX));
    }

    fn hours(&mut self, hours: &Hours) {
        self.byte(hours.days().bits());
        self.uint(hours.from().into());
        self.uint(hours.to().into());
        self.option(hours.calendar(), Self::text);
    }

    pub(super) fn content(&mut self, content: &Content) {
        match content {
            Content::Text(text) => {
                self.byte(0);
                self.text(text);
            }
            Content::Template { name, version, locale, signature, plan } => {
                let plain = **plan == Plan::default();
                self.byte(if plain { 3 } else { 5 });
                self.text(name);
                self.uint((*version).into());
                self.text(locale);
                self.text(signature);
                if !plain {
                    self.plan(plan);
                    self.afters(&plan.after);
                }
            }
            Content::Call { flow, plan } if **plan == Plan::default() => {
                self.byte(2);
                self.text(flow);
            }
            // As it was written before anything could follow a call: processes of that age read it.
            Content::Call { flow, plan } if plan.after.is_empty() => {
                self.byte(4);
                self.text(flow);
                self.plan(plan);
            }
            Content::Call { flow, plan } => {
                self.byte(6);
                self.text(flow);
                self.plan(plan);
                self.afters(&plan.after);
            }
        }
    }

    fn origin(&mut self, origin: &Origin) {
        // Most jobs have none: one byte.
        let some = (*origin != Origin::default()).then_some(origin);
        self.option(some, |writer, origin| {
            let Origin { campaign_id, journey_id, version, run_id, step, visit, variant, touch_id } = origin;
            for text in [campaign_id, journey_id, version, run_id, step, variant, touch_id] {
                writer.text(text);
            }
            writer.uint((*visit).into());
        });
    }

    pub(super) fn job(&mut self, job: &Job) {
        self.uuid(job.id.0);
        self.recipient(&job.recipient);
        self.pairs(&job.params);
        self.text(&job.cancel_key);
        self.text(&job.collapse_key);
        self.uint(job.attempt.into());
        self.uint(job.supersedes.into());
        self.option(job.seen, Self::time);
    }

    pub(super) fn recipient(&mut self, recipient: &Recipient) {
        let Recipient { id, kind, phone, wechat, wecom, wecom_chat_id, wecom_userid, time_zone, locale } = recipient;
        let flag = |there: bool, bit: u64| if there { bit } else { 0 };
        self.uint(
            *kind as u64
                | flag(id.is_some(), has::ID)
                | flag(phone.is_some(), has::PHONE)
                | flag(!wechat.is_empty(), has::WECHAT)
                | flag(wecom.is_some(), has::WECOM)
                | flag(wecom_chat_id.is_some(), has::CHAT)
                | flag(wecom_userid.is_some(), has::USER)
                | flag(time_zone.is_some(), has::ZONE)
                | flag(locale.is_some(), has::LOCALE),
        );
        let phone = phone.as_ref().map(|phone| phone.as_str());
        let texts = [id.as_deref(), phone, wecom_chat_id.as_deref(), wecom_userid.as_deref()];
        for text in texts.into_iter().chain([time_zone.as_deref(), locale.as_deref()]).flatten() {
            self.text(text);
        }
        if !wechat.is_empty() {
            self.count(wechat.len());
            for at in wechat {
                self.text(&at.appid);
                self.text(&at.openid);
            }
        }
        if let Some(at) = wecom {
            self.text(&at.corp_id);
            self.text(&at.external_userid);
        }
    }
}

impl Reader<'_> {
    pub(super) fn envelope(&mut self) -> Result<Envelope, FrameError> {
        let shared = Arc::new(self.shared()?);
        let due_at = self.time()?;
        let jobs = self.list(JOB_BYTES_MIN, Self::job)?;
        if jobs.is_empty() || jobs.len() > ENVELOPE_JOBS_MAX {
            return Err(FrameError::Field("jobs"));
        }
        Ok(Envelope { shared, due_at, jobs })
    }

    pub(super) fn check(&mut self) -> Result<Check, FrameError> {
        let attempt = self.small("attempt")?;
        let marks = self.byte()?;
        if marks & !(ENDS_CALL | 1) != 0 {
            return Err(FrameError::Field("check"));
        }
        Ok(Check {
            attempt,
            provider: (marks & 1 != 0).then(|| self.provider()).transpose()?,
            due_at: self.time()?,
            envelope: self.envelope()?,
            ends_call: marks & ENDS_CALL != 0,
        })
    }

    fn shared(&mut self) -> Result<Shared, FrameError> {
        let mut shared = Shared {
            tenant: self.tenant()?,
            kind: self.word(Kind::ALL, "kind")?,
            class: self.word(Class::ALL, "class")?,
            pool: self.pool()?,
            content: self.content()?,
            sender: self.text()?,
            topic: self.text()?,
            labels: self.pairs()?,
            origin: self.option(Self::origin)?.unwrap_or_default(),
            batch: self.option(Self::uuid)?,
            priority: self.byte()?.cast_signed(),
            accepted_at: self.time()?,
            expires_at: self.time()?,
            windows: vec![],
            on_missed: OnMissed::Defer,
            moved_at: None,
            chain: None,
            trace: None,
        };
        let when = self.byte()?;
        let flags = HAS_WINDOWS | HAS_CHAIN | HAS_TRACE;
        shared.on_missed = *MISSED.get(usize::from(when & !flags)).ok_or(FrameError::Field("on_missed"))?;
        shared.moved_at = self.option(Self::time)?;
        if when & HAS_WINDOWS != 0 {
            shared.windows = self.list(HOURS_BYTES_MIN, Self::hours)?;
        }
        if when & HAS_CHAIN != 0 {
            shared.chain = Some(Box::new(self.chain()?));
        }
        if when & HAS_TRACE != 0 {
            shared.trace = Some(Trace { trace: self.fixed()?, span: self.array()? });
        }
        Ok(shared)
    }

    fn chain(&mut self) -> Result<Chain, FrameError> {
        let chain = Chain {
            first: self.option(Self::uuid)?.map(JobId),
            step: self.byte()?,
            life: self.option(Self::duration)?,
            next: self.list(STEP_BYTES_MIN, Self::step)?,
        };
        if chain.next.len() > STEPS_MAX { Err(FrameError::Field("chain")) } else { Ok(chain) }
    }

    fn step(&mut self) -> Result<Step, FrameError> {
        Ok(Step {
            kind: self.word(Kind::ALL, "kind")?,
            pool: self.pool()?,
            content: self.content()?,
            sender: self.text()?,
            after: self.duration()?,
        })
    }

    fn duration(&mut self) -> Result<Duration, FrameError> {
        self.uint().map(Duration::from_micros)
    }

    fn hours(&mut self) -> Result<Hours, FrameError> {
        let days = Weekdays::from_bits(self.byte()?).ok_or(FrameError::Field("days"))?;
        let (from, to) = (self.small("window")?, self.small("window")?);
        let calendar = self.option(Self::text)?;
        Hours::new(days, from, to, calendar).map_err(|_| FrameError::Field("window"))
    }

    pub(super) fn content(&mut self) -> Result<Content, FrameError> {
        match self.byte()? {
            0 => Ok(Content::Text(self.text()?)),
            // As it was written before templates were stored here.
            1 => Ok(Content::Template {
                name: self.text()?,
                version: 0,
                locale: self.text()?,
                signature: "".into(),
                plan: Arc::default(),
            }),
            form @ (3 | 5) => Ok(Content::Template {
                name: self.text()?,
                version: self.small("version")?,
                locale: self.text()?,
                signature: self.text()?,
                plan: if form == 5 { Arc::new(self.plan_with_afters()?) } else { Arc::default() },
            }),
            2 => Ok(Content::Call { flow: self.text()?, plan: Arc::default() }),
            4 => Ok(Content::Call { flow: self.text()?, plan: Arc::new(self.plan()?) }),
            6 => Ok(Content::Call { flow: self.text()?, plan: Arc::new(self.plan_with_afters()?) }),
            _ => Err(FrameError::Field("content")),
        }
    }

    fn origin(&mut self) -> Result<Origin, FrameError> {
        Ok(Origin {
            campaign_id: self.text()?,
            journey_id: self.text()?,
            version: self.text()?,
            run_id: self.text()?,
            step: self.text()?,
            variant: self.text()?,
            touch_id: self.text()?,
            visit: self.small("visit")?,
        })
    }

    fn job(&mut self) -> Result<Job, FrameError> {
        Ok(Job {
            id: JobId(self.uuid()?),
            recipient: self.recipient()?,
            params: self.pairs()?,
            cancel_key: self.text()?,
            collapse_key: self.text()?,
            attempt: self.small("attempt")?,
            supersedes: self.small("attempt")?,
            seen: self.option(Self::time)?,
        })
    }

    pub(super) fn recipient(&mut self) -> Result<Recipient, FrameError> {
        let flags = self.uint()?;
        if flags & !has::ALL != 0 {
            return Err(FrameError::Field("recipient"));
        }
        let text = |reader: &mut Self, bit| (flags & bit != 0).then(|| reader.text()).transpose();
        Ok(Recipient {
            kind: *KINDS.get((flags & 0b11) as usize).ok_or(FrameError::Field("recipient"))?,
            id: text(self, has::ID)?,
            phone: (flags & has::PHONE != 0).then(|| self.parsed("phone")).transpose()?,
            wecom_chat_id: text(self, has::CHAT)?,
            wecom_userid: text(self, has::USER)?,
            time_zone: text(self, has::ZONE)?,
            locale: text(self, has::LOCALE)?,
            wechat: if flags & has::WECHAT != 0 { self.list(2, Self::wechat)? } else { vec![] },
            wecom: (flags & has::WECOM != 0).then(|| self.wecom()).transpose()?,
        })
    }

    fn wechat(&mut self) -> Result<Wechat, FrameError> {
        Ok(Wechat { appid: self.text()?, openid: self.text()? })
    }

    fn wecom(&mut self) -> Result<Wecom, FrameError> {
        Ok(Wecom { corp_id: self.text()?, external_userid: self.text()? })
    }
}

/// Returns a bound on the bytes that an envelope takes.
pub(in crate::queue) fn envelope_bytes(envelope: &Envelope) -> usize {
    shared_bytes(&envelope.shared) + envelope.jobs.iter().map(job_bytes).sum::<usize>()
}

/// Returns a bound on the bytes that an envelope takes without its jobs.
pub(super) fn shared_bytes(shared: &Shared) -> usize {
    let Origin { campaign_id, journey_id, version, run_id, step, visit: _, variant, touch_id } = &shared.origin;
    let origin: usize =
        [campaign_id, journey_id, version, run_id, step, variant, touch_id].iter().map(|text| text.len() + 5).sum();
    let names = shared.tenant.as_str().len() + shared.pool.as_str().len();
    let windows: usize = shared.windows.iter().map(|hours| hours.calendar().map_or(0, str::len) + 15).sum();
    let step = |step: &Step| step.pool.as_str().len() + step.content.len() + step.sender.len() + 45;
    let chain = shared.chain.as_ref().map_or(0, |chain| chain.next.iter().map(step).sum::<usize>() + 40);
    let trace = if shared.trace.is_some() { 24 } else { 0 };
    // Five times, the batch, twelve lengths and a version of at most 5 bytes and ten single bytes.
    names
        + windows
        + chain
        + trace
        + shared.content.len()
        + origin
        + shared.sender.len()
        + shared.topic.len()
        + pairs_bytes(&shared.labels)
        + 40
        + 17
        + 75
}

/// Returns a bound on the bytes that a job takes.
pub(super) fn job_bytes(job: &Job) -> usize {
    let keys = job.cancel_key.len() + job.collapse_key.len();
    // Id, two lengths, two attempts, and the time it was seen.
    recipient_bytes(&job.recipient) + keys + pairs_bytes(&job.params) + 16 + 10 + 6 + 9
}

/// Returns a bound on the bytes that a recipient takes.
pub(super) fn recipient_bytes(recipient: &Recipient) -> usize {
    let wechat: usize = recipient.wechat.iter().map(|at| at.appid.len() + at.openid.len() + 10).sum();
    let wecom = recipient.wecom.as_ref().map_or(0, |at| at.corp_id.len() + at.external_userid.len() + 10);
    let texts: usize =
        [&recipient.id, &recipient.wecom_chat_id, &recipient.wecom_userid, &recipient.time_zone, &recipient.locale]
            .into_iter()
            .flatten()
            .map(|text| text.len() + 5)
            .sum();
    // Phone, flags, and the count of openids.
    wechat + wecom + texts + 17 + 2 + 5
}

/// Returns a bound on the bytes that names and values take.
pub(super) fn pairs_bytes(pairs: &[(Box<str>, Box<str>)]) -> usize {
    5 + pairs.iter().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>()
}
