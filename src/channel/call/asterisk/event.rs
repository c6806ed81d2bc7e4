//! Events of the Asterisk REST Interface (ARI), as far as a call needs them. Pure.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Longest event that is read: they have some hundred bytes.
pub(super) const EVENT_LEN_MAX: usize = 256 * 1024;

/// What is told of one channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    /// It rings.
    Ringing,
    /// Somebody answered.
    Up,
    /// It is ours to drive; `Some`: who answered was listened to, and this is what was found.
    Started(Option<Box<str>>),
    /// A playback is over.
    Played(Box<str>),
    /// A playback came to nothing: there is no such recording, it does not read, or nobody is on the line any more.
    Unplayed(Box<str>),
    /// A key was pressed.
    Key(char),
    /// A recording is over: whether it is there.
    Recorded(bool),
    /// The far side hangs up.
    HangsUp,
    /// It is gone, with this cause.
    Destroyed(u16),
    /// Whom it is put through to has answered.
    LegUp,
    /// Whom it is put through to is gone.
    LegGone,
    /// The connection over which events come was lost, and events may be: ask.
    Missed,
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// About a channel.
    Channel(Box<str>, Signal),
    /// Another process has taken the application's events.
    Replaced,
    /// Nothing that a call needs.
    Other,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    channel: Option<Channel>,
    peer: Option<Channel>,
    dialstatus: Option<String>,
    playback: Option<Media>,
    recording: Option<Media>,
    digit: Option<String>,
    cause: Option<u16>,
    #[serde(default)]
    args: Vec<String>,
}

#[derive(Deserialize)]
struct Channel {
    id: String,
    state: Option<String>,
}

#[derive(Deserialize)]
struct Media {
    id: Option<String>,
    target_uri: Option<String>,
    state: Option<String>,
    /// Seconds of a recording; said of those alone that there are.
    duration: Option<IgnoredAny>,
}

/// Reads an event; what does not read says nothing.
pub(super) fn read(text: &str) -> Told {
    let Ok(raw) = serde_json::from_str::<Raw>(text) else { return Told::Other };
    told(raw).unwrap_or(Told::Other)
}

fn told(raw: Raw) -> Option<Told> {
    let about = |channel: Channel, signal| Some(Told::Channel(channel.id.into(), signal));
    match &*raw.kind {
        "ApplicationReplaced" => Some(Told::Replaced),
        // While a call is set up, it is the peer of a dial.
        "Dial" if raw.dialstatus.as_deref() == Some("RINGING") => about(raw.peer?, Signal::Ringing),
        "ChannelStateChange" => {
            let channel = raw.channel?;
            match channel.state.as_deref() {
                Some("Ringing") => about(channel, Signal::Ringing),
                Some("Up") => about(channel, Signal::Up),
                Some(_) | None => None,
            }
        }
        "StasisStart" => about(raw.channel?, Signal::Started(raw.args.into_iter().next().map(Into::into))),
        "ChannelDtmfReceived" => {
            let key = raw.digit?.chars().next()?;
            about(raw.channel?, Signal::Key(key))
        }
        "ChannelHangupRequest" => about(raw.channel?, Signal::HangsUp),
        "ChannelDestroyed" => about(raw.channel?, Signal::Destroyed(raw.cause.unwrap_or(0))),
        "PlaybackFinished" => {
            let Media { id, target_uri, state, .. } = raw.playback?;
            let said = if state.as_deref() == Some("failed") { Signal::Unplayed } else { Signal::Played };
            of(target_uri, said(id?.into()))
        }
        "RecordingFinished" => {
            // Where its beep cannot be played, Asterisk says that it is done, and keeps nothing.
            let Media { target_uri, duration, .. } = raw.recording?;
            of(target_uri, Signal::Recorded(duration.is_some()))
        }
        "RecordingFailed" => of(raw.recording?.target_uri, Signal::Recorded(false)),
        _ => None,
    }
}

/// Says it of the channel that a playback or recording is for.
fn of(target_uri: Option<String>, signal: Signal) -> Option<Told> {
    let uri = target_uri?;
    Some(Told::Channel(uri.strip_prefix("channel:")?.into(), signal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_say_what_happens_to_whom() {
        let of = |signal| Told::Channel("c-1".into(), signal);
        for (text, expected) in [
            (r#"{"type":"Dial","dialstatus":"RINGING","peer":{"id":"c-1","state":"Ringing"}}"#, of(Signal::Ringing)),
            (r#"{"type":"Dial","dialstatus":"","peer":{"id":"c-1"}}"#, Told::Other),
            (r#"{"type":"ChannelStateChange","channel":{"id":"c-1","state":"Up"}}"#, of(Signal::Up)),
            (r#"{"type":"StasisStart","args":[],"channel":{"id":"c-1","state":"Up"}}"#, of(Signal::Started(None))),
            (
                r#"{"type":"StasisStart","args":["MACHINE"],"channel":{"id":"c-1","state":"Up"}}"#,
                of(Signal::Started(Some("MACHINE".into()))),
            ),
            (
                r##"{"type":"ChannelDtmfReceived","digit":"#","duration_ms":100,"channel":{"id":"c-1"}}"##,
                of(Signal::Key('#')),
            ),
            (
                r#"{"type":"PlaybackFinished","playback":{"id":"p","target_uri":"channel:c-1"}}"#,
                of(Signal::Played("p".into())),
            ),
            (
                r#"{"type":"PlaybackFinished","playback":{"id":"p","target_uri":"channel:c-1","state":"failed"}}"#,
                of(Signal::Unplayed("p".into())),
            ),
            (
                r#"{"type":"RecordingFailed","recording":{"name":"r","target_uri":"channel:c-1"}}"#,
                of(Signal::Recorded(false)),
            ),
            (
                r#"{"type":"RecordingFinished","recording":{"target_uri":"channel:c-1","state":"done","duration":0}}"#,
                of(Signal::Recorded(true)),
            ),
            (
                r#"{"type":"RecordingFinished","recording":{"target_uri":"channel:c-1","state":"done"}}"#,
                of(Signal::Recorded(false)),
            ),
            (
                r#"{"type":"ChannelDestroyed","cause":17,"cause_txt":"User busy","channel":{"id":"c-1"}}"#,
                of(Signal::Destroyed(17)),
            ),
            (r#"{"type":"ChannelDestroyed","cause":-1,"channel":{"id":"c-1"}}"#, Told::Other),
            (r#"{"type":"ApplicationReplaced","application":"a"}"#, Told::Replaced),
            (r#"{"type":"StasisStart"}"#, Told::Other),
            ("[1, 2", Told::Other),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_in_is_too_much(text in ".{0,200}", kind in "[A-Za-z]{1,20}", id in ".{0,20}") {
            read(&text);
            read(&serde_json::json!({"type": kind, "channel": {"id": id}, "digit": text, "cause": 1}).to_string());
        }
    }
}
