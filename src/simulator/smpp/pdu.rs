//! The SMPP 3.4 messages that an SMSC understands and says, read and written by hand: another pair of eyes than the codec
//! that providers use, and fast enough to be the far end of a load test. Any bytes give a PDU or an error.

use std::fmt::Write as _;

/// Bytes of a PDU's header.
const HEADER_BYTES: usize = 16;
/// Longest PDU that is read; longer ones end the session.
pub const PDU_BYTES_MAX: usize = 64 * 1024;
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

/// What a request is answered (SMPP 3.4, section 5.1.3).
pub mod status {
    /// `ESME_ROK`: taken.
    pub const OK: u32 = 0;
    /// `ESME_RINVCMDID`: not understood.
    pub const INVALID_COMMAND: u32 = 0x03;
    /// `ESME_RINVBNDSTS`: not on this sort of bind, or not bound.
    pub const BIND_STATE: u32 = 0x04;
    /// `ESME_RSYSERR`: the SMSC's own trouble.
    pub const SYSTEM_ERROR: u32 = 0x08;
    /// `ESME_RINVDSTADR`: no such number.
    pub const INVALID_DESTINATION: u32 = 0x0B;
    /// `ESME_RBINDFAIL`: no more binds.
    pub const BIND_FAILED: u32 = 0x0D;
    /// `ESME_RINVPASWD`: wrong password.
    pub const INVALID_PASSWORD: u32 = 0x0E;
    /// `ESME_RINVSYSID`: no such account.
    pub const INVALID_SYSTEM_ID: u32 = 0x0F;
    /// `ESME_RTHROTTLED`: too fast.
    pub const THROTTLED: u32 = 0x58;
}

/// Reads a status as people write it: `88` or `0x58`; `None`: it is none, or says that all is well.
pub fn status_of(text: &str) -> Option<u32> {
    let read = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    read.ok().filter(|read| *read != status::OK)
}

/// TLV `message_payload`: a text that does not fit the short message field.
const MESSAGE_PAYLOAD: u16 = 0x0424;
/// TLV `user_message_reference`: what the client calls it.
const USER_MESSAGE_REFERENCE: u16 = 0x0204;
/// TLV `receipted_message_id`.
const RECEIPTED_MESSAGE_ID: u16 = 0x001e;
/// TLV `message_state`.
const MESSAGE_STATE: u16 = 0x0427;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// It wants to bind.
    Bind(Bind<'a>),
    /// It hands a message over.
    Submit(Submit<'a>),
    /// A message that does not read.
    Unreadable,
    /// It asks whether the SMSC is alive.
    EnquireLink,
    /// It leaves.
    Unbind,
    /// It answers something that the SMSC sent.
    Answer {
        /// 0: taken.
        status: u32,
    },
    /// Something else.
    Unknown,
}

/// A wish to bind.
#[derive(Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The command, for the answer.
    id: u32,
    /// The account.
    pub system_id: &'a [u8],
    /// Its password.
    pub password: &'a [u8],
}

/// A message that is handed over.
#[derive(Debug, PartialEq, Eq)]
pub struct Submit<'a> {
    /// Sender, as bytes on the wire.
    pub source: &'a [u8],
    /// Recipient, as bytes on the wire.
    pub destination: &'a [u8],
    /// The text in its coding, with its header if it has one.
    pub text: &'a [u8],
    /// How the text is coded.
    pub data_coding: u8,
    /// What the message is; bit 6 says that the text begins with a header.
    pub esm_class: u8,
    /// Whether a receipt is wanted.
    pub wants_receipt: bool,
    /// `user_message_reference`, if there is one.
    pub reference: Option<u16>,
}

/// The bytes are no SMPP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not SMPP")]
pub struct Malformed;

/// A PDU that was read: the bytes after it, its sequence number, and what it says.
pub type Read<'a> = (&'a [u8], u32, Request<'a>);

// === impl Bind ===

impl Bind<'_> {
    /// Returns whether messages may be handed over on it.
    pub fn sends(&self) -> bool {
        self.id != id::BIND_RECEIVER
    }

    /// Returns whether receipts and messages may come on it.
    pub fn receives(&self) -> bool {
        self.id != id::BIND_TRANSMITTER
    }
}

