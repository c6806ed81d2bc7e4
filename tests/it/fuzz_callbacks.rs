//! Any bytes as a callback are news or an error, never a crash; what comes of them is bounded.

use postrider::channel::News;
use postrider::channel::call::{aliyun as aliyun_voice, twilio as twilio_voice};
use postrider::channel::callback::{Call, Callbacks, Refused};
use postrider::channel::http::{Bytes, HeaderMap};
use postrider::channel::sms::twilio::{callback, signature};
use postrider::channel::sms::{aliyun, custom, tencent};
use postrider::channel::template::{crypt::Crypt, wechat, wecom};
use postrider::config::{Link, Secret};
use postrider::domain::recipient::Recipient;
use postrider::domain::signal::{DETAIL_LEN_MAX, DETAILS_MAX};
use postrider::domain::time::UnixMicros;

use crate::support::fuzz;

/// Bounded, so that CI stays short.
const RUNS: usize = 20_000;
/// Longer than any seed grows.
const LEN_MAX: usize = 16 * 1024;

/// Reads changed seeds until every way was taken.
fn beat(corpus: &str, desk: &dyn Callbacks, sign: impl FnMut(&str, &[u8]) -> (HeaderMap, String)) {
    let (ways, runs) = counted(corpus, desk, sign);
    assert!(ways.iter().all(|&way| way > runs / 400), "every way is taken: {ways:?} of {runs} runs");
}

/// Reads changed seeds; returns how many were receipts, replies, and unreadable, of how many.
fn counted(
    corpus: &str,
    desk: &dyn Callbacks,
    mut sign: impl FnMut(&str, &[u8]) -> (HeaderMap, String),
) -> ([usize; 3], usize) {
    let runs = fuzz::runs(RUNS);
    let mut rng = fuzz::random();
    let corpus = fuzz::corpus(corpus);
    let (mut receipts, mut replies, mut unreadable) = (0, 0, 0);
    for (name, seed) in &corpus {
        let (query, body) = split(seed);
        let (headers, target) = sign(query, body);
        let call = Call { token: "", target: &target, headers: &headers, body: &Bytes::copy_from_slice(body) };
        assert!(desk.read(&with_token(&call), UnixMicros::from_secs(1)).is_ok_and(|news| !news.is_empty()), "{name}");
    }
    for _ in 0..runs {
        let ((_, seed), (_, other)) = (rng.choice(&corpus).unwrap(), rng.choice(&corpus).unwrap());
        let bytes = fuzz::mutate(&mut rng, seed, other, LEN_MAX);
        let (query, body) = split(&bytes);
        let (headers, target) = sign(query, body);
        let call = Call { token: "", target: &target, headers: &headers, body: &Bytes::copy_from_slice(body) };
        match desk.read(&with_token(&call), UnixMicros::from_secs(1)) {
            Ok(news) => {
                assert!(news.len() <= bytes.len());
                for news in news {
                    match news {
                        News::Receipt(receipt) | News::CallReceipt(receipt, _) => {
                            assert!(receipt.message_id.len() <= 256 && receipt.code.chars().count() <= 32);
                            receipts += 1;
                        }
                        News::Reply(reply) => {
                            assert!(reply.text.len() <= 4_096 && reply.from.len() <= 64 && reply.to.len() <= 64);
                            replies += 1;
                        }
                        other => panic!("no text says {other:?}"),
                    }
                }
            }
            Err(Refused::Unreadable) => unreadable += 1,
            Err(Refused::Signature | Refused::Stale) => panic!("it is signed"),
        }
        // The same without a good signature is nobody's.
        let call =
            Call { token: "wrong", target: &target, headers: &HeaderMap::new(), body: &Bytes::copy_from_slice(body) };
        assert_eq!(desk.read(&call, UnixMicros::from_secs(1)), Err(Refused::Signature));
    }
    ([receipts, replies, unreadable], runs)
}

/// The secret in the path, for clouds that sign nothing.
fn with_token<'a>(call: &Call<'a>) -> Call<'a> {
    Call { token: TOKEN, ..*call }
}

/// A seed's first line is the query, the rest the body.
fn split(seed: &[u8]) -> (&str, &[u8]) {
    let end = seed.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let query = std::str::from_utf8(&seed[..end]).unwrap_or_default();
    (query, seed.get(end + 1..).unwrap_or_default())
}

#[test]
fn no_bytes_break_what_reads_twilio() {
    let desk = callback::Desk::new("cloud".parse().unwrap(), "https://x", Secret::new("12345"));
    beat("twilio", &desk, |query, body| {
        let target = if query.is_empty() { "/callback/cloud".to_owned() } else { format!("/callback/cloud?{query}") };
        let mut headers = HeaderMap::new();
        let signature = signature::sign("12345", &format!("https://x{target}"), body);
        headers.insert(signature::HEADER, signature.parse().unwrap());
        (headers, target)
    });
}

