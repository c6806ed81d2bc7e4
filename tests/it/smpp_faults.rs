//! The SMPP route against SMSCs that break every rule: it drops the connection, counts it, answers its jobs, and lives.

use std::num::NonZeroU32;
use std::time::Duration;

use postrider::channel::sms::smpp::settings::Settings;
use postrider::channel::{Answer, Channel};
use postrider::telemetry::metrics::LinkEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::fuzz;
use crate::support::route::{Rig, handover, settings};

const SUBMIT_SM: u32 = 0x04;
const ENQUIRE_LINK: u32 = 0x15;
const DELIVER_SM: u32 = 0x05;
const RESPONSE: u32 = 0x8000_0000;

/// An SMSC made by hand.
struct ByHand(TcpListener);

/// A connection to it.
struct Line(TcpStream);

/// Command, status, sequence number, body.
type Pdu = (u32, u32, u32, Vec<u8>);

fn pdu(id: u32, status: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(16 + body.len()).unwrap();
    [len, id, status, sequence].into_iter().flat_map(u32::to_be_bytes).chain(body.iter().copied()).collect()
}

impl ByHand {
    async fn start() -> (Self, Settings) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = settings(listener.local_addr().unwrap().port());
        (Self(listener), settings)
    }

    /// Takes a connection without a word.
    async fn line(&self) -> Line {
        Line(self.0.accept().await.unwrap().0)
    }

    /// Takes a connection and its bind.
    async fn bound(&self) -> Line {
        let mut line = self.line().await;
        let (id, _, sequence, body) = line.next().await.unwrap();
        assert_eq!((id, &body[..]), (0x09, &b"postrider\0secret\0\0\x34\0\0\0"[..]));
        line.say(&pdu(RESPONSE | id, 0, sequence, b"smsc\0")).await;
        line
    }
}

impl Line {
    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads the next PDU; `None` when the route has hung up.
    async fn next(&mut self) -> Option<Pdu> {
        let mut header = [0; 16];
        self.0.read_exact(&mut header).await.ok()?;
        let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        let mut body = vec![0; word(0) as usize - 16];
        self.0.read_exact(&mut body).await.ok()?;
        Some((word(4), word(8), word(12), body))
    }

    /// Reads up to the next PDU of that kind.
    async fn next_of(&mut self, id: u32) -> Option<Pdu> {
        loop {
            let pdu = self.next().await?;
            if pdu.0 == id {
                return Some(pdu);
            }
        }
    }
}

#[tokio::test]
async fn garbage_after_the_bind_costs_the_connection_and_nothing_else() {
    let (smsc, settings) = ByHand::start().await;
    let rig = Rig::start_unbound(settings);
    let garbage: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0; 64],
        &[0xFF; 64],
        // A whole answer, then a length no PDU has.
        &[pdu(RESPONSE | ENQUIRE_LINK, 0, 1, b""), 0x7FFF_FFFF_u32.to_be_bytes().to_vec(), vec![0; 12]].concat(),
    ];
    for (times, garbage) in (1..).zip(garbage) {
        let mut line = smsc.bound().await;
        line.say(garbage).await;
        assert_eq!(line.next().await, None, "the route hangs up");
        rig.until(|smpp| smpp.noted(LinkEvent::Garbage) == times).await;
    }
    let _line = smsc.bound().await;
    rig.until(|smpp| smpp.health().up).await;
    rig.finish().await;
}

