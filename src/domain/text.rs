//! Texts with placeholders: `{name}` stands for the job's parameter of that name.
//!
//! A name is 1 to 64 letters, digits, `_`, `-` or `.`; braces around anything else are plain text.

use std::borrow::Cow;

/// Most characters in a placeholder's name.
pub const NAME_CHARS_MAX: usize = 64;

/// Returns whether a parameter can have this name.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.chars().all(plain) && name.chars().count() <= NAME_CHARS_MAX
}

/// Returns the names of a text's placeholders, in order, as often as they occur.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, name, after) = next(rest)?;
        rest = after;
        Some(name)
    })
}

/// Returns the text with its placeholders filled in. One without a parameter stays as it is: admission has seen to it
/// that there is none.
pub fn fill<'a>(text: &'a str, params: &[(Box<str>, Box<str>)]) -> Cow<'a, str> {
    if params.is_empty() || next(text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut filled = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some((before, name, after)) = next(rest) {
        filled.push_str(before);
        match params.iter().find(|(known, _)| **known == *name) {
            Some((_, value)) => filled.push_str(value),
            None => filled.extend(["{", name, "}"]),
        }
        rest = after;
    }
    filled.push_str(rest);
    Cow::Owned(filled)
}

/// Returns the signature of a text: what stands in 【】 at its head, else at its end, as Chinese carriers ask for.
pub fn signature(text: &str) -> Option<&str> {
    let text = text.trim();
    let at_head = text.strip_prefix('【').and_then(|rest| rest.split_once('】')).map(|(signature, _)| signature);
    let at_end = || text.strip_suffix('】').and_then(|rest| rest.rsplit_once('【')).map(|(_, signature)| signature);
    at_head.or_else(at_end).map(str::trim).filter(|signature| !signature.is_empty())
}

/// Splits a text at its first placeholder: what is before it, its name, and what is after it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find('{')?;
        let inner = &text[open + 1..];
        let close = inner.find('}')?;
        if is_name(&inner[..close]) {
            return Some((&text[..open], &inner[..close], &inner[close + 1..]));
        }
        from = open + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str, names: &[&str]) {
        let params = [("name".into(), "Anna".into()), ("积分".into(), "{name}".into())];
        assert_eq!(fill(text, &params), expected);
        assert_eq!(placeholders(text).collect::<Vec<_>>(), names);
    }

    #[test]
    fn placeholders_are_filled_once() {
        check("Hi {name}!", "Hi Anna!", &["name"]);
        check("{name}{name}", "AnnaAnna", &["name", "name"]);
        check("您有 {积分} 分", "您有 {name} 分", &["积分"]);
        check("plain", "plain", &[]);
    }

    #[test]
    fn other_braces_are_plain_text() {
        check("{} { name } {", "{} { name } {", &[]);
        check("{{name}}", "{Anna}", &["name"]);
        check("{a{name}", "{aAnna", &["name"]);
        check("{other}", "{other}", &["other"]);
    }

    #[test]
    fn a_signature_stands_at_the_head_or_the_end() {
        for (text, expected) in [
            ("【品牌】您的验证码是{code}", Some("品牌")),
            (" 【 Brand 】hello", Some("Brand")),
            ("hello【Brand】", Some("Brand")),
            ("【A】hello【B】", Some("A")),
            ("hello 【B】 there", None),
            ("【】hello", None),
            ("【open", None),
            ("", None),
        ] {
            assert_eq!(signature(text), expected, "{text:?}");
        }
    }
}
