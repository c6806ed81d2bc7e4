//! Shows jobs, events and replies as the API does.

use super::call::{call_to_pb, report_to_pb};
use super::enums::{class_to_pb, kind_to_pb, on_missed_to_pb, recipient_kind_to_pb, state_to_pb};
use super::money::money_to_pb;
use super::window::hours_to_pb;
use super::{duration_to_pb, fate_to_pb, moment_to_pb};
use crate::domain::call::{CallReport, CallResult};
use crate::domain::chain::Step;
use crate::domain::event::{Change, DEAD_LETTER, Event, Fate, Outcome, PROVIDER_REASON, Reply, State};
use crate::domain::job::{Content, Envelope, Job, Kind, Origin, Shared};
use crate::domain::recipient::Recipient;
use crate::domain::signal::{Signal, Told};
use crate::domain::time::UnixMicros;
use crate::leave;
use crate::ledger::{JobRow, NumberedEvent};
use crate::pb;
use crate::policy::windows;
use crate::queue::frame::open_report;
use crate::seal::Sealer;

/// Stands for a recording in events.
const RECORDED: &str = "recorded";

/// Shows a job by its row and events, without content and recipient.
pub(crate) fn job_to_pb(row: &JobRow, events: &[NumberedEvent], now: UnixMicros) -> pb::Job {
    let outcome = events.iter().find_map(|numbered| numbered.event.change.outcome());
    let reached = events.iter().map(|numbered| numbered.event.change.state()).max();
    let waiting = if row.due_at > now { State::Scheduled } else { State::Accepted };
    let state = if outcome.is_some() { State::Settled } else { reached.unwrap_or(waiting) };
    pb::Job {
        job_id: row.id.to_string(),
        tenant_id: row.tenant.as_str().into(),
        kind: kind_to_pb(row.kind).into(),
        class: class_to_pb(row.class).into(),
        state: state_to_pb(state).into(),
        outcome: outcome.as_ref().map(|outcome| pb::Outcome { cost: cost(events), ..outcome_to_pb(outcome) }),
        accepted_at: Some(moment_to_pb(row.accepted_at)),
        due_at: Some(moment_to_pb(row.due_at)),
        expires_at: Some(moment_to_pb(row.expires_at)),
        batch_id: row.batch.map(|batch| batch.to_string()).unwrap_or_default(),
        ..pb::Job::default()
    }
}

/// Returns what all hand-overs of a job cost, as far as that is known; they are paid in one currency, that of the first.
fn cost(events: &[NumberedEvent]) -> Option<pb::Money> {
    let costs = events.iter().filter_map(|numbered| numbered.event.change.cost());
    costs.reduce(|sum, cost| sum.plus(cost).unwrap_or(sum)).map(money_to_pb)
}

/// Adds what only the full view shows.
pub(crate) fn show_whole(job: &mut pb::Job, envelope: &Envelope, events: &[NumberedEvent]) {
    job.spec = Some(spec_to_pb(envelope));
    if let Some(Job { recipient, params, cancel_key, collapse_key, .. }) = envelope.jobs.first() {
        job.recipient = Some(recipient_to_pb(recipient));
        job.params = pairs(params);
        job.cancel_key = cancel_key.as_ref().into();
        job.collapse_key = collapse_key.as_ref().into();
        let first = envelope.shared.chain.as_ref().and_then(|chain| chain.first);
        job.fallback_of = first.map(|first| first.to_string()).unwrap_or_default();
    }
    job.events = events.iter().map(|numbered| event_to_pb(&numbered.event)).collect();
    job.attempts = events.iter().filter_map(|numbered| attempt_to_pb(&numbered.event)).collect();
    for Event { attempt: number, change, .. } in events.iter().map(|numbered| &numbered.event) {
        // What a call cost is known once it has ended.
        if let (Change::Called { .. }, Some(cost)) = (change, change.cost()) {
            let called = job.attempts.iter_mut().find(|attempt| attempt.number == u32::from(*number));
            called.into_iter().for_each(|attempt| attempt.cost = Some(money_to_pb(cost)));
        }
    }
}

/// Shows an event.
pub(crate) fn event_to_pb(event: &Event) -> pb::Event {
    pb::Event {
        at: Some(moment_to_pb(event.at)),
        job_id: event.job.to_string(),
        kind: kind_to_pb(event.kind).into(),
        class: class_to_pb(event.class).into(),
        what: Some(pb::event::What::StateChange(change_to_pb(event))),
        origin: None,
    }
}

