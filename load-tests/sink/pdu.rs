//! The few SMPP 3.4 messages that a sink understands, read and written by hand: it must never be the slow part.

use std::fmt::Write as _;

/// Bytes of a PDU's header.
const HEADER_BYTES: usize = 16;
/// Longest PDU that is read; longer ones end the session.
pub(crate) const PDU_BYTES_MAX: usize = 64 * 1024;
/// The bit that makes an answer of a request.
const ANSWER: u32 = 0x8000_0000;

/// Message ids of SMPP 3.4, section 5.1.2.1.
mod id {
    pub(super) const BIND_RECEIVER: u32 = 0x01;
    pub(super) const BIND_TRANSMITTER: u32 = 0x02;
    pub(super) const SUBMIT_SM: u32 = 0x04;
    pub(super) const DELIVER_SM: u32 = 0x05;
    pub(super) const UNBIND: u32 = 0x06;
    pub(super) const BIND_TRANSCEIVER: u32 = 0x09;
    pub(super) const ENQUIRE_LINK: u32 = 0x15;
    pub(super) const GENERIC_NACK: u32 = 0x8000_0000;
}

/// `ESME_ROK`: taken.
pub(crate) const OK: u32 = 0;
/// `ESME_RTHROTTLED`: too fast.
pub(crate) const THROTTLED: u32 = 0x58;
/// `ESME_RINVCMDID`: not understood.
const INVALID_COMMAND: u32 = 0x03;
/// TLV `message_payload`: a text that does not fit the short message field.
const MESSAGE_PAYLOAD: u16 = 0x0424;
/// TLV `receipted_message_id`.
const RECEIPTED_MESSAGE_ID: u16 = 0x001e;
/// TLV `message_state`.
const MESSAGE_STATE: u16 = 0x0427;
/// `message_state` 2: delivered.
const DELIVERED: u8 = 2;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// It wants to bind, in any of the three ways.
    Bind { id: u32 },
    /// It hands a message over.
    Submit(Submit<'a>),
    /// It asks whether the sink is alive.
    EnquireLink,
    /// It leaves.
    Unbind,
    /// It answers something that the sink sent.
    Answer,
    /// Something else.
    Unknown,
}

/// A message that is handed over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Submit<'a> {
    /// Sender, as bytes on the wire.
    pub(crate) source: &'a [u8],
    /// Recipient, as bytes on the wire.
    pub(crate) destination: &'a [u8],
    /// The text in its coding.
    pub(crate) text: &'a [u8],
    /// Whether a receipt is wanted.
    pub(crate) wants_receipt: bool,
}

/// The bytes are no SMPP.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not SMPP")]
pub(crate) struct Malformed;

/// A PDU that was read: the bytes after it, its sequence number, and what it says.
pub(crate) type Read<'a> = (&'a [u8], u32, Request<'a>);

/// Takes the next whole PDU off `bytes`. `None`: more bytes are needed.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Read<'_>>, Malformed> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = word(0) as usize;
    if !(HEADER_BYTES..=PDU_BYTES_MAX).contains(&length) {
        return Err(Malformed);
    }
    let Some((pdu, rest)) = bytes.split_at_checked(length) else { return Ok(None) };
    let request = match word(4) {
        id @ (id::BIND_RECEIVER | id::BIND_TRANSMITTER | id::BIND_TRANSCEIVER) => Request::Bind { id },
        id::SUBMIT_SM => Request::Submit(submit(&pdu[HEADER_BYTES..]).ok_or(Malformed)?),
        id::ENQUIRE_LINK => Request::EnquireLink,
        id::UNBIND => Request::Unbind,
        id if id & ANSWER != 0 => Request::Answer,
        _ => Request::Unknown,
    };
    Ok(Some((rest, word(12), request)))
}

fn submit(mut body: &[u8]) -> Option<Submit<'_>> {
    text_field(&mut body)?; // service_type
    take(&mut body, 2)?;
    let source = text_field(&mut body)?;
    take(&mut body, 2)?;
    let destination = text_field(&mut body)?;
    take(&mut body, 3)?;
    text_field(&mut body)?; // schedule_delivery_time
    text_field(&mut body)?; // validity_period
    let &[registered_delivery, _, _, _, length] = take(&mut body, 5)? else { return None };
    let mut text = take(&mut body, length.into())?;
    while !body.is_empty() {
        let &[t0, t1, l0, l1] = take(&mut body, 4)? else { return None };
        let value = take(&mut body, u16::from_be_bytes([l0, l1]).into())?;
        if u16::from_be_bytes([t0, t1]) == MESSAGE_PAYLOAD {
            text = value;
        }
    }
    Some(Submit { source, destination, text, wants_receipt: registered_delivery & 0b11 != 0 })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Takes a text that ends with a zero byte.
