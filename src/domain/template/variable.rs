//! Placeholders of templates, with what vendors let stand in them.
//!
//! WeChat's limits by type: developers.weixin.qq.com, subscribe messages, "订阅消息参数值内容限制说明"; the same types bind
//! the templates of official accounts.

use std::fmt;

use super::super::job::words;

/// Most characters of a value that no vendor limits.
const TEXT_CHARS_MAX: u32 = 1_000;

words! {
    /// What may stand in a placeholder, as WeChat names it.
    Form {
        /// Anything.
        Text = "text",
        /// A thing: up to 20 characters.
        Thing = "thing",
        /// Digits, with a point or not: up to 32.
        Number = "number",
        /// Latin letters: up to 32.
        Letter = "letter",
        /// Symbols: up to 5.
        Symbol = "symbol",
        /// Digits, Latin letters or symbols: up to 32.
        CharacterString = "character_string",
        /// A time of day, with a date or not: up to 32 characters.
        Time = "time",
        /// A date, with a time or not: up to 32 characters.
        Date = "date",
        /// A currency's sign and up to 10 digits, decimals included: up to 13 characters.
        Amount = "amount",
        /// Digits and symbols: up to 17.
        PhoneNumber = "phone_number",
        /// A number plate: up to 8 characters.
        CarNumber = "car_number",
        /// A name: up to 10 Chinese characters, or 20 letters and symbols.
        Name = "name",
        /// Chinese characters: up to 5.
        Phrase = "phrase",
    }
}

/// A placeholder of a template.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: Box<str>,
    /// What may stand in it.
    pub form: Form,
    /// Most characters of a value; never more than its form allows.
    pub length_max: u32,
    /// The value where a job gives none; empty: a job must give one.
    pub default_value: Box<str>,
}

/// Why a value cannot stand in a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Nothing.
    #[error("is empty; give a value, or leave the parameter out where the variable has a default")]
    Empty,
    /// Too long.
    #[error("has {has} characters, at most {most} are allowed")]
    TooLong {
        /// How many characters it has.
        has: usize,
        /// How many it may have.
        most: u32,
    },
    /// A character that its form does not have.
    #[error("holds a character that a variable of type {0} may not have")]
    Character(Form),
}

// === impl Form ===

impl Form {
    /// Returns the most characters that a value of it may have.
    pub const fn length_max(self) -> u32 {
        match self {
            Self::Text => TEXT_CHARS_MAX,
            Self::Number | Self::Letter | Self::CharacterString | Self::Time | Self::Date => 32,
            Self::Thing | Self::Name => 20,
            Self::PhoneNumber => 17,
            Self::Amount => 13,
            Self::CarNumber => 8,
            Self::Symbol | Self::Phrase => 5,
        }
    }

    fn takes(self, c: char) -> bool {
        match self {
            Self::Text => true,
            _ if c.is_control() => false,
            Self::Thing | Self::Time | Self::Date | Self::Amount | Self::CarNumber | Self::Name => true,
            Self::Number => c.is_ascii_digit() || c == '.',
            Self::Letter => c.is_ascii_alphabetic(),
            Self::Symbol => !c.is_alphanumeric(),
            Self::CharacterString => c.is_ascii_alphanumeric() || !c.is_alphanumeric(),
            Self::PhoneNumber => c.is_ascii_digit() || !c.is_alphanumeric(),
            Self::Phrase => is_han(c),
        }
    }
}

/// Returns whether it is a Chinese character.
fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}' | '〇')
}

// === impl Variable ===

impl Variable {
    /// Says whether a value can stand in it.
    ///
    /// # Errors
    /// [`BadValue`].
    pub fn check(&self, value: &str) -> Result<(), BadValue> {
        if value.is_empty() {
            return Err(BadValue::Empty);
        }
        if !value.chars().all(|c| self.form.takes(c)) {
            return Err(BadValue::Character(self.form));
        }
        let has = value.chars().count();
        let most = match self.form {
            // A name in Chinese has half as many characters as one in letters.
            Form::Name if value.chars().any(is_han) => self.length_max.min(10),
            _ => self.length_max,
        };
        if has > most as usize { Err(BadValue::TooLong { has, most }) } else { Ok(()) }
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the default value: this ends in logs and panics.
        f.debug_struct("Variable").field("form", &self.form).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: Form, value: &str, expected: Result<(), BadValue>) {
        let variable = Variable { name: "x".into(), form, length_max: form.length_max(), default_value: "".into() };
        assert_eq!(variable.check(value), expected, "{form} {value:?}");
    }

    #[test]
    fn values_are_bound_as_the_vendor_binds_them() {
        let long = |has, most| Err(BadValue::TooLong { has, most });
        let odd = |form| Err(BadValue::Character(form));
        check(Form::Thing, &"鞋".repeat(20), Ok(()));
        check(Form::Thing, &"鞋".repeat(21), long(21, 20));
        check(Form::CharacterString, &"A1-".repeat(10), Ok(()));
        check(Form::CharacterString, &"A".repeat(33), long(33, 32));
        check(Form::CharacterString, "订单1", odd(Form::CharacterString));
        check(Form::Phrase, "已发货了", Ok(()));
        check(Form::Phrase, "正在配送中了", long(6, 5));
        check(Form::Phrase, "sent", odd(Form::Phrase));
        check(Form::Number, "12.50", Ok(()));
        check(Form::Number, "twelve", odd(Form::Number));
        check(Form::Letter, "ABC1", odd(Form::Letter));
        check(Form::Symbol, "******", long(6, 5));
        check(Form::PhoneNumber, "+86-0766-66888866", Ok(()));
        check(Form::PhoneNumber, "+86-0766-668888661", long(18, 17));
        check(Form::Name, "欧阳娜娜", Ok(()));
        check(Form::Name, &"娜".repeat(11), long(11, 10));
        check(Form::Name, "Alexander Hamilton", Ok(()));
        check(Form::Amount, "¥100.00", Ok(()));
        check(Form::CarNumber, "粤A8Z888挂", Ok(()));
        check(Form::Thing, "a\nb", odd(Form::Thing));
        check(Form::Text, "a\nb", Ok(()));
        check(Form::Text, "", Err(BadValue::Empty));
        check(Form::Text, &"x".repeat(1_001), long(1_001, 1_000));
    }
}