// === reading ===

/// Takes the next whole PDU off `bytes`. `None`: more bytes are needed.
///
/// # Errors
/// [`Malformed`] when there can be no next one.
pub fn read(bytes: &[u8]) -> Result<Option<Read<'_>>, Malformed> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = usize::try_from(word(0)).unwrap_or(usize::MAX);
    if !(HEADER_BYTES..=PDU_BYTES_MAX).contains(&length) {
        return Err(Malformed);
    }
    let Some((pdu, rest)) = bytes.split_at_checked(length) else { return Ok(None) };
    let body = &pdu[HEADER_BYTES..];
    let request = match word(4) {
        id @ (id::BIND_RECEIVER | id::BIND_TRANSMITTER | id::BIND_TRANSCEIVER) => {
            Request::Bind(bind(id, body).ok_or(Malformed)?)
        }
        id::SUBMIT_SM => submit(body).map_or(Request::Unreadable, Request::Submit),
        id::ENQUIRE_LINK => Request::EnquireLink,
        id::UNBIND => Request::Unbind,
        id if id & ANSWER != 0 => Request::Answer { status: word(8) },
        _ => Request::Unknown,
    };
    Ok(Some((rest, word(12), request)))
}

fn bind(id: u32, mut body: &[u8]) -> Option<Bind<'_>> {
    let (system_id, password) = (text_field(&mut body)?, text_field(&mut body)?);
    Some(Bind { id, system_id, password })
}

fn submit(mut body: &[u8]) -> Option<Submit<'_>> {
    text_field(&mut body)?; // service_type
    take(&mut body, 2)?;
    let source = text_field(&mut body)?;
    take(&mut body, 2)?;
    let destination = text_field(&mut body)?;
    let &[esm_class, _, _] = take(&mut body, 3)? else { return None };
    text_field(&mut body)?; // schedule_delivery_time
    text_field(&mut body)?; // validity_period
    let &[registered_delivery, _, data_coding, _, length] = take(&mut body, 5)? else { return None };
    let (mut text, mut reference) = (take(&mut body, length.into())?, None);
    while !body.is_empty() {
        let &[t0, t1, l0, l1] = take(&mut body, 4)? else { return None };
        let value = take(&mut body, u16::from_be_bytes([l0, l1]).into())?;
        match (u16::from_be_bytes([t0, t1]), value) {
            (MESSAGE_PAYLOAD, payload) => text = payload,
            (USER_MESSAGE_REFERENCE, &[high, low]) => reference = Some(u16::from_be_bytes([high, low])),
            _ => {}
        }
    }
    let wants_receipt = registered_delivery & 0b11 != 0;
    Some(Submit { source, destination, text, data_coding, esm_class, wants_receipt, reference })
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

// === writing ===

fn write(out: &mut Vec<u8>, id: u32, status: u32, sequence: u32, body: &[&[u8]]) {
    let length = HEADER_BYTES + body.iter().map(|part| part.len()).sum::<usize>();
    for word in [u32::try_from(length).unwrap_or(u32::MAX), id, status, sequence] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for part in body {
        out.extend_from_slice(part);
    }
}

/// Writes the answer to a bind.
pub fn bound(out: &mut Vec<u8>, bind: &Bind<'_>, status: u32, sequence: u32) {
    let body: &[&[u8]] = if status == status::OK { &[b"postrider\0"] } else { &[] };
    write(out, bind.id | ANSWER, status, sequence, body);
}

/// Writes the answer to a submit that was taken.
pub fn taken(out: &mut Vec<u8>, sequence: u32, message_id: u64) {
    let mut id = String::with_capacity(17);
    let _infallible = write!(id, "{message_id:x}\0");
    write(out, id::SUBMIT_SM | ANSWER, status::OK, sequence, &[id.as_bytes()]);
}

/// Writes the answer to a submit that was not taken: no body.
pub fn refused(out: &mut Vec<u8>, status: u32, sequence: u32) {
    write(out, id::SUBMIT_SM | ANSWER, status, sequence, &[]);
}

/// Writes the answer to an `enquire_link`.
pub fn alive(out: &mut Vec<u8>, sequence: u32) {
    write(out, id::ENQUIRE_LINK | ANSWER, status::OK, sequence, &[]);
}