/// The secret at the end of the path, of clouds that sign nothing.
const TOKEN: &str = "a-secret-in-the-path";

fn unsigned(query: &str, _body: &[u8]) -> (HeaderMap, String) {
    (HeaderMap::new(), format!("/callback/cloud/{TOKEN}?{query}"))
}

#[test]
fn no_bytes_break_what_reads_aliyun() {
    beat("aliyun", &aliyun::callback::Desk::new("cloud".parse().unwrap(), Secret::new(TOKEN)), unsigned);
}

#[test]
fn no_bytes_break_what_reads_aliyuns_calls() {
    let desk = aliyun_voice::callback::Desk::new("cloud".parse().unwrap(), Secret::new(TOKEN));
    let ([receipts, replies, unreadable], runs) = counted("aliyun_voice", &desk, unsigned);
    // Nobody answers a call in writing.
    assert!(receipts > runs / 400 && unreadable > runs / 400 && replies == 0, "{receipts} {replies} {unreadable}");
}

/// The same for Twilio's calls: where nobody drives the call, how it ended is news, and who asks what to say hangs up.
#[test]
fn no_bytes_break_what_reads_twilios_calls() {
    let desk = twilio_voice::callback::Desk::new(
        "cloud".parse().unwrap(),
        "https://x",
        Secret::new("12345"),
        twilio_voice::Switchboard::default(),
    );
    let (runs, mut rng, corpus) = (fuzz::runs(RUNS), fuzz::random(), fuzz::corpus("twilio_voice"));
    let heard = |bytes: &[u8]| {
        let (query, body) = split(bytes);
        let target = format!("/callback/cloud?{query}");
        let mut headers = HeaderMap::new();
        let signature = signature::sign("12345", &format!("https://x{target}"), body);
        headers.insert(signature::HEADER, signature.parse().unwrap());
        let body = Bytes::copy_from_slice(body);
        let call = Call { token: "", target: &target, headers: &headers, body: &body };
        let asks = desk.converse(&call).is_some();
        // The same without a good signature is nobody's.
        let forged = Call { headers: &HeaderMap::new(), ..call };
        assert!(desk.converse(&forged).is_none());
        assert_eq!(desk.read(&forged, UnixMicros::from_secs(1)), Err(Refused::Signature));
        (asks, desk.read(&call, UnixMicros::from_secs(1)))
    };
    for (name, seed) in &corpus {
        assert!(heard(seed).1.is_ok(), "{name}");
    }
    let (mut ended, mut goes_on, mut asks, mut unreadable) = (0, 0, 0, 0);
    for _ in 0..runs {
        let ((_, seed), (_, other)) = (rng.choice(&corpus).unwrap(), rng.choice(&corpus).unwrap());
        match heard(&fuzz::mutate(&mut rng, seed, other, LEN_MAX)) {
            (true, Ok(news)) if news.is_empty() => asks += 1,
            (false, Ok(news)) if news.is_empty() => goes_on += 1,
            (false, Ok(news)) => {
                assert!(matches!(&news[..], [News::Call(_)]), "{news:?}");
                ended += 1;
            }
            (false, Err(Refused::Unreadable)) => unreadable += 1,
            other => panic!("{other:?}"),
        }
    }
    let ways = [ended, goes_on, asks, unreadable];
    assert!(ways.iter().all(|&way| way > runs / 400), "every way is taken: {ways:?} of {runs} runs");
}

#[test]
fn no_bytes_break_what_reads_tencent() {
    beat("tencent", &tencent::callback::Desk::new("cloud".parse().unwrap(), Secret::new(TOKEN)), unsigned);
}

/// What reads a cloud that the settings describe, from the body or the query of its callbacks.
fn described(items: &str) -> custom::Desk {
    let settings = crate::support::cloud::provider(&format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"http\"\nendpoint = \"http://127.0.0.1:1\"\nbody = \"x\"\n\
         callback_token = \"{TOKEN}\"\ncallback_items = \"{items}\"\ncallback_message_id = \"item.id\"\n\
         callback_code = \"item.why or query.why\"\ncallback_delivered = \"item.status == 'ok'\"\n\
         callback_undelivered = \"item.status in ['no', 7]\"\ncallback_from = \"item.from\"\n\
         callback_to = \"item.to\"\ncallback_text = \"item.text|utf16 if query.charset else item.text\"\n"
    ));
    let Link::Custom(link) = &settings.providers[0].link else { panic!("custom") };
    custom::Desk::new("cloud".parse().unwrap(), link.callbacks.clone().unwrap())
}

