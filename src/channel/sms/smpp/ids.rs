//! How one message id is written in two ways: hexadecimal when the SMSC takes a message, decimal when it reports on it.

/// How an SMSC writes its message ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdForms {
    /// In the answer to a submit.
    pub answer: IdForm,
    /// In a receipt.
    pub receipt: IdForm,
}

/// How an id is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdForm {
    /// As it is: letters and case count.
    #[default]
    Text,
    /// A decimal number, perhaps with leading zeros.
    Decimal,
    /// A hexadecimal number, perhaps with leading zeros, in any case.
    Hex,
}

/// Most characters of a message id (SMPP 3.4, 5.2.23).
const ID_LEN_MAX: usize = 64;

// === impl IdForm ===

impl IdForm {
    /// Returns the one way to write `id`, so that what is the same compares as the same: decimal without leading zeros
    /// for numbers, trimmed text otherwise. A number that does not read as one, or is wider than 128 bits, stays text.
    pub fn canonical(self, id: &str) -> Box<str> {
        let id = id.trim();
        let number = match self {
            Self::Text => None,
            Self::Decimal => id.bytes().all(|byte| byte.is_ascii_digit()).then(|| id.parse::<u128>().ok()).flatten(),
            Self::Hex => {
                id.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u128::from_str_radix(id, 16).ok()).flatten()
            }
        };
        match number {
            Some(number) => number.to_string().into(),
            None => id.chars().take(ID_LEN_MAX).collect::<String>().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: IdForm, id: &str, expected: &str) {
        assert_eq!(&*form.canonical(id), expected, "input: {id:?}");
    }

    #[test]
    fn one_id_is_written_in_one_way() {
        check(IdForm::Hex, "1A2b", "6699");
        check(IdForm::Hex, "00001A2B", "6699");
        check(IdForm::Decimal, "0000006699", "6699");
        check(IdForm::Text, " 00A ", "00A");
    }

    #[test]
    fn what_is_no_number_stays_text() {
        check(IdForm::Decimal, "1A2B", "1A2B");
        check(IdForm::Hex, "", "");
        check(IdForm::Hex, "+1", "+1");
        check(IdForm::Hex, "0198c9d6-7f3a-7c44", "0198c9d6-7f3a-7c44");
        check(IdForm::Decimal, &"9".repeat(50), &"9".repeat(50));
    }
}
