//! When each job of a request may first be sent, and until when. Pure.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{AHEAD_MAX, Refusal, Request, Start};
use crate::domain::job::OnMissed;
use crate::domain::time::UnixMicros;
use crate::policy::routes::Places;
use crate::policy::windows::{Bound, NO_ZONE_REASON};
use crate::policy::zones;

/// How long after the farthest start a window may open.
const OPENS_WITHIN: Duration = Duration::from_secs(30 * 24 * 3600);
/// A time of day is at most a day away from the same in UTC.
const ZONES_APART: Duration = Duration::from_secs(24 * 3600);
/// Answers that are kept for the next item: the items of a request mostly start together in few zones.
const KNOWN_MAX: usize = 16;

/// What is to be done with the items of a request, by their places in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Items that may be sent from the same moment on.
    pub(super) groups: Vec<Group>,
    /// Items that can never be sent.
    pub(super) refused: Vec<(usize, Refusal)>,
}

/// Items that are due and expire together, for the same reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Not before.
    pub(super) due_at: UnixMicros,
    /// Not after.
    pub(super) expires_at: UnixMicros,
    /// The window that they wait for, as a reason.
    pub(super) held_by: Option<Box<str>>,
    /// The place of their pool among the request's.
    pub(super) pool: usize,
    /// Whom they leave from; empty: the provider's own. A pool of senders until one of them is chosen.
    pub(super) sender: Box<str>,
    /// Their places in the request, in order.
    pub(super) items: Vec<usize>,
}

/// When an item may first be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
struct First {
    due_at: UnixMicros,
    /// The window that it waits for.
    held_by: Option<Box<str>>,
}

/// Plans a request's items as of `now`, each bound by the windows of its pool; `life` is how long its class lives after it
/// is due.
pub(super) fn plan(request: &Request, (places, bounds): (&Places, &[Bound]), life: Duration, now: UnixMicros) -> Plan {
    let mut plan = Plan::default();
    for (pool, bound) in bounds.iter().enumerate() {
        let of_pool = |place: usize| places.of.get(place).is_none_or(|of| *of == pool);
        plan.add(request, (bound, pool), of_pool, (life, now));
    }
    for group in &mut plan.groups {
        group.sender = sender(request, places, group.pool).into();
    }
    plan.refused.sort_unstable_by_key(|(place, _)| *place);
    plan
}

/// Returns whom the jobs of a place leave from: whom the request names, else whom their route does.
pub(super) fn sender<'a>(request: &'a Request, places: &'a Places, place: usize) -> &'a str {
    let of_route = || places.senders.get(place).map_or("", |sender| sender);
    if request.sender.is_empty() { of_route() } else { &request.sender }
}

fn name(zone: &Option<TimeZone>) -> Option<&str> {
    zone.as_ref().and_then(TimeZone::iana_name)
}

/// Returns when a job that starts at `start` may first be sent. One that is dropped when it misses its window is left
/// where it is: dispatch says what becomes of it.
fn first(
    start: Start,
    bound: &Bound,
    on_missed: OnMissed,
    (zone, now): (Option<&TimeZone>, UnixMicros),
) -> Result<First, Refusal> {
    let (start, most) = match start {
        Start::Now => (now, AHEAD_MAX),
        Start::At(at) => (at.max(now), AHEAD_MAX),
        Start::Local(local) => {
            let zone = zone.ok_or(Refusal::NoZone("a local time"))?;
            // What the clocks jump over is as much later as they jump; of two such times it is the first.
            let at = zone.to_timestamp(local).map_err(|_| Refusal::TooFar)?;
            (UnixMicros(at.as_microsecond()).max(now), AHEAD_MAX + ZONES_APART)
        }
    };
    if start > now.plus(most) {
        return Err(Refusal::TooFar);
    }
    let Err(closed) = bound.check(zone, start) else { return Ok(First { due_at: start, held_by: None }) };
    if &*closed.reason == NO_ZONE_REASON {
        return Err(Refusal::NoZone("a send window"));
    }
    if on_missed == OnMissed::Drop || closed.on_missed == OnMissed::Drop {
        return Ok(First { due_at: start, held_by: None });
    }
    match bound.next(zone, start) {
        Some(due_at) if due_at <= start.plus(OPENS_WITHIN) => Ok(First { due_at, held_by: Some(closed.reason) }),
        Some(_) | None => Err(Refusal::NeverOpen(closed.reason)),
    }
}

