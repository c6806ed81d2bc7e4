//! Any bytes on an SMPP connection are a PDU or an error, never a crash, a hang or unbounded memory: the framing, the
//! commands, and what is read of deliveries (receipts, codings, headers, parts).

use std::time::Duration;

use bytes::BytesMut;
use postrider::channel::sms::smpp::desk::{Delivery, Desk};
use postrider::channel::sms::smpp::ids::IdForm;
use postrider::channel::sms::smpp::wire::{self, Body, Incoming, PDU_LEN_MAX};
use postrider::channel::sms::text::Alphabet;
use postrider::channel::{News, sms::smpp::wire::NotSmpp};
use postrider::domain::time::UnixMicros;

use crate::support::fuzz;

/// Bounded, so that CI stays short.
const RUNS: usize = 40_000;

/// Longer than any seed grows.
const LEN_MAX: usize = 64 * 1024;

fn desk(form: IdForm) -> Desk {
    Desk::new("carrier-a".parse().unwrap(), Alphabet::Gsm7, form)
}

/// Takes all that there is, as a session does.
fn read_all(bytes: &[u8]) -> (Vec<Incoming>, Result<(), NotSmpp>) {
    let mut input = BytesMut::from(bytes);
    let mut said = Vec::new();
    loop {
        let before = input.len();
        match wire::take(&mut input) {
            Ok(Some(incoming)) => {
                assert!(before - input.len() >= 16, "each PDU takes its bytes");
                said.push(incoming);
            }
            Ok(None) => {
                assert!(input.len() < PDU_LEN_MAX, "what is waited for is bounded");
                return (said, Ok(()));
            }
            Err(error) => return (said, Err(error)),
        }
    }
}

#[test]
fn the_corpus_is_still_readable() {
    let desk = desk(IdForm::Text);
    for (name, seed) in fuzz::corpus("smpp") {
        let (said, end) = read_all(&seed);
        assert_eq!(end, Ok(()), "{name}");
        assert!(!said.is_empty(), "{name}");
        let mut news = 0;
        for incoming in said {
            assert_ne!(incoming.body, Body::Unreadable, "{name}");
            if let Body::Deliver(deliver) = incoming.body {
                let read = desk.read(&deliver, UnixMicros::from_secs(1), Duration::ZERO);
                assert_ne!(read, Delivery::Nothing, "{name}");
                news += usize::from(matches!(read, Delivery::News(_)));
            }
        }
        let expected =
            usize::from(name.starts_with("receipt") || (name.starts_with("message") && name != "message-sar"));
        assert_eq!(news, expected, "{name}");
    }
}

#[test]
fn no_bytes_break_what_reads_an_smsc() {
    let runs = fuzz::runs(RUNS);
    let mut rng = fuzz::random();
    let corpus = fuzz::corpus("smpp");
    let desks = [IdForm::Text, IdForm::Decimal, IdForm::Hex].map(desk);
    let (mut refused, mut unreadable, mut receipts, mut replies, mut parts, mut nothing) = (0, 0, 0, 0, 0, 0);
    for run in 0..runs {
        let ((_, seed), (_, other)) = (rng.choice(&corpus).unwrap(), rng.choice(&corpus).unwrap());
        let mut bytes = fuzz::mutate(&mut rng, seed, other, LEN_MAX);
        // Half of the time the first length tells the truth, so that changes reach what lies behind the framing.
        if rng.bool() && bytes.len() >= 16 {
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&len.to_be_bytes());
        }
        let (said, end) = read_all(&bytes);
        assert!(said.len() <= bytes.len() / 16);
        refused += usize::from(end.is_err());
        for incoming in said {
            match incoming.body {
                Body::Unreadable => unreadable += 1,
                Body::Submitted { message_id, .. } => assert!(message_id.len() <= 64),
                Body::Deliver(deliver) => {
                    let now = Duration::from_secs(run as u64);
                    match desks[run % desks.len()].read(&deliver, UnixMicros::from_secs(1), now) {
                        Delivery::News(News::Receipt(receipt)) => {
                            assert!(receipt.message_id.len() <= 256 && receipt.code.chars().count() <= 32);
                            receipts += 1;
                        }
                        Delivery::News(News::Reply(reply)) => {
                            assert!(reply.text.len() <= 4_096 && reply.from.len() <= 20 && reply.to.len() <= 20);
                            replies += 1;
                        }
                        Delivery::News(other) => panic!("no text says {other:?}"),
                        Delivery::Part => parts += 1,
                        Delivery::Nothing => nothing += 1,
                    }
                }
                _ => {}
            }
        }
        let given_up = desks[run % desks.len()].give_up(UnixMicros::from_secs(1), Duration::from_secs(run as u64));
        assert!(given_up.len() <= 1_100);
    }
    let ways = [refused, unreadable, receipts, replies, parts, nothing];
    assert!(ways.iter().all(|&way| way > runs / 400), "every way is taken: {ways:?} of {runs} runs");
}
