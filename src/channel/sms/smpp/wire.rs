//! Bytes to and from an SMSC: frames, and the few commands that a bind needs. Any bytes give a PDU or an error, within
//! [`PDU_LEN_MAX`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rusmpp::decode::DecodeWithLength;
use rusmpp::encode::{Length, owned::Encode};
use rusmpp::pdus::{BindTransceiver, DeliverSm, DeliverSmResp};
use rusmpp::types::COctetString;
use rusmpp::values::{EsmClass, InterfaceVersion};
use rusmpp::{Command, CommandId, CommandStatus, Pdu};

use super::settings::Account;

/// Longest PDU that is read: any `deliver_sm` with a payload of 4 KiB of UTF-16 and room for its parameters. A longer
/// one is a fault, or an attack.
pub const PDU_LEN_MAX: usize = 16 * 1024;

/// Length, command, status and sequence number.
const HEADER_LEN: usize = 16;

/// Most characters of a message id that is kept.
const MESSAGE_ID_LEN_MAX: usize = 64;

/// What an SMSC said, as far as a bind cares.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The number that ties answers to requests.
    pub sequence: u32,
    /// What it said.
    pub body: Body,
}

/// What an SMSC said.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// The answer to a submit.
    Submitted {
        /// 0: taken.
        status: u32,
        /// The SMSC's id for it; empty if it gave none.
        message_id: Box<str>,
    },
    /// A receipt or a message.
    Deliver(Box<Deliver>),
    /// A receipt or a message that does not read.
    Unreadable,
    /// The answer to a bind.
    Bound {
        /// 0: bound.
        status: u32,
    },
    /// Are you there?
    EnquireLink,
    /// Yes.
    EnquireLinkResp,
    /// The SMSC ends the session.
    Unbind,
    /// It has ended.
    UnbindResp,
    /// It did not understand a request.
    Nack {
        /// Why.
        status: u32,
    },
    /// Any other answer, or a notice that wants none.
    Ignored,
    /// A request that a bind has no use for.
    Unknown,
}

/// A `deliver_sm`.
#[derive(PartialEq, Eq, Default)]
pub struct Deliver {
    /// Who sent it.
    pub source: Box<str>,
    /// To whom.
    pub destination: Box<str>,
    /// What it is, and whether it starts with a header.
    pub esm_class: u8,
    /// How the text is coded.
    pub data_coding: u8,
    /// The text, or the payload that stands for it.
    pub message: Bytes,
    /// The message that a receipt is about.
    pub receipted_message_id: Option<Box<str>>,
    /// What a receipt says of it.
    pub message_state: Option<u8>,
    /// Network type and code of its error.
    pub network_error: Option<(u8, u16)>,
    /// Reference, total and number of a part.
    pub sar: Option<(u16, u8, u8)>,
}

/// The bytes are not SMPP: the connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSmpp {
    /// Shorter than a header.
    #[error("a PDU of {0} bytes, a header alone has 16")]
    TooShort(u32),
    /// Longer than anything a bind needs.
    #[error("a PDU of {0} bytes, at most 16384 are read")]
    TooLong(u32),
}

/// Takes the next PDU out of `input`; `None` while it is incomplete.
///
/// # Errors
/// [`NotSmpp`] when there can be no next one.
pub fn take(input: &mut BytesMut) -> Result<Option<Incoming>, NotSmpp> {
    let Some((header, _)) = input.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let mut header = &header[..];
    let len_u32 = header.get_u32();
    let len = usize::try_from(len_u32).unwrap_or(usize::MAX);
    if len < HEADER_LEN {
        return Err(NotSmpp::TooShort(len_u32));
    }
    if len > PDU_LEN_MAX {
        return Err(NotSmpp::TooLong(len_u32));
    }
    if input.len() < len {
        return Ok(None);
    }
    let (id, status, sequence) = (header.get_u32(), header.get_u32(), header.get_u32());
    let body = match CommandId::from(id) {
        CommandId::SubmitSmResp => Body::Submitted { status, message_id: c_string(&input[HEADER_LEN..len]) },
        CommandId::DeliverSm => {
            let mut frame = input.split_to(len);
            frame.advance(HEADER_LEN);
            return Ok(Some(Incoming { sequence, body: deliver(frame) }));
        }
        CommandId::BindTransceiverResp => Body::Bound { status },
        CommandId::EnquireLink => Body::EnquireLink,
        CommandId::EnquireLinkResp => Body::EnquireLinkResp,
        CommandId::Unbind => Body::Unbind,
        CommandId::UnbindResp => Body::UnbindResp,
        CommandId::GenericNack => Body::Nack { status },
        CommandId::AlertNotification | CommandId::Outbind => Body::Ignored,
        id if id.is_response() => Body::Ignored,
        _ => Body::Unknown,
    };
    input.advance(len);
    Ok(Some(Incoming { sequence, body }))
}

