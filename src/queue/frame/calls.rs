//! How what is known of calls is written in a frame.

use std::time::Duration;

use super::FrameError;
use super::wire::{Reader, Writer};
use crate::domain::call::{After, AfterAct, CallReport, CallResult, Plan, RETRIES_MAX, Retry, When};
use crate::domain::event::{CallStep, Called, Fate, Left, Outcome, Owed, State};
use crate::domain::ids::JobId;
use crate::domain::job::Kind;

/// Fewest bytes of a retry rule.
const RETRY_BYTES_MIN: usize = 3;
/// Fewest bytes of what follows a call.
const AFTER_BYTES_MIN: usize = 4;

/// Marks [`CallStep::Ended`] with a cost, which is 1 without.
const ENDED_AT_A_COST: u8 = 16;
/// The same two with something that follows the call.
const ENDED_WITH_MORE: u8 = 17;
const ENDED_WITH_MORE_AT_A_COST: u8 = 18;

impl Writer<'_> {
    pub(super) fn plan(&mut self, plan: &Plan) {
        self.text(&plan.document);
        self.uint(plan.ring_max.as_secs());
        self.uint(plan.talk_max.as_secs());
        self.count(plan.retries.len());
        for Retry { result, after, times } in &plan.retries {
            self.byte(*result as u8);
            self.uint(after.as_secs());
            self.byte(*times);
        }
    }

    /// What follows a call stands behind its plan.
    pub(super) fn afters(&mut self, afters: &[After]) {
        self.count(afters.len());
        afters.iter().for_each(|after| self.after(after));
    }

    fn after(&mut self, after: &After) {
        match &after.when {
            When::Result(result) => {
                self.byte(0);
                self.byte(*result as u8);
            }
            When::Tag(tag) => {
                self.byte(1);
                self.text(tag);
            }
        }
        match &after.act {
            AfterAct::Submit { kind, template, params } => {
                self.byte(0);
                self.byte(*kind as u8);
                self.text(template);
                self.pairs(params);
            }
            AfterAct::OptOut { everything } => {
                self.byte(1);
                self.byte(u8::from(*everything));
            }
            AfterAct::NextStep => self.byte(2),
        }
    }

    pub(super) fn called(&mut self, called: &Called) {
        self.text(called.provider.as_str());
        self.uuid(called.job.0);
        self.uint(called.attempt.into());
        self.time(called.at);
        match &called.step {
            CallStep::Moved(state) => {
                self.byte(0);
                self.byte(*state as u8);
            }
            CallStep::Ended { result, report, cost, left } => {
                let more = left.as_ref().filter(|left| !left.follows.is_empty());
                self.byte(match (cost, more) {
                    (None, None) => 1,
                    (Some(_), None) => ENDED_AT_A_COST,
                    (None, Some(_)) => ENDED_WITH_MORE,
                    (Some(_), Some(_)) => ENDED_WITH_MORE_AT_A_COST,
                });
                self.byte(*result as u8);
                self.text(report);
                cost.iter().for_each(|cost| self.money(*cost));
                self.option(left.as_ref(), |writer, left| writer.envelope(&left.again));
                if let Some(left) = more {
                    self.count(left.follows.len());
                    left.follows.iter().for_each(|place| self.byte(*place));
                    self.pairs(&left.heard);
                }
            }
            CallStep::Lost => self.byte(2),
            CallStep::Withdrawn(outcome) => {
                self.byte(3);
                self.byte(outcome.fate as u8);
                self.text(&outcome.reason);
            }
        }
    }

    pub(super) fn owed(&mut self, owed: &Owed) {
        self.envelope(&owed.call);
        self.byte(owed.place);
        self.pairs(&owed.heard);
        self.time(owed.at);
    }

    pub(super) fn report(&mut self, report: &CallReport) {
        self.byte(report.result as u8);
        self.count(report.tags.len());
        report.tags.iter().for_each(|tag| self.text(tag));
        self.uint(u64::try_from(report.talk.as_millis()).unwrap_or(u64::MAX));
        let CallReport { digits, intent, answered_by, hung_up_by, transcript, recording, .. } = report;
        for text in [digits, intent, answered_by, hung_up_by, transcript, recording] {
            self.text(text);
        }
    }
}

