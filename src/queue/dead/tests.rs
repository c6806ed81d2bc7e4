//! Letters as they are written and read.

use super::*;

fn letter() -> Letter {
    Letter {
        id: Uuid::from_u128(7),
        from: Some(QueueName::Record),
        reason: "the frame is cut off".into(),
        at: Some(UnixMicros(12)),
        told: true,
        frame: Bytes::from_static(b"frame"),
    }
}

#[test]
fn a_letter_is_read_as_it_was_written() {
    let suspect = QueueName::Suspect("main".parse().unwrap());
    for letter in [letter(), Letter { from: None, ..letter() }, Letter { from: Some(suspect), ..letter() }] {
        assert_eq!(Letter::read(letter.id, &letter.write()), Some(letter));
    }
}

#[test]
fn what_does_not_fit_is_cut_or_stays_bare() {
    let long = Letter { reason: "ü".repeat(300).into(), ..letter() };
    let read = Letter::read(long.id, &long.write()).unwrap();
    assert_eq!((&*read.reason, read.frame), (&*"ü".repeat(100), long.frame));
    let large = Letter { frame: vec![1; FRAME_BYTES_MAX - 20].into(), ..letter() };
    assert_eq!(large.write(), large.frame);
}

#[test]
fn any_bytes_are_a_letter_or_none() {
    let whole = letter().write();
    for end in 0..whole.len() - letter().frame.len() {
        assert_eq!(Letter::read(Uuid::nil(), &whole.slice(..end)), None, "cut at {end}");
    }
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..10_000 {
        let mut bytes = whole.to_vec();
        bytes[rng.usize(..whole.len())] = rng.u8(..);
        let _either = Letter::read(Uuid::nil(), &bytes.into());
    }
}
