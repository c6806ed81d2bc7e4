//! Writes a hand-over as `submit_sm`s, one a segment, ready but for their sequence numbers.

use bytes::{Bytes, BytesMut};
use rusmpp::pdus::SubmitSm;
use rusmpp::tlvs::MessageSubmissionRequestTlvValue;
use rusmpp::types::{COctetString, EmptyOrFullCOctetString, OctetString};
use rusmpp::values::{DataCoding, EsmClass, Npi, RegisteredDelivery, Ton, UserMessageReference};
use uuid::Uuid;

use super::settings::{Plan, Receipts, Reference, Settings, Validity};
use super::wire;
use crate::channel::Handover;
use crate::channel::sms::text::Coding;
use crate::domain::job::Content;

/// `data_coding` of UTF-16, big endian.
const UCS2: u8 = 0x08;

/// `esm_class` of a message that starts with a header.
const WITH_HEADER: u8 = 0x40;

/// `registered_delivery` that asks for a receipt on success and on failure.
const RECEIPT: u8 = 0x01;

/// Why a hand-over cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// It is no text.
    #[error("not_a_text")]
    NotAText,
    /// The recipient has no number.
    #[error("no_phone")]
    NoPhone,
    /// The sender is longer than 20 characters, or not plain ASCII.
    #[error("invalid_sender")]
    Sender,
    /// It takes more segments than the route allows.
    #[error("too_many_segments")]
    TooLong,
}

/// Returns `handover` as `submit_sm`s.
///
/// # Errors
/// [`Unwritable`] for what no SMSC could take; its text is the code of the refusal.
pub fn segments(settings: &Settings, handover: &Handover) -> Result<Vec<Bytes>, Unwritable> {
    let Content::Text(text) = &handover.content else { return Err(Unwritable::NotAText) };
    let phone = handover.recipient.phone.as_ref().ok_or(Unwritable::NoPhone)?;
    let named = if handover.sender.is_empty() { &settings.source } else { &handover.sender };
    let sender = handover.extension.as_ref().unwrap_or(named);
    let reference = fold(handover.job.0);
    let encoded = settings.style.encode(text, reference.to_be_bytes()[1]).map_err(|_| Unwritable::TooLong)?;
    if encoded.parts.len() > usize::from(settings.segments_max.get()) {
        return Err(Unwritable::TooLong);
    }
    let (source, destination) =
        (settings.source_plan.unwrap_or_else(|| Plan::of_sender(sender)), settings.destination_plan);
    let mut submit = SubmitSm::builder()
        .source_addr_ton(Ton::from(source.ton))
        .source_addr_npi(Npi::from(source.npi))
        .source_addr(address(sender).ok_or(Unwritable::Sender)?)
        .dest_addr_ton(Ton::from(destination.ton))
        .dest_addr_npi(Npi::from(destination.npi))
        .destination_addr(address(phone.digits()).ok_or(Unwritable::NoPhone)?)
        .esm_class(EsmClass::from(if encoded.parts.len() > 1 { WITH_HEADER } else { 0 }))
        .registered_delivery(RegisteredDelivery::from(match settings.receipts {
            Receipts::Final => RECEIPT,
            Receipts::None => 0,
        }))
        .validity_period(match settings.validity {
            Validity::Relative => relative(handover.validity.as_secs()),
            Validity::Omitted => EmptyOrFullCOctetString::empty(),
        })
        .data_coding(DataCoding::from(match encoded.coding {
            Coding::Default => settings.data_coding,
            Coding::Ucs2 => UCS2,
        }))
        .build();
    if settings.reference == Reference::Sent {
        let reference = UserMessageReference::new(reference);
        submit.push_tlv(MessageSubmissionRequestTlvValue::UserMessageReference(reference));
    }
    let mut buffer = BytesMut::with_capacity(encoded.parts.iter().map(|part| part.len() + 112).sum());
    let mut pdus = Vec::with_capacity(encoded.parts.len());
    for (mut submit, part) in std::iter::repeat_n(submit, encoded.parts.len()).zip(encoded.parts) {
        submit.set_short_message(OctetString::from_bytes(part).map_err(|_| Unwritable::TooLong)?);
        wire::put(&mut buffer, 0, 0, submit.into());
        pdus.push(buffer.split().freeze());
    }
    Ok(pdus)
}

/// Returns 16 bits of a job's id: the same for each attempt, different for most jobs.
fn fold(id: Uuid) -> u16 {
    id.as_bytes().chunks_exact(2).fold(0, |folded, two| folded ^ u16::from_be_bytes([two[0], two[1]]))
}

/// Returns an address, if it fits.
fn address(text: &str) -> Option<COctetString<1, 21>> {
    let text = text.strip_prefix('+').unwrap_or(text);
    text.parse().ok()
}

