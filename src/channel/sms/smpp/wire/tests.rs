//! What is read of whatever an SMSC sends.

use rusmpp::tlvs::MessageDeliveryRequestTlvValue;
use rusmpp::types::OctetString;
use rusmpp::values::{MessageState, NetworkErrorCode};

use super::*;

fn pdu(id: u32, status: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER_LEN + body.len()).unwrap();
    let header = [len, id, status, sequence].into_iter().flat_map(u32::to_be_bytes);
    header.chain(body.iter().copied()).collect()
}

#[track_caller]
fn check(bytes: &[u8], expected: Body) {
    let mut input = BytesMut::from(bytes);
    assert_eq!(take(&mut input), Ok(Some(Incoming { sequence: 7, body: expected })), "{bytes:02x?}");
    assert!(input.is_empty());
}

fn submitted(status: u32, message_id: &str) -> Body {
    Body::Submitted { status, message_id: message_id.into() }
}

#[test]
fn answers_are_read_however_they_end() {
    check(&pdu(0x8000_0004, 0, 7, b"0A1B\0"), submitted(0, "0A1B"));
    check(&pdu(0x8000_0004, 0, 7, b"0A1B"), submitted(0, "0A1B"));
    check(&pdu(0x8000_0004, 0x58, 7, b""), submitted(0x58, ""));
    check(&pdu(0x8000_0004, 0, 7, b"\xFF\xFE\0"), submitted(0, ""));
    check(&pdu(0x8000_0009, 0x0E, 7, b""), Body::Bound { status: 0x0E });
    check(&pdu(0x8000_0000, 0x03, 7, b""), Body::Nack { status: 0x03 });
    check(&pdu(0x15, 0, 7, b""), Body::EnquireLink);
    check(&pdu(0x15, 0, 7, b"\0"), Body::EnquireLink);
    check(&pdu(0x06, 0, 7, b""), Body::Unbind);
    check(&pdu(0x8000_0103, 0, 7, b"x"), Body::Ignored);
    check(&pdu(0x0103, 0, 7, b"x"), Body::Unknown);
    check(&pdu(0x7777, 0, 7, b"x"), Body::Unknown);
}

#[test]
fn a_pdu_is_waited_for_and_a_giant_is_not() {
    let whole = pdu(0x15, 0, 7, b"");
    for len in 0..whole.len() {
        assert_eq!(take(&mut BytesMut::from(&whole[..len])), Ok(None));
    }
    let of_length = |len: u32| BytesMut::from(&[&len.to_be_bytes()[..], &[0; 12]].concat()[..]);
    assert_eq!(take(&mut of_length(15)), Err(NotSmpp::TooShort(15)));
    assert_eq!(take(&mut of_length(0)), Err(NotSmpp::TooShort(0)));
    assert_eq!(take(&mut of_length(u32::MAX)), Err(NotSmpp::TooLong(u32::MAX)));
    assert_eq!(take(&mut of_length(PDU_LEN_MAX as u32)), Ok(None));
}

fn delivery(parameters: Vec<MessageDeliveryRequestTlvValue>) -> Vec<u8> {
    let deliver = DeliverSm::builder()
        .source_addr(field("4917"))
        .destination_addr(field("10690"))
        .esm_class(EsmClass::from(0x04))
        .short_message(OctetString::from_static_slice(b"id:1").unwrap())
        .tlvs(parameters)
        .build();
    let mut out = BytesMut::new();
    put(&mut out, 0, 7, deliver.into());
    out.to_vec()
}

fn expected() -> Deliver {
    let message = Bytes::from_static(b"id:1");
    Deliver { source: "4917".into(), destination: "10690".into(), esm_class: 4, message, ..Deliver::default() }
}

#[test]
fn deliveries_are_read_with_their_parameters() {
    let parameters = vec![
        MessageDeliveryRequestTlvValue::ReceiptedMessageId(field("0A1B")),
        MessageDeliveryRequestTlvValue::MessageState(MessageState::from(2)),
        MessageDeliveryRequestTlvValue::NetworkErrorCode(NetworkErrorCode::new(3.into(), 34)),
    ];
    let expected = Deliver {
        receipted_message_id: Some("0A1B".into()),
        message_state: Some(2),
        network_error: Some((3, 34)),
        ..expected()
    };
    check(&delivery(parameters), Body::Deliver(Box::new(expected)));
}

#[test]
fn parameters_that_do_not_read_cost_no_delivery() {
    let mut bytes = delivery(Vec::new());
    let bare = bytes.len();
    // An id without its end mark, a parameter nobody knows, one of the wrong length, one that is cut off.
    bytes.extend_from_slice(b"\x00\x1E\x00\x02ab\x14\x00\x00\x01x\x04\x27\x00\x02\x01\x02\x02\x0C\x00\x09z");
    let len = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    assert!(bytes.len() > bare);
    check(&bytes, Body::Deliver(Box::new(Deliver { receipted_message_id: Some("ab".into()), ..expected() })));
}

#[test]
fn a_payload_stands_for_the_text() {
    let mut bytes = delivery(Vec::new());
    bytes.truncate(bytes.len() - 5);
    bytes.extend_from_slice(b"\x00\x04\x24\x00\x03abc\x02\x0C\x00\x02\x00\x09\x02\x0E\x00\x01\x02\x02\x0F\x00\x01\x01");
    let len = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    let message = Bytes::from_static(b"abc");
    check(&bytes, Body::Deliver(Box::new(Deliver { message, sar: Some((9, 2, 1)), ..expected() })));
}

#[test]
fn a_delivery_that_is_cut_short_is_unreadable() {
    let whole = delivery(Vec::new());
    for len in HEADER_LEN..whole.len() {
        let mut cut = whole[..len].to_vec();
        cut[..4].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        check(&cut, Body::Unreadable);
    }
}

#[test]
fn numbers_and_texts_stay_out_of_debug_output() {
    let Ok(Some(incoming)) = take(&mut BytesMut::from(&delivery(Vec::new())[..])) else { panic!("a delivery") };
    let shown = format!("{incoming:?}");
    assert!(!shown.contains("4917") && !shown.contains("id:1"), "{shown}");
}