/// Shows a reply as a signal.
pub(crate) fn reply_to_pb(reply: &Reply) -> pb::Event {
    let signal = pb::Signal {
        kind: pb::SignalKind::Reply.into(),
        in_reply_to_job: reply.in_reply_to.map(|job| job.to_string()).unwrap_or_default(),
        recipient: Some(pb::Recipient { phone: reply.from.as_ref().into(), ..pb::Recipient::default() }),
        to: reply.to.as_ref().into(),
        text: reply.text.as_ref().into(),
        provider_id: reply.provider.as_str().into(),
        ..pb::Signal::default()
    };
    pb::Event {
        at: Some(moment_to_pb(reply.at)),
        job_id: signal.in_reply_to_job.clone(),
        what: Some(pb::event::What::Signal(signal)),
        ..pb::Event::default()
    }
}

/// Shows what a platform told of a recipient.
pub(crate) fn signal_to_pb(signal: Signal) -> pb::Event {
    let kind = match signal.told {
        Told::FriendAdded => pb::SignalKind::FriendAdded,
        Told::FriendRemoved => pb::SignalKind::FriendRemoved,
        Told::GroupJoined => pb::SignalKind::GroupJoined,
        Told::GroupLeft => pb::SignalKind::GroupLeft,
        Told::Subscribed => pb::SignalKind::Subscribed,
        Told::Unsubscribed => pb::SignalKind::Unsubscribed,
        Told::PopupAccepted => pb::SignalKind::PopupAccepted,
        Told::PopupRejected => pb::SignalKind::PopupRejected,
        Told::Location => pb::SignalKind::Location,
    };
    let signal_shown = pb::Signal {
        kind: kind.into(),
        recipient: Some(recipient_to_pb(&signal.recipient)),
        to: signal.to.into(),
        details: pairs(&signal.details),
        provider_id: signal.provider.as_str().into(),
        ..pb::Signal::default()
    };
    pb::Event {
        at: Some(moment_to_pb(signal.at)),
        what: Some(pb::event::What::Signal(signal_shown)),
        ..pb::Event::default()
    }
}

fn change_to_pb(event: &Event) -> pb::StateChange {
    let shown = pb::StateChange {
        state: state_to_pb(event.change.state()).into(),
        outcome: event.change.outcome().as_ref().map(outcome_to_pb),
        attempt: event.attempt.into(),
        ..pb::StateChange::default()
    };
    match &event.change {
        Change::Deferred { reason, until } => pb::StateChange {
            reason_code: deferred_code(reason).into(),
            reason: in_words(reason).into(),
            until: Some(moment_to_pb(*until)),
            ..shown
        },
        Change::Sent { provider, message_ids, receipt_expected: _, cost } => pb::StateChange {
            provider_id: provider.as_str().into(),
            message_ids: owned(message_ids),
            cost: cost.map(money_to_pb),
            ..shown
        },
        Change::Unresolved { provider } => pb::StateChange {
            provider_id: provider.as_ref().map(|provider| provider.as_str().into()).unwrap_or_default(),
            ..shown
        },
        Change::Progress(_) => shown,
        Change::Called { provider, result, report: _, cost } => pb::StateChange {
            provider_id: provider.as_str().into(),
            cost: cost.map(money_to_pb),
            reason_code: call_code(*result).into(),
            reason: result.as_str().into(),
            ..shown
        },
        Change::Recorded { report: _ } => pb::StateChange { reason: RECORDED.into(), ..shown },
        Change::Settled(outcome) => pb::StateChange {
            reason_code: settled_code(outcome).into(),
            reason: outcome.reason.as_ref().into(),
            ..shown
        },
    }
}

fn attempt_to_pb(event: &Event) -> Option<pb::Attempt> {
    let (provider, message_ids, verdict): (_, &[Box<str>], _) = match &event.change {
        Change::Sent { provider, message_ids, .. } => (Some(provider), message_ids, pb::AttemptVerdict::Settled),
        Change::Unresolved { provider } => (provider.as_ref(), &[], pb::AttemptVerdict::Unresolved),
        Change::Deferred { .. }
        | Change::Progress(_)
        | Change::Called { .. }
        | Change::Recorded { .. }
        | Change::Settled(_) => return None,
    };
    Some(pb::Attempt {
        number: event.attempt.into(),
        provider_id: provider.map(|provider| provider.as_str().into()).unwrap_or_default(),
        at: Some(moment_to_pb(event.at)),
        verdict: verdict.into(),
        message_ids: owned(message_ids),
        cost: event.change.cost().map(money_to_pb),
    })
}

