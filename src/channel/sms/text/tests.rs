//! Counts, cuts and headers; and that nothing is lost on the way.

//! Texts are cut where no character is torn apart, and counted as they are cut.

use proptest::prelude::*;

use super::*;

const INTL: Style = Style { counting: Counting::GsmIntl, alphabet: Alphabet::Gsm7 };
const LATIN1: Style = Style { counting: Counting::GsmIntl, alphabet: Alphabet::Latin1 };
const CHINA: Style = Style { counting: Counting::CnDomestic, alphabet: Alphabet::Gsm7 };

#[track_caller]
fn check(text: &str, intl: u32, china: u32) {
    assert_eq!(segments(text, Counting::GsmIntl), intl, "gsm_intl, {} characters", text.chars().count());
    assert_eq!(segments(text, Counting::CnDomestic), china, "cn_domestic, {} characters", text.chars().count());
}

#[test]
fn segments_are_counted_by_real_packing() {
    check("", 1, 1);
    check(&"a".repeat(70), 1, 1);
    check(&"a".repeat(71), 1, 2);
    check(&"a".repeat(160), 1, 3);
    check(&"a".repeat(161), 2, 3);
    check(&"a".repeat(306), 2, 5);
    check(&"a".repeat(307), 3, 5);
    check(&"€".repeat(80), 1, 2);
    check(&"€".repeat(81), 2, 2);
    check(&"好".repeat(70), 1, 1);
    check(&"好".repeat(134), 2, 2);
    check(&"好".repeat(135), 3, 3);
    check(&"😀".repeat(35), 1, 1);
    // 33 pairs fit into 67 units, the 34th does not: by division it would be 2.
    check(&"😀".repeat(67), 3, 3);
    // 76 pairs fit into 153 septets: 153 pairs are 306 septets, by division 2.
    check(&"{".repeat(153), 3, 3);
    check("ç", 1, 1);
}

#[test]
fn latin_1_is_counted_in_septets_and_written_in_characters() {
    let encoded = LATIN1.encode("[é]", 7).unwrap();
    assert_eq!(encoded.coding, Coding::Default);
    assert_eq!(&encoded.parts[0][..], b"[\xE9]");
    assert_eq!(LATIN1.segments(&"[".repeat(81)), 2);
    assert_eq!(LATIN1.encode("€", 7).unwrap().coding, Coding::Ucs2);
}

#[test]
fn a_long_text_says_so_in_each_header() {
    let encoded = INTL.encode(&"a".repeat(200), 0xAB).unwrap();
    assert_eq!(encoded.parts.len(), 2);
    assert_eq!(encoded.parts[0][..6], [5, 0, 3, 0xAB, 2, 1]);
    assert_eq!(encoded.parts[1][..6], [5, 0, 3, 0xAB, 2, 2]);
    assert_eq!((encoded.parts[0].len(), encoded.parts[1].len()), (6 + 153, 6 + 47));
}

#[test]
fn more_than_255_segments_are_refused() {
    assert!(INTL.encode(&"a".repeat(255 * 153), 0).is_ok());
    assert_eq!(INTL.encode(&"a".repeat(255 * 153 + 1), 0), Err(TooLong(256)));
}

#[test]
fn texts_stay_out_of_debug_output() {
    assert_eq!(format!("{:?}", INTL.encode("secret", 0).unwrap()), "Segments { coding: Default, parts: 1 }");
}

/// Reads segments back the way a handset does, with its own idea of the limits.
fn reassemble(style: Style, encoded: &Segments) -> String {
    let many = encoded.parts.len() > 1;
    let mut octets = Vec::new();
    for part in &encoded.parts {
        let body = if many { &part[6..] } else { &part[..] };
        match encoded.coding {
            Coding::Ucs2 => {
                assert!(body.len() <= if many { 134 } else { 140 });
                let units: Vec<u16> = body.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
                assert!(String::from_utf16(&units).is_ok(), "a surrogate pair was torn apart");
            }
            Coding::Default if style.alphabet == Alphabet::Gsm7 => {
                assert!(body.len() <= if many { 153 } else { 160 });
                assert_ne!(body.last(), Some(&ESCAPE), "an escape pair was torn apart");
            }
            Coding::Default => {}
        }
        octets.extend_from_slice(body);
    }
    match (encoded.coding, style.alphabet) {
        (Coding::Ucs2, _) => {
            let units: Vec<u16> = octets.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
            String::from_utf16(&units).unwrap()
        }
        (Coding::Default, Alphabet::Gsm7) => gsm7::decode(&octets),
        (Coding::Default, Alphabet::Latin1) => octets.iter().map(|&octet| char::from(octet)).collect(),
    }
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::collection::vec(prop_oneof![Just('a'), Just('€'), Just('['), Just('ü')], 0..700)
            .prop_map(String::from_iter),
        proptest::collection::vec(prop_oneof![Just('a'), Just('好'), Just('😀')], 0..500).prop_map(String::from_iter),
        "[ -~]{0,400}",
        // One septet each.
        "[ -Z]{0,200}",
        "\\PC{0,300}",
    ]
}

proptest! {
    #[test]
    fn segments_hold_the_text_within_their_limits(text in texts(), reference in any::<u8>()) {
        for style in [INTL, LATIN1, CHINA] {
            let encoded = style.encode(&text, reference).unwrap();
            prop_assert_eq!(encoded.parts.len() as u32, style.segments(&text));
            prop_assert_eq!(&reassemble(style, &encoded), &text);
        }
    }

    #[test]
    fn no_segment_could_have_held_more(text in texts()) {
        let encoded = INTL.encode(&text, 0).unwrap();
        let limit = match encoded.coding { Coding::Default => 153, Coding::Ucs2 => 134 };
        // Only a pair that does not fit whole may leave room, of one septet or one unit.
        for part in encoded.parts.iter().rev().skip(1) {
            prop_assert!(part.len() - 6 + 2 >= limit);
        }
    }
}