fn expiry(first: First, given: Option<UnixMicros>, life: Duration) -> Result<(First, UnixMicros), Refusal> {
    let expires_at = given.unwrap_or_else(|| first.due_at.plus(life));
    match &first.held_by {
        _ if expires_at > first.due_at => Ok((first, expires_at)),
        Some(by) => Err(Refusal::ClosedUntilExpiry { by: by.clone(), open_at: first.due_at }),
        None => Err(Refusal::ExpiresFirst),
    }
}

// === impl Plan ===

impl Plan {
    /// Returns how many items may be sent.
    pub(super) fn jobs(&self) -> usize {
        self.groups.iter().map(|group| group.items.len()).sum()
    }

    /// Returns when the last of them is due.
    pub(super) fn last_due(&self) -> Option<UnixMicros> {
        self.groups.iter().map(|group| group.due_at).max()
    }

    /// Refuses all items from a place on that are not refused anyway.
    pub(super) fn refuse_from(&mut self, first: usize, refusal: &Refusal) {
        for group in &mut self.groups {
            let over = group.items.partition_point(|place| *place < first);
            self.refused.extend(group.items.drain(over..).map(|place| (place, refusal.clone())));
        }
        self.groups.retain(|group| !group.items.is_empty());
        self.refused.sort_unstable_by_key(|(place, _)| *place);
    }

    /// Refuses items, by their places in order, that are not refused anyway.
    pub(super) fn refuse(&mut self, places: Vec<usize>, refusal: &Refusal) {
        for group in &mut self.groups {
            let lost = group.items.extract_if(.., |place| places.binary_search(place).is_ok());
            self.refused.extend(lost.map(|place| (place, refusal.clone())));
        }
        self.groups.retain(|group| !group.items.is_empty());
        self.refused.sort_unstable_by_key(|(place, _)| *place);
    }

    /// Splits a group by whom each of its items leaves from.
    pub(super) fn split(group: Group, senders: &[Box<str>]) -> Vec<Group> {
        let mut parts: Vec<Group> = Vec::new();
        for (place, sender) in group.items.iter().zip(senders) {
            match parts.iter_mut().find(|part| part.sender == *sender) {
                Some(part) => part.items.push(*place),
                None => {
                    let (sender, items, held_by) = (sender.clone(), vec![*place], group.held_by.clone());
                    parts.push(Group { sender, items, held_by, ..group });
                }
            }
        }
        parts
    }

    /// Returns how many items wait for a window, by its reason.
    pub(super) fn deferred(&self) -> impl Iterator<Item = (&str, usize)> {
        self.groups.iter().filter_map(|group| Some((group.held_by.as_deref()?, group.items.len())))
    }

    /// Plans the items of one pool.
    fn add(
        &mut self,
        request: &Request,
        (bound, pool): (&Bound, usize),
        of_pool: impl Fn(usize) -> bool,
        (life, now): (Duration, UnixMicros),
    ) {
        let mut known: Vec<(Option<TimeZone>, Start, Result<First, Refusal>)> = Vec::new();
        for (place, item) in request.items.iter().enumerate().filter(|(place, _)| of_pool(*place)) {
            let start = item.send_at.map_or(request.start, Start::At);
            let needs_zone = !bound.is_free() || matches!(start, Start::Local(_));
            let zone = needs_zone.then(|| zones::of(&item.recipient)).flatten();
            let same = |known: &&(Option<TimeZone>, Start, _)| known.1 == start && name(&known.0) == name(&zone);
            let first = match known.iter().find(same) {
                Some((_, _, first)) => first.clone(),
                None => {
                    let first = first(start, bound, request.on_missed, (zone.as_ref(), now));
                    if known.len() < KNOWN_MAX {
                        known.push((zone, start, first.clone()));
                    }
                    first
                }
            };
            match first.and_then(|first| expiry(first, request.expires_at, life)) {
                Ok((first, expires_at)) => self.put((place, pool), first, expires_at),
                Err(refusal) => self.refused.push((place, refusal)),
            }
        }
    }

