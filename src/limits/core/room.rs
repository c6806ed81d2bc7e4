//! Whether a cap has room, when it has some again, and when a waiting job's turn comes. Pure: places come newest first.

use uuid::Uuid;

use super::people::Entry;
use super::rulesets::Kept;
use crate::domain::time::UnixMicros;
use crate::limits::take::{TOLD_MAX, TOLD_PER_PLACE, Until, micros};
use crate::limits::{Held, Once, Span, Take, short};

/// A place in a cap, as far as its rule is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// When it was taken.
    pub at: UnixMicros,
    /// How many of the limit it takes.
    pub weight: u32,
    /// How long it is kept.
    pub until: Until,
    /// What counts as one touch.
    pub touch: u64,
}

/// What a cap says of one claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    /// The touch has its place already, and takes no other.
    Held,
    /// There is room: a place taken now is kept until then.
    Free(Until),
    /// There is none before this time.
    Full(UnixMicros),
}

// === impl Place ===

impl Place {
    /// Returns the place that an entry holds in a rule, if it holds one.
    pub(super) fn of(entry: &Entry, kept: &[Kept], rule: u32) -> Option<Self> {
        let kept = kept.iter().find(|kept| kept.rule == rule)?;
        Some(Self { at: entry.at, weight: kept.weight, until: kept.until, touch: entry.touch })
    }
}

/// Returns when the cap of a take, with the places that are held in it at `now`, has room for a touch; `None`: it has, or
/// the touch has its place.
pub fn opens_at(take: &Take, held: &[Held], touch: Uuid, now: UnixMicros) -> Option<UnixMicros> {
    let place =
        |held: &Held| Place { at: held.at, weight: held.weight, until: Until::At(held.until), touch: held.touch };
    match room(take, held.iter().map(place), short(touch), now) {
        Room::Full(open_at) => Some(open_at),
        Room::Free(_) | Room::Held => None,
    }
}

/// Returns whether a cap has room at `now` for a touch.
pub(super) fn room(take: &Take, places: impl Iterator<Item = Place>, touch: u64, now: UnixMicros) -> Room {
    if take.need > take.limit {
        return Room::Full(UnixMicros::MAX);
    }
    let (mut used, mut open_at, mut last_end) = (0, None, now);
    for place in places {
        let Some(end) = counted_until(take.span, &place, now) else { continue };
        if place.touch == touch && take.once == Once::Touch {
            return Room::Held;
        }
        last_end = last_end.max(end);
        used += place.weight;
        // Newest first: once this one is gone, there is room among what is left.
        if open_at.is_none() && used + take.need > take.limit {
            open_at = Some(end);
        }
    }
    match take.span {
        Span::Fixed { end, .. } if now >= end => Room::Full(now),
        Span::Bucket(refill) => {
            let full_at = last_end.0 + i64::from(take.need) * micros(refill);
            let open_at = UnixMicros(full_at - i64::from(take.limit) * micros(refill));
            if open_at > now { Room::Full(open_at) } else { Room::Free(Until::At(UnixMicros(full_at))) }
        }
        span => open_at.map_or_else(|| Room::Free(kept(span, last_end, now)), Room::Full),
    }
}

/// Returns when a place leaves the window, if it is in it.
pub(super) fn counted_until(span: Span, place: &Place, now: UnixMicros) -> Option<UnixMicros> {
    let end = match span {
        Span::Rolling(length) => UnixMicros(place.at.0.saturating_add(micros(length))),
        Span::Fixed { start, end } => return (place.at >= start).then_some(end),
        Span::FromFirst(_) | Span::Bucket(_) => place.until.end(place.at),
    };
    (end > now).then_some(end)
}

/// Returns how long a place taken now is kept; `last_end` is the latest end of those in the window, or now.
fn kept(span: Span, last_end: UnixMicros, now: UnixMicros) -> Until {
    match span {
        Span::Rolling(length) => Until::After(micros(length)),
        // As long as the window for each of its places, so that all are kept alike.
        Span::Fixed { start, end } => Until::After(end.0 - start.0),
        Span::FromFirst(length) if last_end == now => Until::At(now.plus(length)),
        Span::FromFirst(_) | Span::Bucket(_) => Until::At(last_end),
    }
}

/// Returns the instants at which places open, each once for each place, for ever: the ends of what is in the window, and
/// after them the same again, as if whoever waits took each place at once.
fn openings(
    take: &Take,
    places: impl Iterator<Item = Place>,
    open_at: UnixMicros,
    now: UnixMicros,
) -> impl Iterator<Item = UnixMicros> {
    let at_once = |length| (vec![open_at; usize::try_from(take.limit / take.need.max(1)).unwrap_or(1).max(1)], length);
    let (first, period) = match take.span {
        Span::Rolling(length) => {
            let mut ends: Vec<_> = places.filter_map(|place| counted_until(take.span, &place, now)).collect();
            ends.retain(|&end| end >= open_at);
            ends.reverse();
            (ends, micros(length))
        }
        Span::Fixed { start, end } => at_once(end.0 - start.0),
        Span::FromFirst(length) => at_once(micros(length)),
        Span::Bucket(refill) => (vec![open_at], i64::from(take.need) * micros(refill)),
    };
    let first = if first.is_empty() { vec![open_at] } else { first };
    (0..).flat_map(move |round: i64| {
        let later = round.saturating_mul(period.max(1));
        first.clone().into_iter().map(move |at| UnixMicros(at.0.saturating_add(later)))
    })
}

