//! Opt-out and opt-in words. Pure.

use unicode_normalization::UnicodeNormalization;

use crate::ledger::Tenant;

/// What a reply asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keyword {
    /// To get nothing more.
    OptOut,
    /// To be written to again.
    OptIn,
}

/// The words of a language, and whose numbers they are words for.
struct Language {
    /// How the numbers begin behind their `+`; none: every number.
    numbers: &'static [&'static str],
    out: &'static [&'static str],
    back: &'static [&'static str],
}

/// The shipped words, in lower case. Words of carriers and laws (CTIA, AWS, Twilio) and words that mean nothing else
/// hold for every number; what is another word elsewhere, such as the Chinese carriers' R, holds for numbers of those
/// countries where people are told to send it.
const SHIPPED: &[Language] = &[
    Language {
        numbers: &[],
        out: &[
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
            "td",
        ],
        back: &["start", "unstop", "yes", "subscribe", "optin", "opt in", "opt-in"],
    },
    Language {
        numbers: &[],
        out: &[
            "退订",
            "退訂",
            "取消",
            "取消订阅",
            "取消訂閱",
            "拒收",
            "不要",
            "停",
            "停止",
            "退",
            // What the texts themselves ask for, typed as it stands there: `回T退订`, `拒收请回复R`.
            "回t",
            "回td",
            "回n",
            "回r",
            "回复t",
            "回复td",
            "回复n",
            "回复r",
            "t退订",
            "td退订",
            "回t退订",
            "回td退订",
        ],
        back: &["恢复", "恢復", "订阅", "訂閱", "恢复订阅"],
    },
    Language { numbers: &["86", "852", "853", "886"], out: &["t", "tt", "n", "r", "0000"], back: &[] },
    Language { numbers: &[], out: &["配信停止", "解除", "ストップ"], back: &["再開", "配信再開"] },
    Language { numbers: &[], out: &["수신거부", "거부", "중지", "해지"], back: &["수신동의", "재개"] },
    Language {
        numbers: &["49", "43", "41", "352", "423"],
        out: &["stopp", "abmelden", "abbestellen"],
        back: &["anmelden"],
    },
    Language {
        numbers: &["33", "32", "41", "352", "377", "262", "590", "594", "596", "212", "213", "216", "221", "225", "1"],
        out: &["desabonner", "désabonner", "desinscription", "désinscription", "desinscrire", "désinscrire"],
        back: &["reprendre", "reabonner", "réabonner"],
    },
    Language {
        numbers: &["34", "52", "54", "56", "57", "51", "58", "591", "593", "595", "598", "50", "53", "1"],
        out: &["alto", "baja", "parar", "cancelar", "salir"],
        back: &["alta", "iniciar"],
    },
    Language {
        numbers: &["351", "55", "244", "258"],
        out: &["sair", "parar", "pare", "cancelar", "remover"],
        back: &["voltar", "iniciar"],
    },
    Language { numbers: &["39", "41"], out: &["annulla", "disiscrivi", "cancellami"], back: &["iscrivi", "riprendi"] },
    Language { numbers: &["31", "32"], out: &["stoppen", "afmelden", "uitschrijven"], back: &["aanmelden"] },
];

/// Longest word in bytes; a longer body is a message, not a word.
const BYTES_MAX: usize = 128;

/// Returns a body as words are compared: normalised (NFKC), without what is neither letter nor digit around it, in lower
/// case. `None`: it is no word.
pub fn normal(body: &str) -> Option<String> {
    if body.len() > BYTES_MAX {
        return None;
    }
    let normal: String = body.nfkc().flat_map(char::to_lowercase).collect();
    let word = normal.trim_matches(|c: char| !c.is_alphanumeric());
    (!word.is_empty()).then(|| word.to_owned())
}

/// Returns what a word from this number asks of every tenant.
pub fn shipped(word: &str, from: &str) -> Option<Keyword> {
    let digits = from.strip_prefix('+').unwrap_or_default();
    let holds = |of: &&Language| of.numbers.is_empty() || of.numbers.iter().any(|number| digits.starts_with(number));
    let asked = |of: &Language| {
        let out = of.out.contains(&word).then_some(Keyword::OptOut);
        out.or_else(|| of.back.contains(&word).then_some(Keyword::OptIn))
    };
    SHIPPED.iter().filter(holds).find_map(asked)
}

/// Returns what a word asks of a tenant that has it among its own.
pub(super) fn own(word: &str, tenant: &Tenant) -> Option<Keyword> {
    let among = |words: &[Box<str>]| words.iter().any(|own| normal(own).as_deref() == Some(word));
    if among(&tenant.stop_words) {
        Some(Keyword::OptOut)
    } else if among(&tenant.start_words) {
        Some(Keyword::OptIn)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMicros;

    const CHINESE: &str = "+8613800000000";

    #[track_caller]
    fn says(from: &str, body: &str, expected: Option<Keyword>) {
        let asked = normal(body).and_then(|word| shipped(&word, from));
        assert_eq!(asked, expected, "body: {body:?} from {from}");
    }

    #[track_caller]
    fn check(body: &str, expected: Option<Keyword>) {
        says(CHINESE, body, expected);
    }

    #[test]
    fn what_is_another_word_elsewhere_holds_where_people_are_told_to_send_it() {
        for word in ["T", "N", "r", "0000"] {
            says(CHINESE, word, Some(Keyword::OptOut));
            says("+85212345678", word, Some(Keyword::OptOut));
            says("+12025550100", word, None);
            says("10690", word, None);
        }
        for (from, out, back) in [
            ("+4915112345678", "Stopp!", "ANMELDEN"),
            ("+33612345678", "Désabonner", "reprendre"),
            ("+5215512345678", "BAJA", "alta"),
            ("+5511912345678", "sair", "Voltar"),
            ("+393123456789", "annulla", "riprendi"),
            ("+31612345678", "afmelden", "aanmelden"),
        ] {
            says(from, out, Some(Keyword::OptOut));
            says(from, back, Some(Keyword::OptIn));
            says(CHINESE, out, None);
            says(CHINESE, back, None);
        }
        for from in [CHINESE, "+12025550100", "10690"] {
            for word in ["STOP", "退订", "TD", "配信停止", "수신거부"] {
                says(from, word, Some(Keyword::OptOut));
            }
        }
    }

    #[test]
    fn a_tenant_has_words_of_its_own() {
        let tenant = Tenant {
            stop_words: vec!["No más".into(), "“ＢＡＳＴＡ”".into()],
            start_words: vec!["Otra vez".into()],
            ..Tenant::new("acme".parse().unwrap(), UnixMicros(0))
        };
        let asked = |body| normal(body).and_then(|word| own(&word, &tenant));
        for body in ["no más!", "NO MA\u{301}S", "basta"] {
            assert_eq!(asked(body), Some(Keyword::OptOut), "{body:?}");
        }
        assert_eq!(asked("otra vez."), Some(Keyword::OptIn));
        for body in ["no más mensajes", "stop", "mas"] {
            assert_eq!(asked(body), None, "{body:?}");
        }
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
        check(&format!("stop{}", " ".repeat(200)), None);
    }
}
