//! The documents that Twilio runs a call by (twilio.com/docs/voice/twiml). Pure.

use std::fmt::Write as _;
use std::time::Duration;

/// How long somebody may be silent until a recording ends, in seconds.
const SILENCE: u64 = 5;
/// How long it rings for whom a call is put through to, in seconds.
const LEG_RING: u64 = 30;

/// A document that is written from its beginning to its last verb.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Document(String);

/// How texts are said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Speech<'a> {
    /// Language, as `zh-CN`; empty: Twilio's default.
    pub(super) language: &'a str,
    /// Voice; empty: Twilio's default for the language.
    pub(super) voice: &'a str,
}

/// What keys are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keys {
    /// How many at most.
    pub(super) most: u8,
    /// How long for each.
    pub(super) wait: Duration,
    /// Whether `#` is a key as any other, and does not end the input.
    pub(super) hash: bool,
}

impl Document {
    pub(super) fn new() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>".to_owned())
    }

    /// Says a text.
    pub(super) fn say(&mut self, text: &str, speech: Speech<'_>) {
        self.open("Say", &[("language", speech.language), ("voice", speech.voice)]);
        escape(text, &mut self.0);
        self.0.push_str("</Say>");
    }

    /// Plays a recording.
    pub(super) fn play(&mut self, url: &str) {
        self.0.push_str("<Play>");
        escape(url, &mut self.0);
        self.0.push_str("</Play>");
    }

    /// Begins to wait for keys, from the first of the prompts that follow; asks `url` whatever comes, also if nothing does.
    pub(super) fn gather(&mut self, keys: Keys, url: &str) {
        let (most, wait) = (keys.most.max(1).to_string(), seconds(keys.wait).to_string());
        self.0.push_str("<Gather");
        for (name, value) in [
            ("input", "dtmf"),
            ("action", url),
            ("method", "POST"),
            ("actionOnEmptyResult", "true"),
            ("numDigits", &*most),
            ("timeout", &*wait),
            ("finishOnKey", if keys.hash { "" } else { "#" }),
        ] {
            self.attribute(name, value);
        }
        self.0.push('>');
    }

    /// Ends the prompts of a question.
    pub(super) fn gathered(&mut self) {
        self.0.push_str("</Gather>");
    }

    /// Records the callee, and writes down what they say if it is to `transcribe`; asks `url` when that is over. Where nothing
    /// was heard, Twilio goes on behind it.
    pub(super) fn record(&mut self, (longest, transcribe): (Duration, bool), url: &str) {
        let (longest, silence) = (seconds(longest).to_string(), SILENCE.to_string());
        self.0.push_str("<Record");
        for (name, value) in [
            ("action", url),
            ("method", "POST"),
            ("maxLength", &*longest),
            ("timeout", &*silence),
            ("finishOnKey", "#"),
            ("playBeep", "true"),
        ] {
            self.attribute(name, value);
        }
        if transcribe {
            self.attribute("transcribe", "true");
        }
        self.0.push_str("/>");
        self.redirect(url);
    }

    /// Puts the callee through to a number, which sees `caller`; asks `url` when that is over.
    pub(super) fn dial(&mut self, number: &str, caller: &str, url: &str) {
        let ring = LEG_RING.to_string();
        self.open("Dial", &[("callerId", caller), ("timeout", &ring), ("action", url), ("method", "POST")]);
        self.0.push_str("<Number>");
        escape(number, &mut self.0);
        self.0.push_str("</Number></Dial>");
    }

    /// Asks `url` what comes next.
    pub(super) fn redirect(&mut self, url: &str) {
        self.open("Redirect", &[("method", "POST")]);
        escape(url, &mut self.0);
        self.0.push_str("</Redirect>");
    }

    /// Hangs up.
    pub(super) fn hang_up(&mut self) {
        self.0.push_str("<Hangup/>");
    }

    /// Returns the whole.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</Response>");
        self.0
    }

    /// Opens an element; what has no value is left out.
    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes.iter().filter(|(_, value)| !value.is_empty()) {
            self.attribute(name, value);
        }
        self.0.push('>');
    }

    fn attribute(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _written = write!(self.0, " {name}=\"");
        escape(value, &mut self.0);
        self.0.push('"');
    }
}

/// Returns the document that hangs up.
pub(super) fn hang_up() -> String {
    let mut document = Document::new();
    document.hang_up();
    document.finish()
}

/// Returns a locale as Twilio has languages, `zh-CN`; empty where it names no country and none is usual: then Twilio's
/// default is better than an error for each prompt.
pub(super) fn language(locale: &str) -> String {
    let mut parts = locale.split(['-', '_']);
    let language = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_country = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_alphabetic());
    let usual = match language.as_str() {
        "zh" => "CN",
        "en" => "US",
        "ja" => "JP",
        "ko" => "KR",
        "pt" => "BR",
        "de" | "es" | "fr" | "it" | "ru" => &language,
        _ => "",
    };
    match parts.find(is_country).unwrap_or(usual) {
        "" => String::new(),
        country => format!("{language}-{}", country.to_ascii_uppercase()),
    }
}

fn seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// Writes a text as XML has it; what no document may hold is left out (XML 1.0, 2.2).
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_kind_stays_a_text() {
        let mut document = Document::new();
        document.say("1 < 2 & \"x\"\u{7}</Say><Dial>", Speech { language: "zh-CN", voice: "" });
        let text = document.finish();
        let read = roxmltree::Document::parse(&text).unwrap();
        let said = read.root_element().first_child().unwrap();
        assert_eq!(said.text(), Some("1 < 2 & \"x\"</Say><Dial>"));
        assert_eq!((said.attribute("language"), said.attribute("voice")), (Some("zh-CN"), None));
        assert_eq!(read.root_element().children().count(), 1);
    }

    #[test]
    fn a_locale_is_a_language_of_twilios() {
        for (locale, expected) in [
            ("zh-CN", "zh-CN"),
            ("zh_CN", "zh-CN"),
            ("zh-Hans-CN", "zh-CN"),
            ("zh", "zh-CN"),
            ("de", "de-DE"),
            ("en-gb", "en-GB"),
            ("tlh", ""),
            ("", ""),
        ] {
            assert_eq!(language(locale), expected, "{locale}");
        }
    }

    #[test]
    fn times_are_whole_seconds_and_never_none() {
        assert_eq!([0, 1, 1_000, 1_001].map(|millis| seconds(Duration::from_millis(millis))), [1, 1, 1, 2]);
    }
}
