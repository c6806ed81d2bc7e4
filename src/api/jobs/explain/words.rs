//! An explanation in a few sentences.

use super::{NO_PROVIDER, Present};
use crate::admission::moment;
use crate::config;
use crate::domain::event::{Change, Outcome, PROVIDER_REASON};
use crate::domain::sender::SenderPool;
use crate::domain::time::UnixMicros;
use crate::leave::{NO_CONSENT, Outlook, RECOVERING, RESCHEDULED, Ruling, SEND_AT, Said};
use crate::ledger::{History, Tenant};
use crate::policy::windows;

/// Returns what became of a job and why, what holds it now, and what shadows would have done.
pub(super) fn summary(history: &History, past: &[Ruling], present: Option<&Present>, now: UnixMicros) -> String {
    let mut sentences = Vec::new();
    let deferrals = past.iter().filter(|ruling| ruling.said == Said::Defer && !ruling.shadow).count();
    if deferrals > 0 {
        let times = if deferrals == 1 { "once".to_owned() } else { format!("{deferrals} times") };
        sentences.push(format!("It was deferred {times} so far."));
    }
    sentences.push(match present {
        Some(present) => of_present(present, now),
        None => of_past(history, past),
    });
    let shadows = present.map_or(past, |present| &present.rulings).iter();
    sentences.extend(shadows.filter(|ruling| ruling.shadow && ruling.said != Said::Pass).map(|ruling| {
        let would = if ruling.said == Said::Defer { "deferred" } else { "stopped" };
        format!("In shadow, `{}` would have {would} it.", ruling.rule)
    }));
    sentences.join(" ")
}

/// Returns whom a job leaves from, where one of several was chosen, or another took over: `asked` is whom it was accepted with,
/// and whose it is by now.
pub(super) fn sender(tenant: &Tenant, asked: (&str, &str), waits: bool) -> String {
    let chosen = |sender: &str| {
        let of = |pool: &&SenderPool| pool.members.iter().any(|member| *member.sender == *sender);
        tenant.sender_pools.iter().find(of)
    };
    match asked {
        (before, now) if waits && before != now => format!("It leaves from `{now}`, which took over from `{before}`."),
        (_, now) => chosen(now).map_or_else(String::new, |pool| {
            let verb = if waits { "leaves" } else { "left" };
            format!("It {verb} from `{now}`, of the senders `{}`.", pool.name)
        }),
    }
}

fn of_present(Present { outlook, held_by, next_at, .. }: &Present, now: UnixMicros) -> String {
    let because = held_by.as_ref().map(because).unwrap_or_default();
    match (outlook, next_at) {
        (Outlook::Claimed { attempt, deadline }, _) => format!(
            "It is being handed over, in attempt {attempt}; where no answer comes, it is decided after {}.",
            moment(*deadline)
        ),
        (Outlook::Ends(outcome), _) => format!("It will not be sent, and ends as {}: {because}.", outcome.fate),
        (Outlook::Waits { .. } | Outlook::Goes, Some(at)) if *at > now => {
            format!("It waits until {}: {because}.", moment(*at))
        }
        (Outlook::Waits { .. } | Outlook::Goes, None) => format!("It waits, and nobody knows how long: {because}."),
        (Outlook::Waits { .. } | Outlook::Goes, Some(_)) => "No rule holds it: it goes when its turn comes.".to_owned(),
    }
}

fn of_past(history: &History, past: &[Ruling]) -> String {
    let settled = history
        .events
        .iter()
        .find_map(|numbered| numbered.event.change.outcome().map(|outcome| (outcome, numbered.event.at)));
    if let Some((Outcome { fate, reason }, at)) = settled {
        let ruling = past.iter().rev().find(|ruling| matches!(ruling.said, Said::Stop(_)) && !ruling.shadow);
        let because = match ruling {
            Some(ruling) => format!(": {}", because(ruling)),
            None if reason.is_empty() => String::new(),
            None => format!(": `{reason}`"),
        };
        return format!("It ended as {fate} at {}{because}.", moment(at));
    }
    let last = history.events.iter().rev().find_map(|numbered| match &numbered.event.change {
        Change::Sent { provider, .. } => {
            Some(format!("Provider `{provider}` took it at {}; a receipt is awaited.", moment(numbered.event.at)))
        }
        Change::Unresolved { .. } => Some(format!(
            "It was handed over and nobody answered; since {} it is unresolved, and a receipt may still settle it.",
            moment(numbered.event.at)
        )),
        Change::Progress(state) => Some(format!("It is {state} since {}.", moment(numbered.event.at))),
        Change::Called { result, .. } => Some(format!("A call ended as {result} at {}.", moment(numbered.event.at))),
        Change::Deferred { .. } | Change::Recorded { .. } | Change::Settled(_) => None,
    });
    last.unwrap_or_else(|| "Nothing is known of it yet.".to_owned())
}

/// Returns why a ruling is as it is, as the end of a sentence.
fn because(ruling: &Ruling) -> String {
    if let Some(places) = &ruling.places {
        let window = config::window_text(places.window);
        return format!(
            "the cap `{}` lets {} through in its window ({window}), and {} of them are taken",
            ruling.rule, places.limit, places.used
        );
    }
    match &*ruling.rule {
        SEND_AT => "it was submitted for then".to_owned(),
        RESCHEDULED => "it was moved to then".to_owned(),
        RECOVERING => "limits reload what they lost, and meanwhile only urgent jobs leave".to_owned(),
        NO_PROVIDER => "no provider of its pool is up".to_owned(),
        windows::NO_ZONE_REASON => "the recipient's time zone is unknown, and a send window binds the job".to_owned(),
        windows::OWN_REASON => format!("{} is closed", windows::words(&ruling.rule)),
        rule if rule.starts_with(windows::REASON) => format!("{} is closed", windows::words(rule)),
        rule if rule.starts_with("opt_out") => format!("an opt-out binds the address (`{rule}`)"),
        NO_CONSENT => "of the one-time consents that its recipient gave to its template none is left".to_owned(),
        rule if rule.starts_with(PROVIDER_REASON) => {
            format!("its provider did not take it (`{}`)", &rule[PROVIDER_REASON.len()..])
        }
        "request" => "it was taken back".to_owned(),
        "collapsed" => "a newer job with its collapse key replaces it".to_owned(),
        "expires_at" => "its expiry has passed".to_owned(),
        rule => format!("`{rule}`"),
    }
}
