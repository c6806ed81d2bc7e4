//! The shelf of values that processes share. Pure: time is an argument.

use hashbrown::HashMap;

use crate::domain::time::UnixMicros;
use crate::limits::{Borrow, Borrowed, Shared};

/// Values by name: one for each account at a platform, so there are few.
#[derive(Default, Debug)]
pub struct Shelf {
    places: HashMap<String, Place>,
}

#[derive(Default, Debug)]
struct Place {
    value: Option<Shared>,
    /// Who renews it, and until when.
    renewing: Option<(u64, UnixMicros)>,
}

impl Shelf {
    /// Answers an asker.
    pub fn borrow(&mut self, now: UnixMicros, asked: &Borrow<'_>) -> Borrowed {
        let place = self.places.entry_ref(asked.name).or_default();
        let good = place.value.as_ref().filter(|value| now < value.until && asked.refused != Some(value.mark));
        let renewing = place.renewing.filter(|(who, until)| now < *until && *who != asked.who);
        match (good, renewing) {
            (Some(value), _) if now < value.renew_at => Borrowed::Value(value.clone()),
            (Some(value), Some(_)) => Borrowed::Value(value.clone()),
            (None, Some((_, until))) => Borrowed::Wait(until),
            (_, None) => {
                place.renewing = Some((asked.who, asked.renew_until));
                Borrowed::Yours
            }
        }
    }

    /// Takes a value from the one who renews it; returns whether that was the one.
    pub fn lend(&mut self, name: &str, who: u64, value: Shared) -> bool {
        let place = self.places.entry_ref(name).or_default();
        let theirs = place.renewing.is_some_and(|(renewing, _)| renewing == who);
        if theirs {
            *place = Place { value: Some(value), renewing: None };
        }
        theirs
    }

    /// Takes a value that was lent before a restart.
    pub fn put(&mut self, name: String, value: Shared) {
        self.places.insert(name, Place { value: Some(value), renewing: None });
    }

    /// Returns every value with its name.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Shared)> {
        self.places.iter().filter_map(|(name, place)| Some((name.as_str(), place.value.as_ref()?)))
    }
}
