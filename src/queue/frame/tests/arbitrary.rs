//! Frames of every kind, with whatever may stand in them.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use crate::domain::call::{After, AfterAct, CallResult, Plan, RETRIES_MAX, Retry, When};
use crate::domain::chain::{Chain, STEPS_MAX, Step};
use crate::domain::event::{
    CallStep, Called, Change, Event, Fact, Fate, Left, Outcome, Owed, Receipt, Reply, Report, State,
};
use crate::domain::ids::JobId;
use crate::domain::job::{Check, Class, Content, Envelope, Job, Kind, OnMissed, Origin, Shared};
use crate::domain::keys::{AddressKey, WordKey};
use crate::domain::money::Money;
use crate::domain::recipient::{Recipient, RecipientKind, Wechat, Wecom};
use crate::domain::rule::{Act, JobRule, Names};
use crate::domain::signal::{Signal, Told};
use crate::domain::suppression::{Plain, Scope, Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::domain::trace::Trace;
use crate::domain::window::{Hours, Weekdays};
use crate::queue::frame::Frame;

fn text() -> impl Strategy<Value = Box<str>> {
    ".{0,20}".prop_map(Box::from)
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[a-z0-9][a-z0-9_-]{0,62}".prop_map(|name| name.parse().unwrap())
}

fn time() -> impl Strategy<Value = UnixMicros> {
    any::<i64>().prop_map(UnixMicros)
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn pick<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn pairs() -> impl Strategy<Value = Vec<(Box<str>, Box<str>)>> {
    prop::collection::vec((text(), text()), 0..4)
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        text().prop_map(Content::Text),
        (text(), any::<u32>(), text(), text(), plan()).prop_map(|(name, version, locale, signature, plan)| {
            Content::Template { name, version, locale, signature, plan: Arc::new(plan) }
        }),
        (text(), plan()).prop_map(|(flow, plan)| Content::Call { flow, plan: Arc::new(plan) }),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    let texts = prop::array::uniform7(text());
    let some = (texts, any::<u32>()).prop_map(|([a, b, c, d, e, f, g], visit)| Origin {
        campaign_id: a,
        journey_id: b,
        version: c,
        run_id: d,
        step: e,
        visit,
        variant: f,
        touch_id: g,
    });
    prop_oneof![Just(Origin::default()), some]
}

fn windows() -> impl Strategy<Value = Vec<Hours>> {
    let hours = (1_u8..0x80, 0_u16..1_440, prop::option::of(text())).prop_map(|(days, from, calendar)| {
        Hours::new(Weekdays::from_bits(days).unwrap(), from, from + 1, calendar).unwrap()
    });
    prop::collection::vec(hours, 0..3)
}

fn chain() -> impl Strategy<Value = Box<Chain>> {
    let length = || (0_u64..u64::MAX).prop_map(Duration::from_micros);
    let step = (pick(Kind::ALL), name(), content(), text(), length())
        .prop_map(|(kind, pool, content, sender, after)| Step { kind, pool, content, sender, after });
    let next = prop::collection::vec(step, 0..=STEPS_MAX);
    (prop::option::of(id()), any::<u8>(), prop::option::of(length()), next)
        .prop_map(|(first, step, life, next)| Box::new(Chain { first: first.map(JobId), step, life, next }))
}

fn shared() -> impl Strategy<Value = Shared> {
    let what = (name(), pick(Kind::ALL), pick(Class::ALL), name(), content());
    let about = (text(), text(), pairs(), origin(), prop::option::of(id()));
    let missed = pick(&[OnMissed::Defer, OnMissed::Drop]);
    let trace = (any::<[u8; 16]>(), any::<[u8; 8]>()).prop_map(|(trace, span)| Trace { trace, span });
    let further = (prop::option::of(time()), prop::option::of(chain()), prop::option::of(trace));
    let when = (any::<i8>(), time(), time(), missed, windows(), further);
    (what, about, when).prop_map(|(what, about, when)| Shared {
        tenant: what.0,
        kind: what.1,
        class: what.2,
        pool: what.3,
        content: what.4,
        sender: about.0,
        topic: about.1,
        labels: about.2,
        origin: about.3,
        batch: about.4,
        priority: when.0,
        accepted_at: when.1,
        expires_at: when.2,
        windows: when.4,
        on_missed: when.3,
        moved_at: when.5.0,
        chain: when.5.1,
        trace: when.5.2,
    })
}

fn recipient() -> impl Strategy<Value = Recipient> {
    let maybe = || prop::option::of(text());
    let phone = prop::option::of("\\+[1-9][0-9]{6,14}".prop_map(|raw| raw.parse().unwrap()));
    let kinds = pick(&[RecipientKind::Person, RecipientKind::Group, RecipientKind::Operator]);
    let who =
        (maybe(), kinds, phone, prop::collection::vec((text(), text()), 0..3), prop::option::of((text(), text())));
    (who, prop::array::uniform4(maybe())).prop_map(|(who, [chat, user, zone, locale])| Recipient {
        id: who.0,
        kind: who.1,
        phone: who.2,
        wechat: who.3.into_iter().map(|(appid, openid)| Wechat { appid, openid }).collect(),
        wecom: who.4.map(|(corp_id, external_userid)| Wecom { corp_id, external_userid }),
        wecom_chat_id: chat,
        wecom_userid: user,
        time_zone: zone,
        locale,
    })
}

prop_compose! {
    fn job()(
        id in id(),
        recipient in recipient(),
        params in pairs(),
        cancel_key in text(),
        collapse_key in text(),
        [attempt, supersedes] in any::<[u16; 2]>(),
        seen in prop::option::of(time()),
    ) -> Job {
        Job { id: JobId(id), recipient, params, cancel_key, collapse_key, attempt, supersedes, seen }
    }
}

pub(super) fn envelope() -> impl Strategy<Value = Envelope> {
    (shared(), time(), prop::collection::vec(job(), 1..6)).prop_map(|(shared, due_at, jobs)| Envelope {
        shared: Arc::new(shared),
        due_at,
        jobs,
    })
}

fn cost() -> impl Strategy<Value = Money> {
    (prop::sample::select(vec!["CNY", "USD"]), 0..=i64::MAX)
        .prop_map(|(currency, micros)| Money::new(currency.parse().unwrap(), micros).unwrap())
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (text(), time()).prop_map(|(reason, until)| Change::Deferred { reason, until }),
        (name(), prop::collection::vec(text(), 0..3), any::<bool>(), prop::option::of(cost())).prop_map(
            |(provider, message_ids, receipt_expected, cost)| Change::Sent {
                provider,
                message_ids,
                receipt_expected,
                cost
            }
        ),
        prop::option::of(name()).prop_map(|provider| Change::Unresolved { provider }),
        pick(State::ALL).prop_map(Change::Progress),
        text().prop_map(|report| Change::Recorded { report }),
        (pick(Fate::ALL), text()).prop_map(|(fate, reason)| Change::Settled(Outcome { fate, reason })),
        (name(), pick(CallResult::ALL), text(), prop::option::of(cost()))
            .prop_map(|(provider, result, report, cost)| Change::Called { provider, result, report, cost }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let retry = (pick(CallResult::ALL), 0_u64..1_000_000, 0..=RETRIES_MAX);
    let retry = retry.prop_map(|(result, after, times)| Retry { result, after: Duration::from_secs(after), times });
    let when = prop_oneof![pick(CallResult::ALL).prop_map(When::Result), text().prop_map(When::Tag)];
    let act = prop_oneof![
        (pick(Kind::ALL), text(), pairs()).prop_map(|(kind, template, params)| AfterAct::Submit {
            kind,
            template,
            params
        }),
        any::<bool>().prop_map(|everything| AfterAct::OptOut { everything }),
        Just(AfterAct::NextStep),
    ];
    let after = (when, act).prop_map(|(when, act)| After { when, act });
    let lengths = (0_u64..100, 0_u64..10_000);
    let lists = (prop::collection::vec(retry, 0..3), prop::collection::vec(after, 0..3));
    let plan = (text(), lengths, lists).prop_map(|(document, (ring, talk), (retries, after))| Plan {
        document,
        ring_max: Duration::from_secs(ring),
        talk_max: Duration::from_secs(talk),
        retries,
        after,
    });
    prop_oneof![Just(Plan::default()), plan]
}

fn left() -> impl Strategy<Value = Left> {
    let follows = prop::collection::vec(any::<u8>(), 0..3);
    (envelope(), follows, pairs()).prop_map(|(again, follows, heard)| {
        // Only what follows needs to know what was pressed.
        let heard = if follows.is_empty() { vec![] } else { heard };
        Left { again, follows, heard }
    })
}

fn owed() -> impl Strategy<Value = Box<Owed>> {
    (envelope(), any::<u8>(), pairs(), time())
        .prop_map(|(call, place, heard, at)| Box::new(Owed { call, place, heard, at }))
}

prop_compose! {
    fn called()(
        provider in name(),
        job in id(),
        attempt in any::<u16>(),
        at in time(),
        step in prop_oneof![
            pick(State::ALL).prop_map(CallStep::Moved),
            (pick(CallResult::ALL), text(), prop::option::of(cost()), prop::option::of(left())).prop_map(
                |(result, report, cost, left)| CallStep::Ended { result, report, cost, left: left.map(Box::new) }
            ),
            Just(CallStep::Lost),
            (pick(Fate::ALL), text()).prop_map(|(fate, reason)| CallStep::Withdrawn(Outcome { fate, reason })),
        ],
    ) -> Called {
        Called { provider, job: JobId(job), attempt, at, step }
    }
}

prop_compose! {
    fn event()(
        job in id(),
        tenant in name(),
        kind in pick(Kind::ALL),
        class in pick(Class::ALL),
        at in time(),
        attempt in any::<u16>(),
        change in change(),
    ) -> Event {
        Event { job: JobId(job), tenant, kind, class, at, attempt, change }
    }
}

prop_compose! {
    fn receipt()(
        provider in name(),
        message_id in text(),
        job in prop::option::of(id()),
        report in prop_oneof![
            Just(Report::Pending),
            pick(State::ALL).prop_map(Report::Progress),
            pick(Fate::ALL).prop_map(Report::Final),
            pick(CallResult::ALL).prop_map(Report::Called),
            Just(Report::Recorded),
        ],
        code in text(),
        at in time(),
    ) -> Receipt {
        Receipt { provider, message_id, job: job.map(JobId), report, code, at }
    }
}

prop_compose! {
    pub(super) fn reply()(
        provider in name(),
        [from, to, text] in prop::array::uniform3(text()),
        tenant in prop::option::of(name()),
        job in prop::option::of(id()),
        at in time(),
    ) -> Reply {
        Reply { provider, from, to, text, tenant, in_reply_to: job.map(JobId), at }
    }
}

prop_compose! {
    fn suppression()(
        tenant in name(),
        address in any::<[u8; 16]>(),
        scope in prop_oneof![
            any::<[u8; 16]>().prop_map(|key| Scope::Sender(WordKey(key))),
            any::<[u8; 16]>().prop_map(|key| Scope::Signature(WordKey(key))),
            any::<[u8; 16]>().prop_map(|key| Scope::Topic(WordKey(key))),
            Just(Scope::Brand),
            Just(Scope::Everything),
            Just(Scope::Global),
        ],
        kind in prop::option::of(pick(Kind::ALL)),
        source in pick(Source::ALL),
        at in time(),
    ) -> Suppression {
        Suppression { tenant, address: AddressKey(address), scope, kind, source, at }
    }
}

pub(super) fn plain() -> impl Strategy<Value = Plain> {
    (text(), text()).prop_map(|(address, word)| Plain { address, word })
}

fn job_rule() -> impl Strategy<Value = JobRule> {
    let names = (prop::option::of(any::<[u8; 16]>()), prop::option::of(time()), prop::option::of(pick(Kind::ALL)));
    let names = names.prop_map(|(word, to, kind)| Names { campaign: word.map(WordKey), to, kind, ..Names::default() });
    let moved = (time(), prop::option::of(time())).prop_map(|(due_at, expires_at)| Act::Move { due_at, expires_at });
    let act = prop_oneof![Just(Act::Cancel), moved, id().prop_map(|id| Act::Collapse { into: JobId(id) })];
    (name(), names, time(), act).prop_map(|(tenant, names, at, act)| JobRule { tenant, names, at, act })
}

prop_compose! {
    pub(super) fn signal()(
        id in any::<u128>(),
        provider in name(),
        tenant in name(),
        told in pick(Told::ALL),
        recipient in recipient(),
        to in text(),
        details in pairs(),
        at in time(),
    ) -> Box<Signal> {
        Box::new(Signal { id: Uuid::from_u128(id), provider, tenant, told, recipient, to, details, at })
    }
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        event().prop_map(Fact::Event),
        receipt().prop_map(Fact::Receipt),
        reply().prop_map(Fact::Reply),
        (suppression(), plain()).prop_map(|(suppression, plain)| Fact::Suppressed(suppression, plain)),
        (suppression(), pick(Source::ALL)).prop_map(|(suppression, source)| Fact::Unsuppressed(suppression, source)),
        job_rule().prop_map(Fact::Ruled),
        signal().prop_map(Fact::Signal),
        any::<u128>().prop_map(|id| Fact::Elapsed("acme".parse().unwrap(), JobId(Uuid::from_u128(id)))),
        called().prop_map(Fact::Called),
        owed().prop_map(Fact::Owed),
    ]
}

pub(super) fn frame() -> impl Strategy<Value = Frame> {
    let check = (envelope(), any::<u16>(), prop::option::of(name()), time());
    let check = (check, any::<bool>());
    let check = check.prop_map(|((envelope, attempt, provider, due_at), ends_call)| Check {
        envelope,
        attempt,
        provider,
        due_at,
        ends_call,
    });
    prop_oneof![
        prop::collection::vec(envelope(), 0..4).prop_map(Frame::Jobs),
        prop::collection::vec(check, 0..4).prop_map(Frame::Checks),
        prop::collection::vec(fact(), 0..12).prop_map(Frame::Facts),
    ]
}