/// Says when the turn of a job comes that has to wait for this cap: at the first opening that not enough others were told
/// to come at, or the last one before the job expires. `told` is what others were told, in order.
pub(super) fn turn(
    told: &mut Vec<(UnixMicros, u32)>,
    take: &Take,
    places: impl Iterator<Item = Place>,
    (open_at, expires_at): (UnixMicros, UnixMicros),
    now: UnixMicros,
) -> UnixMicros {
    told.retain(|(at, _)| *at > now);
    let (mut next, mut ahead, mut last) = (0, 0, open_at);
    for (places, open) in (1_u64..).zip(openings(take, places, open_at, now)) {
        if open >= expires_at {
            return last;
        }
        while let Some((_, jobs)) = told.get(next).filter(|(at, _)| *at <= open) {
            ahead += u64::from(*jobs);
            next += 1;
        }
        let last_told = told.last().map(|(at, _)| *at);
        let open = match last_told {
            Some(last_told) if told.len() >= TOLD_MAX && open > last_told => last_told,
            _ if ahead < TOLD_PER_PLACE * places => open,
            _ => {
                last = open;
                continue;
            }
        };
        match told.binary_search_by_key(&open, |(at, _)| *at) {
            Ok(found) => told[found].1 += 1,
            Err(place) => told.insert(place, (open, 1)),
        }
        // Before the others there is always room; what is farthest away is forgotten for it, which costs a decision more.
        told.truncate(TOLD_MAX);
        return open;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cap::{Mode, OnLimit};
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(86_400);

    fn take(limit: u32, span: Span) -> Take {
        Take {
            rule: 1,
            log: None,
            limit,
            need: 1,
            span,
            once: Once::Touch,
            on_limit: OnLimit::Defer,
            mode: Mode::Enforce,
        }
    }

    fn day(day: i64) -> UnixMicros {
        UnixMicros::from_secs(day * 86_400)
    }

    /// Asks for the turns of jobs that wait.
    fn turns(take: &Take, taken: &[UnixMicros], jobs: usize, expires_at: UnixMicros) -> Vec<UnixMicros> {
        let until = Until::After(micros(DAY));
        let places = taken.iter().rev().map(|&at| Place { at, weight: 1, until, touch: 7 });
        let now = *taken.last().unwrap();
        let Room::Full(open_at) = room(take, places.clone(), 1, now) else { panic!("there is room") };
        let mut told = Vec::new();
        (0..jobs).map(|_| turn(&mut told, take, places.clone(), (open_at, expires_at), now)).collect()
    }

    #[test]
    fn waiting_jobs_come_two_to_a_place() {
        let rolling = take(2, Span::Rolling(DAY));
        let (first, second) = (day(10), day(10).plus(Duration::from_secs(60)));
        let turns = turns(&rolling, &[first, second], 9, UnixMicros::MAX);
        let expected = [(first, 1), (second, 1), (first, 2), (second, 2), (first, 3)];
        let expected: Vec<_> = expected.iter().flat_map(|&(at, days)| [at.plus(DAY * days); 2]).take(9).collect();
        assert_eq!(turns, expected);
    }

    #[test]
    fn a_window_that_opens_at_once_takes_twice_its_limit_of_jobs() {
        let fixed = take(3, Span::Fixed { start: day(10), end: day(11) });
        let turns = turns(&fixed, &[day(10); 3], 13, UnixMicros::MAX);
        assert_eq!(turns, [[day(11); 6], [day(12); 6]].concat().into_iter().chain([day(13)]).collect::<Vec<_>>());
    }

    #[test]
    fn a_turn_is_never_after_the_expiry_and_the_told_are_bounded() {
        let rolling = take(1, Span::Rolling(DAY));
        let short = turns(&rolling, &[day(10)], 9, day(12).plus(Duration::from_secs(1)));
        assert_eq!(short, [[day(11); 2].to_vec(), [day(12); 7].to_vec()].concat());
        let many = turns(&rolling, &[day(10)], 1_000, UnixMicros::MAX);
        let last = 10 + i64::try_from(TOLD_MAX).unwrap();
        assert_eq!((many[999], many[2 * TOLD_MAX - 1], many[2 * TOLD_MAX - 3]), (day(last), day(last), day(last - 1)));
    }

    #[test]
    fn nearer_openings_push_out_the_farthest() {
        let mut told = Vec::new();
        for days in (1..1_000).rev() {
            let rolling = take(1, Span::Rolling(DAY * days));
            let place = Place { at: day(0), weight: 1, until: Until::After(micros(DAY * days)), touch: 7 };
            let (opens, last) = (day(days.into()), UnixMicros::MAX);
            assert_eq!(turn(&mut told, &rolling, [place].into_iter(), (opens, last), day(0)), opens);
            assert!(told.len() <= TOLD_MAX);
        }
    }

    #[test]
    fn a_stretch_that_is_over_is_asked_for_again() {
        let fixed = take(3, Span::Fixed { start: day(10), end: day(11) });
        assert_eq!(room(&fixed, std::iter::empty(), 1, day(11)), Room::Full(day(11)));
        assert_eq!(room(&fixed, std::iter::empty(), 1, day(10)), Room::Free(Until::After(micros(DAY))));
    }
}
