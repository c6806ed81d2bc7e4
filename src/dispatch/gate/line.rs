//! Who may ask a gate next: higher classes first, and in one class and kind tenants by turns. Pure.
//!
//! Where a provider carries less than there is, those who wait would otherwise race for each token, or stand behind all
//! the frames of a tenant that has many. By turns, who has one frame waits for one hand-over of each other tenant.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};

/// So many tenants are remembered before those are forgotten whose turns are over; all of them that there are, at worst.
const TENANTS: usize = 256;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    places: BTreeSet<Place>,
    turns: HashMap<(Class, Kind), Turns>,
    next: u64,
}

/// The turns in one class and kind.
#[derive(Debug, Default)]
struct Turns {
    /// In which one whoever was served last had its place.
    now: u64,
    /// That of a tenant's next place, unless it is over by then.
    next: HashMap<TenantId, u64>,
}

/// A place in the line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    class: Class,
    /// `None`: it neither waits for those of its class nor holds them up.
    kind: Option<Kind>,
    turn: u64,
    number: u64,
}

impl Line {
    /// Returns a tenant's place: one turn behind its last one, or in the present turn if that is over. Without a kind,
    /// beside all others of its class: for those who may not take what they may.
    pub(super) fn join(&mut self, tenant: &TenantId, class: Class, kind: Option<Kind>) -> Place {
        let turn = kind.map_or(0, |kind| self.turns.entry((class, kind)).or_default().take(tenant));
        let place = Place { class, kind, turn, number: self.next };
        self.next += 1;
        self.places.insert(place);
        place
    }

    /// Takes a place out that was served: earlier turns are over.
    pub(super) fn served(&mut self, place: Place) {
        self.places.remove(&place);
        if let Some(turns) = place.kind.and_then(|kind| self.turns.get_mut(&(place.class, kind))) {
            turns.now = turns.now.max(place.turn);
        }
    }

    /// Gives a tenant's place up, and with it its turn, unless it was served.
    pub(super) fn leave(&mut self, tenant: &TenantId, place: Place) {
        let waited = self.places.remove(&place);
        let turns = place.kind.filter(|_| waited).and_then(|kind| self.turns.get_mut(&(place.class, kind)));
        if let Some(next) = turns.and_then(|turns| turns.next.get_mut(tenant)) {
            *next = next.saturating_sub(1);
        }
    }

    /// Returns whether anybody of a higher class waits.
    pub(super) fn higher_waits(&self, than: Class) -> bool {
        self.places.first().is_some_and(|first| first.class < than)
    }

    /// Returns whether it is a place's turn.
    pub(super) fn is_next(&self, place: Place) -> bool {
        let first = Place { turn: 0, number: 0, ..place };
        let before = place.kind.is_some() && self.places.range(first..place).next().is_some();
        !self.higher_waits(place.class) && !before
    }
}

impl Turns {
    fn take(&mut self, tenant: &TenantId) -> u64 {
        let now = self.now;
        if self.next.len() >= TENANTS && !self.next.contains_key(tenant) {
            self.next.retain(|_, next| *next > now);
        }
        let next = self.next.entry_ref(tenant).or_default();
        let turn = now.max(*next);
        *next = turn + 1;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn who_came_first_is_next_unless_a_higher_class_waits() {
        let (mut line, shop) = (Line::default(), tenant("shop"));
        let mut join = |class, kind| line.join(&shop, class, kind);
        let sale = join(Class::Marketing, Some(Kind::Sms));
        let again = join(Class::Marketing, Some(Kind::Sms));
        let call = join(Class::Marketing, Some(Kind::Call));
        let other = join(Class::Marketing, None);
        let next = |line: &Line| [sale, again, other].map(|place| line.is_next(place));
        assert_eq!(next(&line), [true, false, true]);
        assert!(line.is_next(call));
        let code = line.join(&shop, Class::Otp, Some(Kind::Sms));
        assert_eq!(next(&line), [false; 3]);
        assert!(line.is_next(code));
        line.served(code);
        line.served(sale);
        assert_eq!(next(&line)[1..], [true, true]);
        let sale = line.join(&shop, Class::Marketing, Some(Kind::Sms));
        assert!(!line.is_next(sale), "its next chunk goes behind what waits");
        line.leave(&shop, again);
        assert!(line.is_next(sale));
    }

    /// Serves whoever is next; returns whose it was.
    fn serve(line: &mut Line, waiting: &mut Vec<(&'static str, Place)>) -> &'static str {
        let next = waiting.iter().position(|(_, place)| line.is_next(*place)).unwrap();
        let (name, place) = waiting.remove(next);
        line.served(place);
        name
    }

    #[test]
    fn who_has_one_frame_waits_for_one_of_each_other_and_not_for_all_that_one_has() {
        let mut line = Line::default();
        let join = |line: &mut Line, name| (name, line.join(&tenant(name), Class::Marketing, Some(Kind::Sms)));
        let mut waiting: Vec<_> = (0..8).map(|_| join(&mut line, "noisy")).collect();
        for _ in 0..20 {
            assert_eq!(serve(&mut line, &mut waiting), "noisy");
            waiting.push(join(&mut line, "noisy"));
        }
        waiting.extend([join(&mut line, "quiet"), join(&mut line, "other")]);
        let mut served = [(); 3].map(|()| serve(&mut line, &mut waiting));
        served.sort_unstable();
        assert_eq!(served, ["noisy", "other", "quiet"]);
        waiting.extend([join(&mut line, "quiet"), join(&mut line, "quiet")]);
        let mut served = [(); 4].map(|()| serve(&mut line, &mut waiting));
        served.sort_unstable();
        assert_eq!(served, ["noisy", "noisy", "quiet", "quiet"], "nobody saves up turns by being quiet");
    }

    #[test]
    fn who_waits_in_vain_loses_no_turn() {
        let mut line = Line::default();
        let join = |line: &mut Line, name| (name, line.join(&tenant(name), Class::Marketing, Some(Kind::Sms)));
        let mut waiting: Vec<_> = (0..20).map(|_| join(&mut line, "noisy")).collect();
        let mut quiet = join(&mut line, "quiet");
        for _ in 0..100 {
            // It looks anew after its second, and nobody was served.
            line.leave(&tenant("quiet"), quiet.1);
            quiet = join(&mut line, "quiet");
        }
        waiting.push(quiet);
        let mut served = [(); 2].map(|()| serve(&mut line, &mut waiting));
        served.sort_unstable();
        assert_eq!(served, ["noisy", "quiet"]);
    }

    #[test]
    fn ones_sale_puts_none_of_its_codes_back() {
        let mut line = Line::default();
        for _ in 0..20 {
            line.join(&tenant("shop"), Class::Marketing, Some(Kind::Sms));
        }
        let code = line.join(&tenant("shop"), Class::Otp, Some(Kind::Sms));
        let other = line.join(&tenant("bank"), Class::Otp, Some(Kind::Sms));
        assert!(line.is_next(code) && !line.is_next(other));
    }

    #[test]
    fn tenants_whose_turns_are_over_are_forgotten() {
        let mut line = Line::default();
        for index in 0..10 * TENANTS {
            let place = line.join(&tenant(&format!("t{index}")), Class::Marketing, Some(Kind::Sms));
            line.served(place);
            let place = line.join(&tenant("shop"), Class::Marketing, Some(Kind::Sms));
            line.served(place);
        }
        let known = line.turns.values().map(|turns| turns.next.len()).sum::<usize>();
        assert!(known <= TENANTS + 1, "{known}");
    }
}