/// Puts a PDU whose sequence number was left open, with this number.
pub(super) fn put_numbered(out: &mut BytesMut, pdu: &[u8], sequence: u32) {
    out.put_slice(&pdu[..HEADER_LEN - 4]);
    out.put_u32(sequence);
    out.put_slice(&pdu[HEADER_LEN..]);
}

/// Puts a command.
pub(super) fn put(out: &mut BytesMut, status: u32, sequence: u32, pdu: Pdu) {
    let command = Command::new(CommandStatus::from(status), sequence, pdu);
    let len = 4 + command.length();
    out.reserve(len);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    command.encode(out);
}

/// Puts the answer to a `deliver_sm`.
pub(super) fn put_deliver_resp(out: &mut BytesMut, status: u32, sequence: u32) {
    put(out, status, sequence, DeliverSmResp::default().into());
}

/// Returns the request to bind for both directions.
pub(super) fn bind(account: &Account) -> Pdu {
    BindTransceiver::builder()
        .system_id(field(&account.system_id))
        .password(field(&account.password))
        .system_type(field(&account.system_type))
        .interface_version(InterfaceVersion::Smpp3_4)
        .build()
        .into()
}

/// Returns a field that was checked before; what does not fit after all becomes empty.
pub(super) fn field<const MAX: usize>(text: &str) -> COctetString<1, MAX> {
    text.parse().unwrap_or_default()
}

/// Reads a `deliver_sm`. The parameters behind its fixed part are read one by one, and what does not read is left out:
/// receipts whose ids lack their end mark are common, and no reason to lose one.
fn deliver(mut frame: BytesMut) -> Body {
    let Some(fixed_len) = fixed_len(&frame) else { return Body::Unreadable };
    let parameters = frame.split_off(fixed_len);
    let Ok((fixed, _)) = DeliverSm::decode(&mut frame, fixed_len) else { return Body::Unreadable };
    let mut deliver = Deliver {
        source: fixed.source_addr.as_str().into(),
        destination: fixed.destination_addr.as_str().into(),
        esm_class: esm_class(fixed.esm_class),
        data_coding: fixed.data_coding.into(),
        message: fixed.short_message().clone().into_bytes(),
        ..Deliver::default()
    };
    read_parameters(&mut deliver, &parameters.freeze());
    Body::Deliver(Box::new(deliver))
}

fn esm_class(class: EsmClass) -> u8 {
    class.into()
}

/// Returns the length of everything before the optional parameters.
fn fixed_len(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut skip_string = |fixed_after: usize| -> Option<()> {
        at += body.get(at..)?.iter().position(|&byte| byte == 0)? + 1 + fixed_after;
        Some(())
    };
    skip_string(2)?; // service_type, then type and plan of the source
    skip_string(2)?; // source_addr, then type and plan of the destination
    skip_string(3)?; // destination_addr, then esm_class, protocol_id, priority_flag
    skip_string(0)?; // schedule_delivery_time
    skip_string(4)?; // validity_period, then registered_delivery to sm_default_msg_id
    let message_len = usize::from(*body.get(at)?);
    let end = at + 1 + message_len;
    (end <= body.len()).then_some(end)
}

fn read_parameters(deliver: &mut Deliver, parameters: &Bytes) {
    let (mut reference, mut total, mut number) = (None, None, None);
    let mut rest = parameters.clone();
    while rest.len() >= 4 {
        let (tag, len) = (rest.get_u16(), usize::from(rest.get_u16()));
        let value = rest.split_to(len.min(rest.len()));
        match (tag, &value[..]) {
            (0x001E, id) => deliver.receipted_message_id = Some(c_string(id)).filter(|id| !id.is_empty()),
            (0x0427, &[state]) => deliver.message_state = Some(state),
            (0x0423, &[network, high, low]) => {
                deliver.network_error = Some((network, u16::from_be_bytes([high, low])));
            }
            (0x0424, _) if deliver.message.is_empty() => deliver.message = value,
            (0x020C, &[high, low]) => reference = Some(u16::from_be_bytes([high, low])),
            (0x020E, &[of]) => total = Some(of),
            (0x020F, &[which]) => number = Some(which),
            _ => {}
        }
    }
    deliver.sar = reference.zip(total).zip(number).map(|((reference, total), number)| (reference, total, number));
}

/// Reads printable ASCII up to a NUL or the end.
fn c_string(bytes: &[u8]) -> Box<str> {
    let printable = bytes.iter().take(MESSAGE_ID_LEN_MAX).take_while(|byte| byte.is_ascii_graphic() || **byte == b' ');
    printable.map(|&byte| char::from(byte)).collect::<String>().into()
}

impl std::fmt::Debug for Deliver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never numbers or texts: this ends in logs and panics.
        f.debug_struct("Deliver").field("esm_class", &self.esm_class).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