/// Writes the answer to an `unbind`.
pub fn unbound(out: &mut Vec<u8>, sequence: u32) {
    write(out, id::UNBIND | ANSWER, status::OK, sequence, &[]);
}

/// Writes the answer to something that is not understood.
pub fn unknown(out: &mut Vec<u8>, sequence: u32) {
    write(out, id::GENERIC_NACK, status::INVALID_COMMAND, sequence, &[]);
}

/// What a receipt says of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It arrived.
    Delivered,
    /// It will never arrive.
    Undeliverable,
}

/// Writes a receipt, with the id as TLV and in the text; it goes from the recipient to the sender.
pub fn receipt(out: &mut Vec<u8>, sequence: u32, (message_id, state): (u64, State), source: &[u8], destination: &[u8]) {
    let (word, number, delivered, error) = match state {
        State::Delivered => ("DELIVRD", 2, 1, 0),
        State::Undeliverable => ("UNDELIV", 5, 0, 1),
    };
    let text = format!(
        "id:{message_id:x} sub:001 dlvrd:{delivered:03} submit date:2601010000 done date:2601010000 stat:{word} \
         err:{error:03} text:"
    );
    let id = format!("{message_id:x}\0");
    let tlvs = [
        &RECEIPTED_MESSAGE_ID.to_be_bytes()[..],
        &u16::try_from(id.len()).unwrap_or(u16::MAX).to_be_bytes(),
        id.as_bytes(),
        &MESSAGE_STATE.to_be_bytes(),
        &[0, 1, number],
    ]
    .concat();
    // esm_class 4 says "delivery receipt" (SMPP 3.4, section 5.2.12).
    deliver(out, sequence, (source, destination), (4, 0), &[text.as_bytes(), &tlvs]);
}

/// Writes a message from somebody, in UCS-2; what does not fit into 140 bytes is cut.
pub fn message(out: &mut Vec<u8>, sequence: u32, source: &[u8], destination: &[u8], text: &str) {
    let text: Vec<u8> = text.encode_utf16().take(70).flat_map(u16::to_be_bytes).collect();
    deliver(out, sequence, (source, destination), (0, 8), &[&text]);
}

/// Writes a `deliver_sm`; the first of `text` is the text, what follows are its TLVs.
fn deliver(
    out: &mut Vec<u8>,
    sequence: u32,
    (source, destination): (&[u8], &[u8]),
    (esm_class, data_coding): (u8, u8),
    text: &[&[u8]],
) {
    let settings = [0, esm_class, 0, 0, 0, 0, 0, 0, data_coding, 0];
    let front = [&[0, 1, 1][..], source, &[0, 1, 1], destination, &settings].concat();
    let length = [text.first().map_or(0, |text| u8::try_from(text.len()).unwrap_or(u8::MAX))];
    let body: Vec<&[u8]> = [&front[..], &length].into_iter().chain(text.iter().copied()).collect();
    write(out, id::DELIVER_SM, status::OK, sequence, &body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit_bytes(text: &[u8]) -> Vec<u8> {
        let body = [&b"\0\x01\x0110690\0\x01\x018613800000000\0\0\0\0\0\0\x01\0\x08\0"[..], &[text.len() as u8], text]
            .concat();
        let mut out = vec![];
        write(&mut out, id::SUBMIT_SM, 0, 7, &[&body, b"\x02\x04\x00\x02\x01\x02"]);
        out
    }

    #[test]
    fn a_submit_is_read_field_by_field() {
        let mut bytes = submit_bytes(b"hello");
        bytes.push(0);
        let (rest, sequence, request) = read(&bytes).unwrap().unwrap();
        assert_eq!((rest, sequence), (&[0][..], 7));
        let expected = Submit {
            source: b"10690",
            destination: b"8613800000000",
            text: b"hello",
            data_coding: 8,
            esm_class: 0,
            wants_receipt: true,
            reference: Some(0x0102),
        };
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
        assert!(matches!(read(&cut), Ok(Some((&[], 7, Request::Unreadable)))));
        assert_eq!(read(&[0xff; 16]), Err(Malformed));
    }
}