impl Reader<'_> {
    pub(super) fn plan(&mut self) -> Result<Plan, FrameError> {
        Ok(Plan {
            document: self.text()?,
            ring_max: Duration::from_secs(self.uint()?),
            talk_max: Duration::from_secs(self.uint()?),
            retries: self.list(RETRY_BYTES_MIN, Self::retry)?,
            after: vec![],
        })
    }

    pub(super) fn plan_with_afters(&mut self) -> Result<Plan, FrameError> {
        let plan = self.plan()?;
        Ok(Plan { after: self.list(AFTER_BYTES_MIN, Self::after)?, ..plan })
    }

    fn after(&mut self) -> Result<After, FrameError> {
        let when = match self.byte()? {
            0 => When::Result(self.word(CallResult::ALL, "result")?),
            1 => When::Tag(self.text()?),
            _ => return Err(FrameError::Field("after")),
        };
        let act = match self.byte()? {
            0 => {
                AfterAct::Submit { kind: self.word(Kind::ALL, "kind")?, template: self.text()?, params: self.pairs()? }
            }
            1 => AfterAct::OptOut { everything: self.flag()? },
            2 => AfterAct::NextStep,
            _ => return Err(FrameError::Field("after")),
        };
        Ok(After { when, act })
    }

    fn retry(&mut self) -> Result<Retry, FrameError> {
        let result = self.word(CallResult::ALL, "result")?;
        let after = Duration::from_secs(self.uint()?);
        let times = self.byte()?;
        if times > RETRIES_MAX { Err(FrameError::Field("retries")) } else { Ok(Retry { result, after, times }) }
    }

    pub(super) fn called(&mut self) -> Result<Called, FrameError> {
        Ok(Called {
            provider: self.provider()?,
            job: JobId(self.uuid()?),
            attempt: self.small("attempt")?,
            at: self.time()?,
            step: match self.byte()? {
                0 => CallStep::Moved(self.word(State::ALL, "state")?),
                form @ (1 | ENDED_AT_A_COST | ENDED_WITH_MORE | ENDED_WITH_MORE_AT_A_COST) => self.ended(form)?,
                2 => CallStep::Lost,
                3 => CallStep::Withdrawn(Outcome { fate: self.word(Fate::ALL, "fate")?, reason: self.text()? }),
                _ => return Err(FrameError::Field("call")),
            },
        })
    }

    fn ended(&mut self, form: u8) -> Result<CallStep, FrameError> {
        let costs = matches!(form, ENDED_AT_A_COST | ENDED_WITH_MORE_AT_A_COST);
        let more = matches!(form, ENDED_WITH_MORE | ENDED_WITH_MORE_AT_A_COST);
        let (result, report) = (self.word(CallResult::ALL, "result")?, self.text()?);
        let cost = if costs { Some(self.money()?) } else { None };
        let again = self.option(Self::envelope)?;
        let (follows, heard) = if more { (self.list(1, Self::byte)?, self.pairs()?) } else { (vec![], vec![]) };
        let left = again.map(|again| Box::new(Left { again, follows, heard }));
        Ok(CallStep::Ended { result, report, cost, left })
    }

    pub(super) fn owed(&mut self) -> Result<Owed, FrameError> {
        Ok(Owed { call: self.envelope()?, place: self.byte()?, heard: self.pairs()?, at: self.time()? })
    }

    pub(super) fn report(&mut self) -> Result<CallReport, FrameError> {
        let result = self.word(CallResult::ALL, "result")?;
        let tags = self.list(1, Self::text)?;
        let talk = Duration::from_millis(self.uint()?);
        Ok(CallReport {
            result,
            tags,
            talk,
            digits: self.text()?,
            intent: self.text()?,
            answered_by: self.text()?,
            hung_up_by: self.text()?,
            transcript: self.text()?,
            recording: self.text()?,
        })
    }
}