fn call_code(result: CallResult) -> pb::ReasonCode {
    settled_code(&Outcome::new(Fate::Undelivered, result.as_str()))
}

/// Adds how the last call for a job went, once it has ended.
pub(crate) fn show_call(job: &mut pb::Job, events: &[NumberedEvent], sealer: &Sealer) {
    let last = events.iter().rev().find_map(|numbered| match &numbered.event.change {
        Change::Called { result, report, .. } => Some((numbered.event.attempt, result, report)),
        _ => None,
    });
    let Some((attempt, result, report)) = last else { return };
    // A report that does not open is not shown; what became of the job is. Some providers say no more than the result.
    let opened = match &**report {
        "" => Some(CallReport::unanswered(*result)),
        sealed => open_report(sealed, sealer).ok(),
    };
    let recorded = events.iter().find_map(|numbered| match &numbered.event.change {
        Change::Recorded { report } if numbered.event.attempt == attempt => open_report(report, sealer).ok(),
        _ => None,
    });
    let whole = |report: CallReport| match recorded {
        Some(CallReport { recording, .. }) if report.recording.is_empty() => CallReport { recording, ..report },
        Some(_) | None => report,
    };
    job.call = opened.map(whole).as_ref().map(report_to_pb);
}

/// Shows an outcome.
pub(crate) fn outcome_to_pb(outcome: &Outcome) -> pb::Outcome {
    pb::Outcome {
        fate: fate_to_pb(outcome.fate).into(),
        reason_code: settled_code(outcome).into(),
        reason: outcome.reason.as_ref().into(),
        cost: None,
    }
}

pub(super) fn deferred_code(reason: &str) -> pb::ReasonCode {
    if let Some(result) = CallResult::from_word(reason) {
        return call_code(result);
    }
    match reason {
        "rate" => pb::ReasonCode::Rate,
        "retry" => pb::ReasonCode::Retry,
        leave::RESCHEDULED | DEAD_LETTER => pb::ReasonCode::Unspecified,
        reason if of_window(reason) => pb::ReasonCode::Window,
        "no_provider" => pb::ReasonCode::NoProvider,
        reason if reason.starts_with(PROVIDER_REASON) => pb::ReasonCode::Provider,
        _ => pb::ReasonCode::Cap,
    }
}

/// Returns a deferral's reason in the words of who decided.
pub(super) fn in_words(reason: &str) -> &str {
    reason.strip_prefix(PROVIDER_REASON).unwrap_or(reason)
}

/// Returns whether a reason names a send window, or says that none can be kept.
fn of_window(reason: &str) -> bool {
    reason.starts_with(windows::REASON) || [windows::OWN_REASON, windows::NO_ZONE_REASON].contains(&reason)
}

pub(super) fn settled_code(outcome: &Outcome) -> pb::ReasonCode {
    match (outcome.fate, outcome.reason.as_ref()) {
        (_, "no_provider") => pb::ReasonCode::NoProvider,
        (_, "busy") => pb::ReasonCode::Busy,
        (_, "no_answer") => pb::ReasonCode::NoAnswer,
        (_, "declined") => pb::ReasonCode::Declined,
        (_, "invalid_number") => pb::ReasonCode::InvalidNumber,
        (_, "unreachable") => pb::ReasonCode::Unreachable,
        (_, "machine") => pb::ReasonCode::Machine,
        (Fate::Suppressed, reason) if reason.starts_with("opt_out") => pb::ReasonCode::OptOut,
        (Fate::Suppressed, leave::NO_CONSENT) => pb::ReasonCode::NoConsent,
        (Fate::Suppressed | Fate::Expired, reason) if of_window(reason) => pb::ReasonCode::Window,
        (Fate::Suppressed, _) => pb::ReasonCode::Cap,
        (Fate::Expired, _) => pb::ReasonCode::Expiry,
        (Fate::Cancelled, "collapsed") => pb::ReasonCode::Collapsed,
        (Fate::Cancelled, _) => pb::ReasonCode::Cancelled,
        (Fate::Unknown, _) => pb::ReasonCode::NoReceipt,
        (Fate::Undelivered | Fate::Rejected | Fate::Failed, _) => pb::ReasonCode::Provider,
        (Fate::Delivered | Fate::Sent | Fate::Completed, _) => pb::ReasonCode::Unspecified,
    }
}

