//! Opt-out and opt-in words. Pure.

use unicode_normalization::UnicodeNormalization;

/// What a reply asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keyword {
    /// To get nothing more.
    OptOut,
    /// To be written to again.
    OptIn,
}

/// Words of carriers and laws (CTIA, AWS, Twilio; the Chinese carriers' T, TD, N, R and 0000), in lower case.
const OPT_OUT: &[&str] = &[
    "stop",
    "stopall",
    "stop all",
    "unsubscribe",
    "cancel",
    "end",
    "quit",
    "optout",
    "opt out",
    "opt-out",
    "revoke",
    "remove",
    "arret",
    "arrêt",
    "t",
    "td",
    "tt",
    "n",
    "r",
    "0000",
    "退订",
    "退訂",
    "取消",
    "取消订阅",
    "拒收",
    "不要",
    "停",
    "停止",
    "退",
];
/// What the Chinese texts themselves ask for, typed as it stands there: `回T退订`, `拒收请回复R`.
const TYPED_OUT: &[&str] =
    &["回t", "回td", "回n", "回r", "回复t", "回复td", "回复n", "回复r", "t退订", "td退订", "回t退订", "回td退订"];
const OPT_IN: &[&str] =
    &["start", "unstop", "yes", "subscribe", "optin", "opt in", "opt-in", "恢复", "订阅", "恢复订阅"];

/// Longest word in bytes; a longer body is a message, not a word.
const BYTES_MAX: usize = 64;

/// Returns what a reply asks for, if its whole body is one of the words: normalised (NFKC), without what is neither
/// letter nor digit around it, in any case.
pub fn keyword(body: &str) -> Option<Keyword> {
    if body.len() > BYTES_MAX {
        return None;
    }
    let normal: String = body.nfkc().flat_map(char::to_lowercase).collect();
    let word = normal.trim_matches(|c: char| !c.is_alphanumeric());
    if OPT_OUT.contains(&word) || TYPED_OUT.contains(&word) {
        Some(Keyword::OptOut)
    } else if OPT_IN.contains(&word) {
        Some(Keyword::OptIn)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Option<Keyword>) {
        assert_eq!(keyword(body), expected, "body: {body:?}");
    }

    #[test]
    fn whole_words_ask_for_something_however_they_are_written() {
        for body in [
            "STOP",
            "stop",
            "Stop.",
            " \"stop\" ",
            "STOP!!!",
            "“Stop”",
            "ＳＴＯＰ",
            "STOPALL",
            "Stop all",
            "stop 🛑",
            "\u{feff}STOP",
            "T",
            "t",
            "Ｔ",
            "TD",
            "td。",
            "N",
            "R",
            "0000",
            "００００",
            "退订",
            "【退订】",
            "退订。",
            "取消",
            "拒收",
            "回T",
            "回复TD",
            "TD退订",
            "UNSUBSCRIBE",
            "cancel",
            "End",
            "QUIT",
            "Arret",
            "ARRÊT",
            "ARRE\u{302}T",
            "opt-out",
            "OPTOUT",
            "\nSTOP\r\n",
        ] {
            check(body, Some(Keyword::OptOut));
        }
        for body in ["START", "unstop", "Yes!", "订阅"] {
            check(body, Some(Keyword::OptIn));
        }
    }

    #[test]
    fn a_word_within_a_message_asks_for_nothing() {
        for body in [
            "",
            " ",
            "T恤多少钱",
            "please stop by tomorrow",
            "don't stop",
            "STOP it",
            "nonstop",
            "stopp",
            "TDX",
            "000",
            "00000",
            "cancel my order 123",
            "the end",
            "No",
            "yesterday",
            "退订了吗",
            "不要放辣",
            "…",
            "R2D2",
            "t.t",
        ] {
            check(body, None);
        }
        check(&format!("stop{}", " ".repeat(100)), None);
    }
}
