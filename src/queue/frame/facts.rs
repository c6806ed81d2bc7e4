//! How facts are written in a frame.

use super::FrameError;
use super::wire::{Reader, Writer};
use crate::domain::call::CallResult;
use crate::domain::event::{Change, Event, Fact, Fate, Outcome, Receipt, Reply, Report, State};
use crate::domain::ids::JobId;
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{AddressKey, WordKey};
use crate::domain::money::Money;
use crate::domain::rule::{Act, JobRule, Names};
use crate::domain::suppression::{Plain, Scope, Source, Suppression};

/// Fewest bytes of a fact: a receipt with nothing but what it must have.
pub(super) const FACT_BYTES_MIN: usize = 15;
/// A change to sent of which the cost is known; 1 is one without.
const SENT_AT_A_COST: u8 = 5;
/// The same of [`Change::Called`], which is 6 without.
const CALLED_AT_A_COST: u8 = 7;
const RECORDED: u8 = 8;

impl Writer<'_> {
    pub(super) fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Event(event) => {
                self.byte(0);
                self.event(event);
            }
            Fact::Receipt(receipt) => {
                self.byte(1);
                self.receipt(receipt);
            }
            Fact::Reply(reply) => {
                self.byte(2);
                self.reply(reply);
            }
            Fact::Suppressed(suppression, plain) => {
                self.byte(3);
                self.suppression(suppression);
                self.plain(plain);
            }
            Fact::Unsuppressed(suppression, source) => {
                self.byte(4);
                self.suppression(suppression);
                self.byte(*source as u8);
            }
            Fact::Ruled(rule) => {
                self.byte(5);
                self.job_rule(rule);
            }
            Fact::Elapsed(tenant, job) => {
                self.byte(6);
                self.text(tenant.as_str());
                self.uuid(job.0);
            }
            Fact::Called(called) => {
                self.byte(7);
                self.called(called);
            }
            Fact::Signal(signal) => {
                self.byte(8);
                self.signal(signal);
            }
            Fact::Owed(owed) => {
                self.byte(9);
                self.owed(owed);
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.uuid(event.job.0);
        self.text(event.tenant.as_str());
        self.byte(event.kind as u8);
        self.byte(event.class as u8);
        self.time(event.at);
        self.uint(event.attempt.into());
        self.change(&event.change);
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Deferred { reason, until } => {
                self.byte(0);
                self.text(reason);
                self.time(*until);
            }
            Change::Sent { provider, message_ids, receipt_expected, cost } => {
                self.byte(if cost.is_some() { SENT_AT_A_COST } else { 1 });
                self.text(provider.as_str());
                self.count(message_ids.len());
                for id in message_ids {
                    self.text(id);
                }
                self.byte(u8::from(*receipt_expected));
                cost.iter().for_each(|cost| self.money(*cost));
            }
            Change::Unresolved { provider } => {
                self.byte(2);
                self.option(provider.as_ref(), |writer, provider| writer.text(provider.as_str()));
            }
            Change::Progress(state) => {
                self.byte(3);
                self.byte(*state as u8);
            }
            Change::Settled(outcome) => {
                self.byte(4);
                self.byte(outcome.fate as u8);
                self.text(&outcome.reason);
            }
            Change::Called { provider, result, report, cost } => {
                self.byte(if cost.is_some() { CALLED_AT_A_COST } else { 6 });
                self.text(provider.as_str());
                self.byte(*result as u8);
                self.text(report);
                cost.iter().for_each(|cost| self.money(*cost));
            }
            Change::Recorded { report } => {
                self.byte(RECORDED);
                self.text(report);
            }
        }
    }

    pub(super) fn money(&mut self, money: Money) {
        self.text(money.currency.as_str());
        self.uint(u64::try_from(money.micros()).unwrap_or(0));
    }

    fn receipt(&mut self, receipt: &Receipt) {
        self.text(receipt.provider.as_str());
        self.text(&receipt.message_id);
        self.option(receipt.job, |writer, job| writer.uuid(job.0));
        match receipt.report {
            Report::Pending => self.byte(0),
            Report::Progress(state) => {
                self.byte(1);
                self.byte(state as u8);
            }
            Report::Called(result) => {
                self.byte(3);
                self.byte(result as u8);
            }
            Report::Recorded => self.byte(4),
            Report::Final(fate) => {
                self.byte(2);
                self.byte(fate as u8);
            }
        }
        self.text(&receipt.code);
        self.time(receipt.at);
    }

    pub(super) fn reply(&mut self, reply: &Reply) {
        self.text(reply.provider.as_str());
        self.text(&reply.from);
        self.text(&reply.to);
        self.text(&reply.text);
        self.option(reply.tenant.as_ref(), |writer, tenant| writer.text(tenant.as_str()));
        self.option(reply.in_reply_to, |writer, job| writer.uuid(job.0));
        self.time(reply.at);
    }

    fn suppression(&mut self, suppression: &Suppression) {
        self.text(suppression.tenant.as_str());
        self.fixed(&suppression.address.0);
        self.byte(suppression.scope.width());
        if let Some(WordKey(key)) = suppression.scope.word() {
            self.fixed(&key);
        }
        self.option(suppression.kind, |writer, kind| writer.byte(kind as u8));
        self.byte(suppression.source as u8);
        self.time(suppression.at);
    }

    pub(super) fn plain(&mut self, plain: &Plain) {
        self.text(&plain.address);
        self.text(&plain.word);
    }

    fn job_rule(&mut self, rule: &JobRule) {
        self.text(rule.tenant.as_str());
        self.bytes(&rule.names.to_bytes());
        self.time(rule.at);
        self.byte(rule.act.number());
        self.fixed(&rule.act.detail());
    }
}