fn text_field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    let text = take(bytes, end)?;
    take(bytes, 1)?;
    Some(text)
}

fn write(out: &mut Vec<u8>, id: u32, status: u32, sequence: u32, body: &[&[u8]]) {
    let length = HEADER_BYTES + body.iter().map(|part| part.len()).sum::<usize>();
    for word in [length as u32, id, status, sequence] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for part in body {
        out.extend_from_slice(part);
    }
}

/// Writes the answer to a bind.
pub(crate) fn bound(out: &mut Vec<u8>, id: u32, sequence: u32) {
    write(out, id | ANSWER, OK, sequence, &[b"postrider-load\0"]);
}

/// Writes the answer to a submit that was taken.
pub(crate) fn taken(out: &mut Vec<u8>, sequence: u32, message_id: u64) {
    let mut id = String::with_capacity(17);
    let _infallible = write!(id, "{message_id:x}\0");
    write(out, id::SUBMIT_SM | ANSWER, OK, sequence, &[id.as_bytes()]);
}

/// Writes the answer to a submit that was not taken: no body.
pub(crate) fn refused(out: &mut Vec<u8>, status: u32, sequence: u32) {
    write(out, id::SUBMIT_SM | ANSWER, status, sequence, &[]);
}

/// Writes the answer to an `enquire_link`.
pub(crate) fn alive(out: &mut Vec<u8>, sequence: u32) {
    write(out, id::ENQUIRE_LINK | ANSWER, OK, sequence, &[]);
}

/// Writes the answer to an `unbind`.
pub(crate) fn unbound(out: &mut Vec<u8>, sequence: u32) {
    write(out, id::UNBIND | ANSWER, OK, sequence, &[]);
}

/// Writes the answer to something that is not understood.
pub(crate) fn unknown(out: &mut Vec<u8>, sequence: u32) {
    write(out, id::GENERIC_NACK, INVALID_COMMAND, sequence, &[]);
}

/// Writes a receipt that says "delivered", with its id as TLV and in the text.
pub(crate) fn receipt(out: &mut Vec<u8>, sequence: u32, message_id: u64, source: &[u8], destination: &[u8]) {
    let text = format!(
        "id:{message_id:x} sub:001 dlvrd:001 submit date:2601010000 done date:2601010000 stat:DELIVRD err:000 text:"
    );
    let id = format!("{message_id:x}\0");
    let tlvs = [
        &RECEIPTED_MESSAGE_ID.to_be_bytes()[..],
        &(id.len() as u16).to_be_bytes(),
        id.as_bytes(),
        &MESSAGE_STATE.to_be_bytes(),
        &[0, 1, DELIVERED],
    ]
    .concat();
    // From the recipient to the sender; esm_class 4 says "delivery receipt".
    let front = [&[0, 1, 1][..], source, &[0, 1, 1], destination, &[0, 4, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    write(out, id::DELIVER_SM, OK, sequence, &[&front, &[text.len() as u8], text.as_bytes(), &tlvs]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit_bytes(text: &[u8]) -> Vec<u8> {
        let body =
            [&b"\0\x01\x0110690\0\x01\x018613800000000\0\0\0\0\0\0\x01\0\0\0"[..], &[text.len() as u8], text].concat();
        let mut out = vec![];
        write(&mut out, id::SUBMIT_SM, 0, 7, &[&body]);
        out
    }

    #[test]
    fn a_submit_is_read_field_by_field() {
        let mut bytes = submit_bytes(b"hello");
        bytes.push(0);
        let (rest, sequence, request) = read(&bytes).unwrap().unwrap();
        assert_eq!((rest, sequence), (&[0][..], 7));
        let expected = Submit { source: b"10690", destination: b"8613800000000", text: b"hello", wants_receipt: true };
        assert_eq!(request, Request::Submit(expected));
    }

    #[test]
    fn half_a_pdu_waits_and_a_cut_one_is_refused() {
        let bytes = submit_bytes(b"hello");
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Ok(None));
        }
        let mut cut = bytes[..30].to_vec();
        cut[3] = 30;
        assert_eq!(read(&cut), Err(Malformed));
        assert_eq!(read(&[0xff; 16]), Err(Malformed));
    }
}
