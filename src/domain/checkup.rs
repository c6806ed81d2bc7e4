//! What a look at a part of the service finds: how it is, and what to do about it.

use super::job::words;

words! {
    /// How something is.
    Found {
        /// As it should be.
        Fine = "fine",
        /// It cannot be seen from here.
        Unseen = "unseen",
        /// It works, and will not when something goes wrong.
        Risk = "risk",
        /// It does not work.
        Fault = "fault",
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The setting, or the part, that it is about.
    pub about: Box<str>,
    /// How it is.
    pub found: Found,
    /// What was seen, in words; never a secret.
    pub text: Box<str>,
    /// What to do; empty where nothing is.
    pub fix: Box<str>,
}

impl Finding {
    /// Returns a finding that needs nothing to be done.
    pub fn fine(about: &str, text: impl Into<Box<str>>) -> Self {
        Self { about: about.into(), found: Found::Fine, text: text.into(), fix: "".into() }
    }

    /// Returns a finding of something that only somebody else can see, with where to look.
    pub fn unseen(about: &str, text: impl Into<Box<str>>, look: &str) -> Self {
        Self { about: about.into(), found: Found::Unseen, text: text.into(), fix: look.into() }
    }

    /// Returns a finding of something that works and must not be left so.
    pub fn risk(about: &str, text: impl Into<Box<str>>, fix: &str) -> Self {
        Self { about: about.into(), found: Found::Risk, text: text.into(), fix: fix.into() }
    }

    /// Returns a finding of something that does not work.
    pub fn fault(about: &str, text: impl Into<Box<str>>, fix: &str) -> Self {
        Self { about: about.into(), found: Found::Fault, text: text.into(), fix: fix.into() }
    }

    /// Returns whether somebody has to do something.
    pub fn is_bad(&self) -> bool {
        self.found >= Found::Risk
    }
}

/// Compares a server's version with the oldest that will do; both as in `3.10.8`.
pub fn version(about: &str, server: &str, found: &str, oldest: (u32, u32)) -> Finding {
    let text = format!("{server} {found}");
    match parse(found) {
        None => Finding::unseen(about, format!("{server} does not tell its version"), ""),
        Some(version) if version < oldest => Finding::fault(about, text, &newer(server, oldest)),
        Some(_) => Finding::fine(about, text),
    }
}

/// Returns why a server of this version cannot be used, if it cannot; one that does not tell its version can.
pub fn too_old(server: &str, found: &str, oldest: (u32, u32)) -> Option<Box<str>> {
    let version = parse(found).filter(|version| *version < oldest);
    version.map(|_| format!("{server} {found} is too old: {}", newer(server, oldest)).into())
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>());
    let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
    Some((next()?, next().unwrap_or(0)))
}

fn newer(server: &str, oldest: (u32, u32)) -> String {
    format!("install {server} {}.{} or newer", oldest.0, oldest.1)
}

/// Judges how far a server's clock is from ours, in microseconds.
pub fn clock(about: &str, apart_us: i64) -> Finding {
    /// Expiries, claims and windows are decided to the second.
    const RISK_US: u64 = 1_000_000;
    let apart = apart_us.unsigned_abs();
    let text = format!("its clock is {:.1} s from ours", apart_us as f64 / 1e6);
    if apart > RISK_US {
        Finding::risk(about, text, "set both clocks by NTP: expiries and windows are decided to the second")
    } else {
        Finding::fine(about, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (found, want) in [
            ("3.9.29", Found::Fault),
            ("3.10.8", Found::Fine),
            ("3.13", Found::Fine),
            ("4.2.0-rc.1", Found::Fine),
            ("2", Found::Fault),
            ("", Found::Unseen),
            ("devel", Found::Unseen),
        ] {
            assert_eq!(version("queue.url", "RabbitMQ", found, (3, 10)).found, want, "{found}");
            assert_eq!(too_old("RabbitMQ", found, (3, 10)).is_some(), want == Found::Fault, "{found}");
        }
    }

    #[test]
    fn clocks_may_be_a_second_apart() {
        assert!(!clock("limits.url", 900_000).is_bad());
        assert!(clock("limits.url", -1_100_000).is_bad());
        assert!(clock("limits.url", i64::MIN).is_bad());
    }
}