impl Reader<'_> {
    pub(super) fn fact(&mut self) -> Result<Fact, FrameError> {
        Ok(match self.byte()? {
            0 => Fact::Event(self.event()?),
            1 => Fact::Receipt(self.receipt()?),
            2 => Fact::Reply(self.reply()?),
            3 => Fact::Suppressed(self.suppression()?, self.plain()?),
            4 => Fact::Unsuppressed(self.suppression()?, self.word(Source::ALL, "source")?),
            5 => Fact::Ruled(self.job_rule()?),
            6 => Fact::Elapsed(self.tenant()?, JobId(self.uuid()?)),
            7 => Fact::Called(self.called()?),
            8 => Fact::Signal(Box::new(self.signal()?)),
            9 => Fact::Owed(Box::new(self.owed()?)),
            _ => return Err(FrameError::Field("fact")),
        })
    }

    fn event(&mut self) -> Result<Event, FrameError> {
        Ok(Event {
            job: JobId(self.uuid()?),
            tenant: self.tenant()?,
            kind: self.word(Kind::ALL, "kind")?,
            class: self.word(Class::ALL, "class")?,
            at: self.time()?,
            attempt: self.small("attempt")?,
            change: self.change()?,
        })
    }

    fn change(&mut self) -> Result<Change, FrameError> {
        Ok(match self.byte()? {
            0 => Change::Deferred { reason: self.text()?, until: self.time()? },
            form @ (1 | SENT_AT_A_COST) => Change::Sent {
                provider: self.provider()?,
                message_ids: self.list(1, Self::text)?,
                receipt_expected: self.flag()?,
                cost: if form == SENT_AT_A_COST { Some(self.money()?) } else { None },
            },
            2 => Change::Unresolved { provider: self.option(Self::provider)? },
            3 => Change::Progress(self.word(State::ALL, "state")?),
            4 => Change::Settled(Outcome { fate: self.word(Fate::ALL, "fate")?, reason: self.text()? }),
            form @ (6 | CALLED_AT_A_COST) => Change::Called {
                provider: self.provider()?,
                result: self.word(CallResult::ALL, "result")?,
                report: self.text()?,
                cost: if form == CALLED_AT_A_COST { Some(self.money()?) } else { None },
            },
            RECORDED => Change::Recorded { report: self.text()? },
            _ => return Err(FrameError::Field("change")),
        })
    }

    pub(super) fn money(&mut self) -> Result<Money, FrameError> {
        let currency = self.text()?.parse().map_err(|_| FrameError::Field("currency"))?;
        let micros = i64::try_from(self.uint()?).map_err(|_| FrameError::Field("cost"))?;
        Money::new(currency, micros).map_err(|_| FrameError::Field("cost"))
    }

    fn receipt(&mut self) -> Result<Receipt, FrameError> {
        Ok(Receipt {
            provider: self.provider()?,
            message_id: self.text()?,
            job: self.option(Self::uuid)?.map(JobId),
            report: match self.byte()? {
                0 => Report::Pending,
                1 => Report::Progress(self.word(State::ALL, "state")?),
                2 => Report::Final(self.word(Fate::ALL, "fate")?),
                3 => Report::Called(self.word(CallResult::ALL, "result")?),
                4 => Report::Recorded,
                _ => return Err(FrameError::Field("report")),
            },
            code: self.text()?,
            at: self.time()?,
        })
    }

    pub(super) fn reply(&mut self) -> Result<Reply, FrameError> {
        Ok(Reply {
            provider: self.provider()?,
            from: self.text()?,
            to: self.text()?,
            text: self.text()?,
            tenant: self.option(Self::tenant)?,
            in_reply_to: self.option(Self::uuid)?.map(JobId),
            at: self.time()?,
        })
    }

    fn suppression(&mut self) -> Result<Suppression, FrameError> {
        Ok(Suppression {
            tenant: self.tenant()?,
            address: AddressKey(self.fixed()?),
            scope: self.scope()?,
            kind: self.option(|reader| reader.word(Kind::ALL, "kind"))?,
            source: self.word(Source::ALL, "source")?,
            at: self.time()?,
        })
    }

    fn scope(&mut self) -> Result<Scope, FrameError> {
        let (width, none) = (self.byte()?, WordKey([0; 16]));
        let scope = Scope::of_width(width, none).ok_or(FrameError::Field("scope"))?;
        match scope.word() {
            None => Ok(scope),
            Some(_) => Scope::of_width(width, WordKey(self.fixed()?)).ok_or(FrameError::Field("scope")),
        }
    }

    pub(super) fn plain(&mut self) -> Result<Plain, FrameError> {
        Ok(Plain { address: self.text()?, word: self.text()? })
    }

    fn job_rule(&mut self) -> Result<JobRule, FrameError> {
        let tenant = self.tenant()?;
        let names = Names::from_bytes(self.bytes()?).map_err(|_| FrameError::Field("rule"))?;
        let at = self.time()?;
        let act = Act::of(self.byte()?, self.fixed()?).ok_or(FrameError::Field("rule"))?;
        Ok(JobRule { tenant, names, at, act })
    }
}