#[test]
fn no_bytes_break_what_reads_a_cloud_that_settings_describe() {
    beat("custom", &described("body"), unsigned);
    beat("custom_get", &described("query"), unsigned);
}

fn bounded(news: &News) {
    match news {
        News::Receipt(receipt) => assert!(receipt.message_id.len() <= 128 && receipt.code.chars().count() <= 32),
        News::Signal(signal) => {
            let Recipient { wechat, wecom, wecom_chat_id, wecom_userid, .. } = &signal.recipient;
            let wechat = wechat.iter().map(|at| &at.openid);
            let wecom = wecom.iter().map(|at| &at.external_userid).chain(wecom_chat_id).chain(wecom_userid);
            assert!(wechat.chain(wecom).all(|id| (1..=128).contains(&id.len())));
            assert!(signal.details.len() <= DETAILS_MAX);
            assert!(signal.details.iter().all(|(_, value)| value.len() <= DETAIL_LEN_MAX));
        }
        other => panic!("neither says such a thing: {other:?}"),
    }
}

/// The same for those whose callbacks are encrypted: the seeds are what lies inside, and the bytes around are changed too.
fn beat_encrypted(corpus: &str, desk: &dyn Callbacks, crypt: &Crypt, news_max: usize) {
    let (runs, mut rng, corpus) = (fuzz::runs(RUNS), fuzz::random(), fuzz::corpus(corpus));
    let read = |query: &str, body: Vec<u8>| {
        let target = format!("/callback/shoes?{query}");
        let call = Call { token: "", target: &target, headers: &HeaderMap::new(), body: &Bytes::from(body) };
        desk.read(&call, UnixMicros::from_secs(1_767_225_600))
    };
    let sealed = |said: &[u8]| {
        let encrypted = crypt.seal(said, [3; 16]);
        let signature = crypt.sign("1767225600", "n", Some(&encrypted));
        let body = format!("<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>").into_bytes();
        (format!("timestamp=1767225600&nonce=n&msg_signature={signature}"), body)
    };
    for (name, seed) in &corpus {
        let (query, body) = sealed(seed);
        assert!(read(&query, body).is_ok(), "{name}");
    }
    let (mut news, mut nothing, mut unreadable, mut signature) = (0, 0, 0, 0);
    for run in 0..runs {
        let ((_, seed), (_, other)) = (rng.choice(&corpus).unwrap(), rng.choice(&corpus).unwrap());
        let bytes = fuzz::mutate(&mut rng, seed, other, LEN_MAX);
        let (query, body) = sealed(&bytes);
        // Half of them are changed after they were sealed.
        let body = if run % 2 == 0 { fuzz::mutate(&mut rng, &body, seed, LEN_MAX) } else { body };
        match read(&query, body) {
            Ok(said) if said.is_empty() => nothing += 1,
            Ok(said) => {
                assert!(said.len() <= news_max);
                said.iter().for_each(bounded);
                news += 1;
            }
            Err(Refused::Unreadable) => unreadable += 1,
            Err(Refused::Signature) => signature += 1,
            Err(Refused::Stale) => panic!("it is signed for now"),
        }
    }
    let ways = [news, nothing, unreadable, signature];
    // Most changes leave no XML.
    assert!(ways.iter().all(|&way| way > runs / 4_000), "every way is taken: {ways:?} of {runs} runs");
}

const SECRETS: &str = "secret = \"x\"\ncallback_token = \"token\"\n\
                       aes_key = \"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG\"\n";

#[test]
fn no_bytes_break_what_reads_wechat() {
    let settings = crate::support::cloud::provider(&format!(
        "[[provider]]\nid = \"shoes\"\nkind = \"wechat\"\nappid = \"wx1\"\n{SECRETS}"
    ));
    let Link::Wechat(link) = &settings.providers[0].link else { panic!("wechat") };
    let secrets = link.callbacks.clone().unwrap();
    let desk = wechat::callback::Desk::new("shoes".parse().unwrap(), link, secrets.clone());
    beat_encrypted("wechat", &desk, &Crypt::new(secrets, "wx1"), 16);
}

#[test]
fn no_bytes_break_what_reads_wecom() {
    let settings = crate::support::cloud::provider(&format!(
        "[[provider]]\nid = \"shoes\"\nkind = \"wecom\"\ncorp_id = \"ww1\"\nagent_id = 1\n{SECRETS}"
    ));
    let Link::Wecom(link) = &settings.providers[0].link else { panic!("wecom") };
    let secrets = link.callbacks.clone().unwrap();
    let desk = wecom::callback::Desk::new("shoes".parse().unwrap(), link, secrets.clone());
    beat_encrypted("wecom", &desk, &Crypt::new(secrets, "ww1"), 200);
}
