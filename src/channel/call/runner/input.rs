//! What is pressed at one question. Pure.

use std::collections::BTreeMap;

use crate::channel::call::flow::NodeName;

/// Ends an input that may be longer, where no menu means something else by it.
const END: char = '#';

/// The keys of one question, and how often it may be asked again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Input {
    keys: String,
    retries: u8,
}

/// What a key, or silence, comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Pressed {
    /// More keys may follow.
    More,
    /// It names a way.
    Way(NodeName),
    /// It is what a question without a menu asked for.
    Entered,
    /// It names none.
    Other,
}

pub(super) type Menu = BTreeMap<Box<str>, NodeName>;

// === impl Input ===

impl Input {
    /// Returns the input of a question that may be asked `retries` times again.
    pub(super) fn new(retries: u8) -> Self {
        Self { keys: String::new(), retries }
    }

    /// Returns what was pressed.
    pub(super) fn keys(&self) -> &str {
        &self.keys
    }

    /// Returns how often it may be asked again.
    pub(super) fn retries(&self) -> u8 {
        self.retries
    }

    /// Takes a key. What names a way goes there at once, unless it is the beginning of another.
    pub(super) fn press(&mut self, key: char, menu: &Menu, digits_max: u8) -> Pressed {
        let ends = key == END && !has_end(menu);
        if ends {
            return self.silence(menu);
        }
        self.keys.push(key);
        let longer = menu.keys().any(|input| input.len() > self.keys.len() && input.starts_with(&self.keys));
        match menu.get(&*self.keys) {
            Some(to) if !longer => Pressed::Way(to.clone()),
            Some(_) | None if self.keys.len() >= usize::from(digits_max) => self.silence(menu),
            Some(_) | None => Pressed::More,
        }
    }

    /// Takes what there is as the whole input.
    pub(super) fn silence(&self, menu: &Menu) -> Pressed {
        match menu.get(&*self.keys) {
            Some(to) => Pressed::Way(to.clone()),
            None if menu.is_empty() && !self.keys.is_empty() => Pressed::Entered,
            None => Pressed::Other,
        }
    }

    /// Returns whether the question is asked again, now with no keys; costs one of its retries.
    pub(super) fn try_again(&mut self) -> bool {
        let Some(left) = self.retries.checked_sub(1) else { return false };
        (self.retries, self.keys) = (left, String::new());
        true
    }
}

/// Returns whether a menu means something of its own by what else ends an input.
pub(super) fn has_end(menu: &Menu) -> bool {
    menu.keys().any(|input| input.contains(END))
}
