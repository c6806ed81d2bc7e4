//! Who may ask a gate next: higher classes first, and of one class and kind whoever came first. Pure.
//!
//! Where a provider carries less than there is, those who wait would otherwise race for each token, and a tenant with one
//! frame beside another's many would lose most of these races.

use std::collections::BTreeSet;

use crate::domain::job::{Class, Kind};

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    places: BTreeSet<Place>,
    next: u64,
}

/// A place in the line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    class: Class,
    /// `None`: it neither waits for those of its class nor holds them up.
    kind: Option<Kind>,
    number: u64,
}

impl Line {
    /// Returns a place behind all others of its class and kind; or beside them, for those who may not take what they may.
    pub(super) fn join(&mut self, class: Class, kind: Option<Kind>) -> Place {
        let place = Place { class, kind, number: self.next };
        self.next += 1;
        self.places.insert(place);
        place
    }

    /// Gives a place up.
    pub(super) fn leave(&mut self, place: Place) {
        self.places.remove(&place);
    }

    /// Returns whether it is a place's turn.
    pub(super) fn is_next(&self, place: Place) -> bool {
        let higher = self.places.first().is_some_and(|first| first.class < place.class);
        let before = place.kind.is_some() && self.places.range(Place { number: 0, ..place }..place).next().is_some();
        !higher && !before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_first_is_next_unless_a_higher_class_waits() {
        let mut line = Line::default();
        let sale = line.join(Class::Marketing, Some(Kind::Sms));
        let again = line.join(Class::Marketing, Some(Kind::Sms));
        let call = line.join(Class::Marketing, Some(Kind::Call));
        let other = line.join(Class::Marketing, None);
        let next = |line: &Line| [sale, again, call, other].map(|place| line.is_next(place));
        assert_eq!(next(&line), [true, false, true, true]);
        let code = line.join(Class::Otp, Some(Kind::Sms));
        assert_eq!(next(&line), [false; 4]);
        assert!(line.is_next(code));
        line.leave(code);
        line.leave(sale);
        assert_eq!(next(&line)[1..], [true, true, true]);
        let sale = line.join(Class::Marketing, Some(Kind::Sms));
        assert!(!line.is_next(sale), "its next chunk goes behind what waits");
        line.leave(again);
        assert!(line.is_next(sale));
    }
}