/// Returns a relative time (SMPP 3.4, 7.1.1.2): `YYMMDDhhmmss000R`, at least a second, at most 63 days, which is what
/// the air interface can say. A month is 30 days here, but there is none below 30 days to get wrong.
fn relative(secs: u64) -> EmptyOrFullCOctetString<17> {
    let secs = secs.clamp(1, 63 * 86_400);
    let (days, hours) = (secs / 86_400, secs / 3_600 % 24);
    let (months, days) = (days / 30, days % 30);
    let text = format!("00{months:02}{days:02}{hours:02}{:02}{:02}000R", secs / 60 % 60, secs % 60);
    EmptyOrFullCOctetString::from_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rusmpp::decode::DecodeWithLength;
    use rusmpp::{Command, Pdu};

    use super::*;
    use crate::channel::sms::smpp::settings::Account;
    use crate::domain::ids::JobId;
    use crate::domain::job::{Class, Kind};
    use crate::domain::recipient::Recipient;
    use crate::domain::time::UnixMicros;

    fn handover(text: &str) -> Handover {
        let phone = Some("+4915112345678".parse().unwrap());
        Handover {
            job: JobId::new(UnixMicros::from_secs(1), 7 << 64),
            attempt: 1,
            kind: Kind::Sms,
            class: Class::Marketing,
            recipient: Arc::new(Recipient { phone, ..Recipient::default() }),
            sender: "ACME".into(),
            content: Content::Text(text.into()),
            params: Vec::new(),
            template: None,
            validity: Duration::from_secs(3_600 + 61),
            expires_at: UnixMicros::MAX,
            extension: None,
            call: None,
        }
    }

    fn settings() -> Settings {
        Settings::new("a".parse().unwrap(), "localhost:2775", Account::new("a", "b", "").unwrap())
    }

    fn read(pdu: &Bytes) -> SubmitSm {
        assert_eq!(u32::from_be_bytes(pdu[..4].try_into().unwrap()) as usize, pdu.len());
        let (command, _) = Command::decode(&mut BytesMut::from(&pdu[4..]), pdu.len() - 4).unwrap();
        match command.pdu() {
            Some(Pdu::SubmitSm(submit)) => submit.clone(),
            other => panic!("not a submit_sm: {other:?}"),
        }
    }

    #[test]
    fn a_short_text_is_one_plain_submit() {
        let pdus = segments(&settings(), &handover("hello {")).unwrap();
        let submit = read(&pdus[0]);
        assert_eq!(pdus.len(), 1);
        assert_eq!(submit.source_addr.as_str(), "ACME");
        let own = Handover { extension: Some("1069001".into()), ..handover("hello {") };
        let own = read(&segments(&settings(), &own).unwrap()[0]);
        assert_eq!((own.source_addr.as_str(), u8::from(own.source_addr_ton)), ("1069001", 3), "its signature's number");
        assert_eq!((u8::from(submit.source_addr_ton), u8::from(submit.source_addr_npi)), (5, 0));
        assert_eq!(submit.destination_addr.as_str(), "4915112345678");
        assert_eq!((u8::from(submit.dest_addr_ton), u8::from(submit.dest_addr_npi)), (1, 1));
        assert_eq!(u8::from(submit.esm_class), 0);
        assert_eq!(u8::from(submit.registered_delivery), 1);
        assert_eq!(u8::from(submit.data_coding), 0);
        assert_eq!(submit.validity_period.as_str(), "000000010101000R");
        assert_eq!(&submit.short_message()[..], b"hello \x1B\x28");
        assert_eq!(submit.tlvs().len(), 1);
    }

    #[test]
    fn a_long_text_is_several_with_headers_and_one_reference() {
        let pdus = segments(&settings(), &handover(&"好".repeat(100))).unwrap();
        let (first, second) = (read(&pdus[0]), read(&pdus[1]));
        assert_eq!(pdus.len(), 2);
        assert_eq!((u8::from(first.esm_class), u8::from(first.data_coding)), (0x40, 0x08));
        assert_eq!(first.short_message()[3], second.short_message()[3]);
        assert_eq!(first.tlvs(), second.tlvs());
        let again = segments(&settings(), &Handover { attempt: 2, ..handover(&"好".repeat(100)) }).unwrap();
        assert_eq!(pdus, again, "an attempt more must look the same");
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Handover), expected: Unwritable) {
        let mut handover = handover("hello");
        change(&mut handover);
        assert_eq!(segments(&settings(), &handover), Err(expected));
    }

    #[test]
    fn what_no_smsc_could_take_is_refused() {
        check(
            |handover| handover.content = Content::Call { flow: "f".into(), plan: Arc::default() },
            Unwritable::NotAText,
        );
        check(|handover| handover.recipient = Arc::default(), Unwritable::NoPhone);
        check(|handover| handover.sender = "ñ".into(), Unwritable::Sender);
        check(|handover| handover.sender = "0123456789012345678901".into(), Unwritable::Sender);
        check(|handover| handover.content = Content::Text("a".repeat(153 * 8 + 1).into()), Unwritable::TooLong);
    }

    #[test]
    fn validity_stays_within_what_can_be_said() {
        assert_eq!(relative(0).as_str(), "000000000001000R");
        assert_eq!(relative(u64::MAX).as_str(), "000203000000000R");
    }
}