#[tokio::test]
async fn garbage_instead_of_a_bind_is_a_failure_to_bind() {
    let (smsc, settings) = ByHand::start().await;
    let rig = Rig::start_unbound(Settings { connect_timeout: Duration::from_millis(200), ..settings });
    smsc.line().await.say(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    rig.until(|smpp| smpp.noted(LinkEvent::BindFailed) == 1).await;
    // Says nothing at all.
    let silent = smsc.line().await;
    rig.until(|smpp| smpp.noted(LinkEvent::BindFailed) == 2).await;
    drop(silent);
    // Answers everything but the bind.
    smsc.line().await.say(&pdu(ENQUIRE_LINK, 0, 1, b"").repeat(100)).await;
    rig.until(|smpp| smpp.noted(LinkEvent::BindFailed) == 3).await;
    assert!(!rig.smpp.health().up);
    rig.finish().await;
}

#[tokio::test]
async fn an_smsc_that_drips_bytes_is_dropped() {
    let (smsc, settings) = ByHand::start().await;
    let enquire_link = Duration::from_millis(200);
    let rig = Rig::start_unbound(Settings { enquire_link, ..settings });
    let mut line = smsc.bound().await;
    rig.until(|smpp| smpp.health().up).await;
    // A delivery of 200 bytes, one byte at a time: it would take 10 s, and is not waited for.
    let mut slow = pdu(DELIVER_SM, 0, 1, &[b'x'; 184]).into_iter();
    let clock = rig.clock.clone();
    let dripping = async {
        for byte in &mut slow {
            if line.0.write_all(&[byte]).await.is_err() {
                break;
            }
            clock.pause(Duration::from_millis(50)).await;
        }
    };
    let dropped = rig.until(|smpp| smpp.noted(LinkEvent::Ended) == 1);
    tokio::select! {
        () = dropped => {}
        () = dripping => panic!("it was heard to the end"),
    }
    rig.finish().await;
}

#[tokio::test]
async fn an_smsc_that_does_not_read_is_dropped_and_its_jobs_are_answered() {
    let (smsc, settings) = ByHand::start().await;
    let settings = Settings {
        window: NonZeroU32::new(100_000).unwrap(),
        enquire_link: Duration::from_millis(300),
        response_timeout: Duration::from_secs(10),
        ..settings
    };
    let rig = Rig::start_unbound(settings);
    let line = smsc.bound().await;
    rig.until(|smpp| smpp.health().up).await;
    // More than the buffers of a socket hold.
    let answers = rig.submit((0..60_000).map(|number| handover(number, &"x".repeat(150))).collect()).await;
    let count = |wanted: fn(&Answer) -> bool| answers.iter().filter(|answer| wanted(answer)).count();
    let unknown = count(|answer| *answer == Answer::NoAnswer);
    let not_sent = count(|answer| matches!(answer, Answer::NotSent { .. }));
    assert!(unknown > 0 && not_sent > 0, "{unknown} unknown, {not_sent} not sent");
    assert_eq!(unknown + not_sent, answers.len());
    assert_eq!(rig.smpp.health().in_flight, 0);
    drop(line);
    rig.finish().await;
}

#[tokio::test]
async fn answers_that_make_no_sense_are_nobodys() {
    let (smsc, settings) = ByHand::start().await;
    let rig = Rig::start_unbound(settings);
    let mut line = smsc.bound().await;
    rig.until(|smpp| smpp.health().up).await;
    let scripted = async {
        let (_, _, first, _) = line.next_of(SUBMIT_SM).await.unwrap();
        let (_, _, second, _) = line.next_of(SUBMIT_SM).await.unwrap();
        let (_, _, third, _) = line.next_of(SUBMIT_SM).await.unwrap();
        for stray in [0, first + 1_000, u32::MAX] {
            line.say(&pdu(RESPONSE | SUBMIT_SM, 0, stray, b"1\0")).await;
        }
        // The second before the first, the first twice, the third not understood.
        line.say(&pdu(RESPONSE | SUBMIT_SM, 0, second, b"b\0")).await;
        line.say(&pdu(RESPONSE | SUBMIT_SM, 0, first, b"a\0")).await;
        line.say(&pdu(RESPONSE | SUBMIT_SM, 0x58, first, b"")).await;
        line.say(&pdu(RESPONSE, 0x03, third, b"")).await;
        // A command that nobody knows is answered so.
        line.say(&pdu(0x0777, 0, 9, b"what")).await;
        assert_eq!(line.next_of(RESPONSE).await, Some((RESPONSE, 0x03, 9, Vec::new())));
    };
    let (answers, ()) = tokio::join!(rig.submit((1..=3).map(|number| handover(number, "hi")).collect()), scripted);
    let ids = |id: &str| Answer::Taken { message_ids: vec![id.into()], segments: 1, receipt_expected: true };
    assert_eq!(answers, [ids("a"), ids("b"), Answer::Refused { code: "ESME_RINVCMDID".into() }]);
    rig.until(|smpp| smpp.noted(LinkEvent::StrayAnswer) == 4).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_smsc_that_forgot_the_bind_gets_a_new_one() {
    let (smsc, settings) = ByHand::start().await;
    let rig = Rig::start_unbound(settings);
    let mut line = smsc.bound().await;
    rig.until(|smpp| smpp.health().up).await;
    let forgets = async {
        let (_, _, sequence, _) = line.next_of(SUBMIT_SM).await.unwrap();
        line.say(&pdu(RESPONSE | SUBMIT_SM, 0x04, sequence, b"")).await;
        smsc.bound().await
    };
    let (answers, _line) = tokio::join!(rig.submit(vec![handover(1, "hi")]), forgets);
    assert_eq!(answers, [Answer::Throttled { retry_after: None }], "it was refused for now, not for good");
    rig.finish().await;
}

#[tokio::test]
async fn a_flood_of_deliveries_is_bounded_and_every_one_is_answered() {
    const FLOOD: u32 = 5_000;
    let (smsc, settings) = ByHand::start().await;
    // Nobody reads the inbox: 1 000 fit into it, 1 000 may wait for room or for their word to be durable.
    let rig = Rig::start_unbound(settings);
    let line = smsc.bound().await;
    rig.until(|smpp| smpp.health().up).await;
    let message = b"\0\x01\x014917\0\x01\x0110690\0\0\0\0\0\0\0\0\0\0\x02hi";
    let (mut reader, mut writer) = line.0.into_split();
    let flood = async {
        for sequence in 1..=FLOOD {
            writer.write_all(&pdu(DELIVER_SM, 0, sequence, message)).await.unwrap();
        }
    };
    let answers = async {
        let mut again = 0;
        while again < FLOOD - 1_000 {
            let mut answer = [0; 17];
            reader.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer[4..8], (RESPONSE | DELIVER_SM).to_be_bytes());
            assert_eq!(answer[8..12], 0x64_u32.to_be_bytes(), "nothing was durable");
            again += 1;
        }
    };
    tokio::join!(flood, answers);
    rig.finish().await;
}

#[tokio::test]
async fn whatever_an_smsc_says_the_route_answers_its_jobs_and_comes_back() {
    let (smsc, settings) = ByHand::start().await;
    let settings = Settings { response_timeout: Duration::from_millis(300), ..settings };
    let rig = Rig::start_unbound(settings);
    let (mut rng, corpus) = (fuzz::random(), fuzz::corpus("smpp"));
    for round in 0..fuzz::runs(40).min(1_000) as u64 {
        let mut line = smsc.bound().await;
        rig.until(|smpp| smpp.health().up).await;
        let babble = async {
            for _ in 0..20 {
                let ((_, seed), (_, other)) = (rng.choice(&corpus).unwrap(), rng.choice(&corpus).unwrap());
                let bytes = fuzz::mutate(&mut rng, seed, other, 4_096);
                // The route may have hung up, rightly.
                let _hung_up = line.0.write_all(&bytes).await;
            }
            drop(line);
        };
        let handovers = (0..10).map(|number| handover(round * 100 + number, "hi")).collect();
        let (answers, ()) = tokio::join!(rig.submit(handovers), babble);
        assert_eq!(answers.len(), 10);
        rig.until(|smpp| smpp.noted(LinkEvent::Ended) == round + 1).await;
        assert_eq!(rig.smpp.health().in_flight, 0);
    }
    rig.finish().await;
}
