//! A telephone exchange and the people it calls: a private Asterisk, with SIPp as every callee.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::janitor::{Janitor, Job, free_port};
use super::servers::{self, server_dir};

/// Set by `deploy/test.sh` where Asterisk cannot be had: the tests that need it are then skipped, and say so.
const WITHOUT: &str = "POSTRIDER_TEST_WITHOUT_ASTERISK";

/// What Asterisk reads, by its file.
const CONF: [(&str, &str); 8] = [
    ("ari", include_str!("../../peers/asterisk/ari.conf")),
    ("asterisk", include_str!("../../peers/asterisk/asterisk.conf")),
    ("extensions", include_str!("../../peers/asterisk/extensions.conf")),
    ("http", include_str!("../../peers/asterisk/http.conf")),
    ("logger", include_str!("../../peers/asterisk/logger.conf")),
    ("modules", include_str!("../../peers/asterisk/modules.conf")),
    ("pjsip", include_str!("../../peers/asterisk/pjsip.conf")),
    ("rtp", include_str!("../../peers/asterisk/rtp.conf")),
];
/// Files that must be there, empty.
const EMPTY: [&str; 12] = [
    "acl",
    "amd",
    "ccss",
    "cdr",
    "cel",
    "codecs",
    "features",
    "indications",
    "manager",
    "pjproject",
    "sorcery",
    "stasis",
];
/// RTP ports of one exchange: two for each call.
const RTP_PORTS: u16 = 200;
/// Ports for the media of one exchange: its own, its callees', and a last one that says that they are taken.
const MEDIA_PORTS: u16 = 250;
/// Where those ports are: where [`free_port`] gives none, so that no server finds its port taken by somebody's voice.
const MEDIA: std::ops::Range<u16> = 10_000..15_000;

/// An Asterisk with its callees; both end with the test process.
pub(crate) struct Exchange {
    asterisk: Janitor,
    _callees: Janitor,
    _media: Media,
    ari: u16,
    messages: PathBuf,
    recordings: PathBuf,
}

impl Exchange {
    /// Starts an exchange; `None`, with loud words, where Asterisk cannot be had.
    pub(crate) fn start() -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some() {
            eprintln!("SKIPPED: this test calls through a real Asterisk, and {WITHOUT} says that there is none");
            return None;
        }
        let (ari, callee, media) = (free_port(), free_port(), Media::take());
        let dir = server_dir("asterisk");
        let recordings = dir.join("spool/recording");
        // It does not make it itself.
        fs::create_dir_all(&recordings).unwrap();
        let asterisk = asterisk(&dir, ari, callee, media.first);
        let (callees, messages) = callees(callee, media.first + RTP_PORTS + 10);
        Some(Self { asterisk, _callees: callees, _media: media, ari, messages, recordings })
    }

    /// Returns the settings of a provider `trunk` in the pool `voice` that calls through it.
    pub(crate) fn provider(&self, more: &str) -> String {
        format!(
            "[[provider]]\nid = \"trunk\"\nkind = \"asterisk\"\nendpoint = \"http://127.0.0.1:{}\"\nuser = \"dialer\"\n\
             password = \"sesame\"\ntrunk = \"PJSIP/{{number}}@carrier\"\n{more}\n",
            self.ari
        )
    }

    /// Returns the settings of a provider in the same pool whose Asterisk is not there.
    pub(crate) fn unreachable(&self, id: &str) -> String {
        let there = format!("127.0.0.1:{}", self.ari);
        let settings = self.provider("app = \"unreachable\"").replace(&there, "127.0.0.1:1");
        settings.replace("\"trunk\"", &format!("\"{id}\""))
    }

    /// Returns how many calls there are now.
    pub(crate) fn calls(&self) -> usize {
        // An exchange that is busy may answer that it is.
        let once = |_| {
            let calls = self.ask();
            if calls.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            calls
        };
        (0..50).find_map(once).expect("the exchange says which calls it has")
    }

    fn ask(&self) -> Option<usize> {
        Some(serde_json::from_str::<Vec<serde_json::Value>>(&self.request("GET", "/channels")?).ok()?.len())
    }

    /// Calls somebody behind the service's back, by its application: events come that are of no call it knows.
    pub(crate) fn call_as(&self, channel: &str, number: &str) {
        let digits = number.trim_start_matches('+');
        let query = format!("endpoint=PJSIP/{digits}@carrier&app=postrider");
        let answer = self.request("POST", &format!("/channels/{channel}?{query}")).unwrap();
        assert!(answer.contains(channel), "{answer}");
    }

    /// Returns whether there is a channel with that id.
    pub(crate) fn has(&self, channel: &str) -> bool {
        self.request("GET", &format!("/channels/{channel}")).is_some_and(|answer| answer.contains("\"state\""))
    }

    /// Returns whether it keeps a recording of that name.
    pub(crate) fn keeps(&self, recording: &str) -> bool {
        let kept = self.request("GET", &format!("/recordings/stored/{recording}"));
        !recording.is_empty() && kept.is_some_and(|answer| answer.contains("\"format\""))
    }

    /// Takes away where its recordings are kept: none can be made any more.
    pub(crate) fn stop_recording(&self) {
        fs::remove_dir_all(&self.recordings).unwrap();
    }

    fn request(&self, method: &str, path: &str) -> Option<String> {
        asked(self.ari, method, path)?.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    /// Returns how often each number was called, by the calls that reached its phone.
    pub(crate) fn dialled(&self) -> BTreeMap<String, usize> {
        let messages = fs::read_to_string(&self.messages).unwrap_or_default();
        let mut calls: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        let mut callee = None;
        for line in messages.lines() {
            if let Some(rest) = line.strip_prefix("INVITE sip:") {
                callee = rest.split_once('@').map(|(number, _)| format!("+{number}"));
            } else if let Some(id) = line.strip_prefix("Call-ID:")
                && let Some(callee) = callee.take()
            {
                calls.entry(callee).or_default().insert(id.trim());
            }
        }
        calls.into_iter().map(|(callee, calls)| (callee, calls.len())).collect()
    }

    /// Returns the number that each callee saw, by theirs.
    pub(crate) fn callers(&self) -> BTreeMap<String, String> {
        let messages = fs::read_to_string(&self.messages).unwrap_or_default();
        let number = |uri: &str| uri.split_once("sip:")?.1.split_once('@').map(|(number, _)| number.to_owned());
        let mut callers = BTreeMap::new();
        let mut callee = None;
        for line in messages.lines() {
            if line.starts_with("INVITE ") {
                callee = number(line);
            } else if line.starts_with("From:")
                && let Some(callee) = callee.take()
            {
                callers.insert(format!("+{callee}"), number(line).unwrap_or_default());
            }
        }
        callers
    }

    /// Ends Asterisk at once, with all its calls.
    pub(crate) fn kill(&self) {
        self.asterisk.end("KILL");
    }

    /// Starts Asterisk again.
    pub(crate) fn restart(&self) {
        self.asterisk.start(|| ready(self.ari));
    }
}