fn spec_to_pb(envelope: &Envelope) -> pb::JobSpec {
    let Shared { content, kind, class, topic, sender, labels, priority, origin, expires_at, on_missed, chain, .. } =
        &*envelope.shared;
    let next = chain.as_ref().map_or(&[][..], |chain| &chain.next);
    pb::JobSpec {
        content: Some(content_to_pb(*kind, content)),
        fallback: next.iter().map(step_to_pb).collect(),
        class: class_to_pb(*class).into(),
        topic: topic.as_ref().into(),
        sender: sender.as_ref().into(),
        labels: pairs(labels),
        priority: (*priority).into(),
        schedule: Some(pb::Schedule {
            start: Some(pb::schedule::Start::SendAt(moment_to_pb(envelope.due_at))),
            expires_at: Some(moment_to_pb(*expires_at)),
            windows: envelope.shared.windows.iter().map(hours_to_pb).collect(),
            on_missed: on_missed_to_pb(*on_missed).into(),
        }),
        origin: (*origin != Origin::default()).then(|| origin_to_pb(origin)),
        ..pb::JobSpec::default()
    }
}

fn content_to_pb(kind: Kind, content: &Content) -> pb::job_spec::Content {
    use pb::job_spec::Content as Shown;
    match content {
        Content::Text(text) => Shown::Sms(pb::SmsContent { text: text.as_ref().into(), template: String::new() }),
        Content::Template { name, locale, plan, .. } => match kind {
            Kind::Sms => Shown::Sms(pb::SmsContent { text: String::new(), template: name.as_ref().into() }),
            Kind::Template => Shown::Template(pb::TemplateContent {
                template: name.as_ref().into(),
                locale: locale.as_ref().into(),
                target: String::new(),
            }),
            Kind::Call => Shown::Call(call_to_pb(name, plan)),
        },
        Content::Call { flow, plan } => Shown::Call(call_to_pb(flow, plan)),
    }
}

fn step_to_pb(step: &Step) -> pb::FallbackStep {
    use pb::fallback_step::Content as Shown;
    use pb::job_spec::Content as Same;
    let content = match content_to_pb(step.kind, &step.content) {
        Same::Sms(sms) => Shown::Sms(sms),
        Same::Template(template) => Shown::Template(template),
        Same::Call(call) => Shown::Call(call),
    };
    pb::FallbackStep {
        content: Some(content),
        after: Some(duration_to_pb(step.after)),
        sender: step.sender.as_ref().into(),
    }
}

fn origin_to_pb(origin: &Origin) -> pb::Origin {
    pb::Origin {
        campaign_id: origin.campaign_id.as_ref().into(),
        journey_id: origin.journey_id.as_ref().into(),
        version: origin.version.as_ref().into(),
        run_id: origin.run_id.as_ref().into(),
        step: origin.step.as_ref().into(),
        visit: origin.visit,
        variant: origin.variant.as_ref().into(),
        touch_id: origin.touch_id.as_ref().into(),
    }
}

fn recipient_to_pb(recipient: &Recipient) -> pb::Recipient {
    let text = |value: &Option<Box<str>>| value.as_deref().unwrap_or_default().to_owned();
    let wechat = recipient.wechat.iter();
    pb::Recipient {
        recipient_id: text(&recipient.id),
        kind: recipient_kind_to_pb(recipient.kind).into(),
        phone: recipient.phone.as_ref().map(|phone| phone.as_str().to_owned()).unwrap_or_default(),
        wechat: wechat
            .map(|at| pb::WechatAddress { appid: at.appid.as_ref().into(), openid: at.openid.as_ref().into() })
            .collect(),
        wecom: recipient.wecom.as_ref().map(|at| pb::WecomAddress {
            corp_id: at.corp_id.as_ref().into(),
            external_userid: at.external_userid.as_ref().into(),
        }),
        wecom_chat_id: text(&recipient.wecom_chat_id),
        wecom_userid: text(&recipient.wecom_userid),
        time_zone: text(&recipient.time_zone),
        locale: text(&recipient.locale),
    }
}

fn pairs(pairs: &[(Box<str>, Box<str>)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned())).collect()
}

fn owned(words: &[Box<str>]) -> Vec<String> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}