    fn put(&mut self, (place, pool): (usize, usize), First { due_at, held_by }: First, expires_at: UnixMicros) {
        // The newest first: most items are like the one before.
        let same = |group: &&mut Group| {
            (group.due_at, group.expires_at, group.pool) == (due_at, expires_at, pool) && group.held_by == held_by
        };
        match self.groups.iter_mut().rev().take(KNOWN_MAX).find(same) {
            Some(group) => group.items.push(place),
            None => {
                let items = vec![place];
                self.groups.push(Group { due_at, expires_at, held_by, pool, sender: "".into(), items });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admission::{Batch, Item};
    use crate::domain::ids::PoolId;
    use crate::domain::job::{Class, Content, Kind, Origin};
    use crate::domain::recipient::Recipient;
    use crate::domain::window::{Calendars, Means, WindowRule};
    use crate::ledger::Tenant;
    use crate::policy::windows::Windows;

    const LIFE: Duration = Duration::from_secs(48 * 3600);

    fn at(text: &str) -> UnixMicros {
        UnixMicros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn request(start: Start, numbers: &[&str]) -> Request {
        let tenant = Tenant::new("acme".parse().unwrap(), UnixMicros(0));
        let item = |(index, number): (usize, &&str)| Item {
            index: u32::try_from(index).unwrap(),
            recipient: Recipient { phone: Some(number.parse().unwrap()), ..Recipient::default() },
            params: vec![],
            cancel_key: "".into(),
            collapse_key: "".into(),
            send_at: None,
        };
        Request {
            tenant: Arc::new(tenant),
            kind: Kind::Sms,
            class: Class::Marketing,
            content: Content::Text("hello".into()),
            asks: vec![],
            fallback: vec![],
            sender: "".into(),
            topic: "".into(),
            labels: vec![],
            origin: Origin::default(),
            priority: 0,
            on_missed: OnMissed::Defer,
            start,
            windows: vec![],
            expires_at: None,
            key: None,
            trace: None,
            batch: Batch::Many,
            items: numbers.iter().enumerate().map(item).collect(),
        }
    }

    fn bound(hours: &str, on_missed: OnMissed) -> Bound {
        let rule = WindowRule {
            name: "day".parse().unwrap(),
            classes: vec![],
            kinds: vec![],
            topics: vec![],
            senders: vec![],
            pools: vec![],
            hours: vec![hours.parse().unwrap()],
            on_missed,
        };
        let pool: PoolId = "default".parse().unwrap();
        let job = Means { class: Class::Marketing, kind: Kind::Sms, topic: "", sender: "", pool: &pool };
        Windows::new(vec![rule], Calendars::new()).bind(&[], &job, &[])
    }

    /// Plans for one pool.
    fn plan(request: &Request, bound: &Bound, life: Duration, now: UnixMicros) -> Plan {
        let places = Places { pools: vec!["default".parse().unwrap()], senders: vec![], of: vec![] };
        super::plan(request, (&places, std::slice::from_ref(bound)), life, now)
    }

    #[test]
    fn each_pool_has_its_own_windows() {
        let request = request(Start::Now, &["+8613800000000", "+8613800000001", "+12025550100"]);
        let now = at("2026-06-01T14:00:00Z");
        let pools = vec!["a".parse().unwrap(), "b".parse().unwrap()];
        let places = Places { pools, senders: vec![], of: vec![1, 0, 1] };
        let bounds = [Bound::default(), bound("08:00-20:00", OnMissed::Defer)];
        let plan = super::plan(&request, (&places, &bounds), LIFE, now);
        let morning = at("2026-06-02T08:00:00+08:00");
        let groups: Vec<_> = plan.groups.iter().map(|group| (group.pool, group.due_at, &group.items[..])).collect();
        assert_eq!(groups, [(0, now, &[1][..]), (1, morning, &[0][..])]);
        assert_eq!(plan.refused, [(2, Refusal::NoZone("a send window"))]);
    }

    fn dues(plan: &Plan) -> Vec<(UnixMicros, Vec<usize>)> {
        plan.groups.iter().map(|group| (group.due_at, group.items.clone())).collect()
    }

    #[test]
    fn each_recipient_waits_for_the_window_where_they_are() {
        let request = request(Start::Now, &["+8613800000000", "+4915112345678", "+8613800000001", "+12025550100"]);
        // Night in Shanghai, afternoon in Berlin.
        let now = at("2026-06-01T14:00:00Z");
        let plan = plan(&request, &bound("08:00-20:00", OnMissed::Defer), LIFE, now);
        let morning = at("2026-06-02T08:00:00+08:00");
        assert_eq!(dues(&plan), [(morning, vec![0, 2]), (now, vec![1])]);
        assert_eq!(plan.groups[0].expires_at, morning.plus(LIFE), "it lives from its first moment on");
        assert_eq!(plan.refused, [(3, Refusal::NoZone("a send window"))]);
        assert_eq!(plan.deferred().collect::<Vec<_>>(), [("window:day", 2)]);
        assert_eq!((plan.jobs(), plan.last_due()), (3, Some(morning)));
    }

    #[test]
    fn what_is_over_a_quota_leaves_the_plan() {
        let request = request(Start::Now, &["+8613800000000", "+4915112345678", "+12025550100", "+8613800000001"]);
        let mut plan = plan(&request, &bound("08:00-20:00", OnMissed::Defer), LIFE, at("2026-06-01T14:00:00Z"));
        plan.refuse_from(1, &Refusal::OverQuotaBefore);
        assert_eq!((plan.jobs(), plan.groups.len()), (1, 1));
        assert_eq!(plan.refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(plan.refused[1].1, Refusal::NoZone("a send window"), "what was refused before stays so");
        assert_eq!(plan.deferred().collect::<Vec<_>>(), [("window:day", 1)]);
    }

    #[test]
    fn a_local_time_is_everybodys_own() {
        let local = Start::Local("2026-06-02T10:00".parse().unwrap());
        let request = request(local, &["+8613800000000", "+4915112345678", "+12025550100"]);
        let now = at("2026-06-01T14:00:00Z");
        let plan = plan(&request, &Bound::default(), LIFE, now);
        let expected = [(at("2026-06-02T10:00:00+08:00"), vec![0]), (at("2026-06-02T10:00:00+02:00"), vec![1])];
        assert_eq!(dues(&plan), expected);
        assert_eq!(plan.refused, [(2, Refusal::NoZone("a local time"))]);
        // Where it is over already, it is now.
        let late = at("2026-06-02T05:00:00Z");
        assert_eq!(dues(&self::plan(&request, &Bound::default(), LIFE, late))[0], (late, vec![0]));
    }

    #[test]
    fn an_item_may_have_its_own_start() {
        let now = at("2026-06-01T02:00:00Z");
        let mut request = request(Start::Now, &["+8613800000000"; 3]);
        request.items[1].send_at = Some(at("2026-06-01T03:00:00Z"));
        let plan = plan(&request, &bound("08:00-20:00", OnMissed::Defer), LIFE, now);
        assert_eq!(dues(&plan), [(now, vec![0, 2]), (at("2026-06-01T03:00:00Z"), vec![1])]);
        request.items[1].send_at = Some(now.plus(AHEAD_MAX + Duration::from_secs(1)));
        assert_eq!(self::plan(&request, &Bound::default(), LIFE, now).refused, [(1, Refusal::TooFar)]);
    }

    #[test]
    fn what_expires_before_the_window_opens_is_refused() {
        let now = at("2026-06-01T14:00:00Z");
        let mut request = request(Start::Now, &["+8613800000000"]);
        request.expires_at = Some(at("2026-06-01T16:00:00Z"));
        let open_at = at("2026-06-02T08:00:00+08:00");
        let closed = Refusal::ClosedUntilExpiry { by: "window:day".into(), open_at };
        assert_eq!(plan(&request, &bound("08:00-20:00", OnMissed::Defer), LIFE, now).refused, [(0, closed)]);
        assert_eq!(dues(&plan(&request, &Bound::default(), LIFE, now)), [(now, vec![0])]);
        request.expires_at = Some(now);
        assert_eq!(plan(&request, &Bound::default(), LIFE, now).refused, [(0, Refusal::ExpiresFirst)]);
    }

    #[test]
    fn what_is_dropped_when_it_misses_is_left_to_dispatch() {
        let now = at("2026-06-01T14:00:00Z");
        let mut request = request(Start::Now, &["+8613800000000", "+12025550100"]);
        let plan = plan(&request, &bound("08:00-20:00", OnMissed::Drop), LIFE, now);
        assert_eq!(dues(&plan), [(now, vec![0])]);
        assert_eq!(plan.refused, [(1, Refusal::NoZone("a send window"))]);
        request.on_missed = OnMissed::Drop;
        assert_eq!(dues(&self::plan(&request, &bound("08:00-20:00", OnMissed::Defer), LIFE, now)), [(now, vec![0])]);
    }
}