/// Ports that no other exchange has, of this process or of another, for as long as this lives.
struct Media {
    first: u16,
    /// Bound to the last of them.
    _taken: UdpSocket,
}

impl Media {
    fn take() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let places = (MEDIA.end - MEDIA.start) / MEDIA_PORTS;
        // Test processes that run side by side begin at different places.
        let begin = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % u32::from(places);
        let begin = u16::try_from(begin).expect("less than there are ports");
        let free = |step| {
            let first = MEDIA.start + (begin + step) % places * MEDIA_PORTS;
            let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, first + MEDIA_PORTS - 1)).ok()?;
            Some(Self { first, _taken: taken })
        };
        (0..places).find_map(free).expect("ports for the media of an exchange")
    }
}

fn asterisk(dir: &Path, ari: u16, callee: u16, rtp: u16) -> Janitor {
    let sip = free_port();
    let values = [
        ("@DIR@", dir.to_str().unwrap().to_owned()),
        ("@ARI@", ari.to_string()),
        ("@SIP@", sip.to_string()),
        ("@CALLEE@", callee.to_string()),
        ("@RTP@", rtp.to_string()),
        ("@RTP_END@", (rtp + RTP_PORTS).to_string()),
    ];
    for (name, text) in CONF {
        let text = values.iter().fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
        fs::write(dir.join(name).with_extension("conf"), text).unwrap();
    }
    for name in EMPTY {
        fs::write(dir.join(name).with_extension("conf"), "").unwrap();
    }
    fs::write(dir.join("udptl.conf"), "").unwrap();
    let program = servers::program("asterisk", &["/usr/sbin"], "asterisk");
    let conf = dir.join("asterisk.conf");
    let command = [program.to_str().unwrap(), "-C", conf.to_str().unwrap(), "-f"].map(str::to_owned);
    let janitor = Janitor::hire(&Job { dir, end_signal: "KILL", command: &command, env: &[] });
    janitor.start(|| ready(ari));
    janitor
}

/// Returns what an exchange answers, head and all; `None`: nobody listens.
fn asked(ari: u16, method: &str, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ari)).ok()?;
    // dialer:sesame
    let head = "Authorization: Basic ZGlhbGVyOnNlc2FtZQ==\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(format!("{method} /ari{path} HTTP/1.0\r\n{head}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Returns whether an exchange has loaded what calls need: it listens before that.
fn ready(ari: u16) -> bool {
    let said = |answer: String| answer.lines().next().is_some_and(|status| status.contains(" 200"));
    asked(ari, "GET", "/channels").is_some_and(said)
}

/// Returns what is heard of somebody who picks up, as PCMU: a word of that length, and silence.
fn said(word_ms: usize, silence_ms: usize) -> Vec<u8> {
    let loud = [0x80_u8, 0x80, 0x80, 0x80, 0x00, 0x00, 0x00, 0x00];
    let word = loud.iter().copied().cycle().take(word_ms * 8);
    word.chain(std::iter::repeat_n(0xff, silence_ms * 8)).collect()
}

fn callees(port: u16, media: u16) -> (Janitor, PathBuf) {
    let dir = server_dir("callees");
    let scenario = dir.join("callee.xml");
    let mut callee = include_str!("../../peers/callee.xml").to_owned();
    for (mark, said) in [("@HELLO@", said(500, 6_000)), ("@GREETING@", said(5_000, 2_000))] {
        let file = dir.join(mark.trim_matches('@')).with_extension("ul");
        fs::write(&file, said).unwrap();
        callee = callee.replace(mark, file.to_str().unwrap());
    }
    fs::write(&scenario, callee).unwrap();
    let messages = dir.join("messages");
    let program = servers::program("sipp", &[], "sip-tester");
    let (port_word, media) = (port.to_string(), media.to_string());
    let command = [
        program.to_str().unwrap(),
        "-sf",
        scenario.to_str().unwrap(),
        "-i",
        "127.0.0.1",
        "-p",
        &port_word,
        "-mp",
        &media,
        "-nostdin",
        "-trace_msg",
        "-message_file",
        messages.to_str().unwrap(),
    ];
    let command = command.map(str::to_owned);
    let janitor = Janitor::hire(&Job { dir: &dir, end_signal: "KILL", command: &command, env: &[] });
    janitor.start(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_err());
    (janitor, messages)
}
