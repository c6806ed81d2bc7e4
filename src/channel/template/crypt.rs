//! How WeChat and WeCom sign and encrypt what they call back with: SHA-1 over the sorted parts, and AES-256-CBC over 16
//! random bytes, the length, the message and the account it is for, padded to whole blocks of 32 bytes.
//! Source: developers.weixin.qq.com, "消息加解密说明"; developer.work.weixin.qq.com/document/path/90968.

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::super::callback::{Refused, same};
use super::super::digest::hex;
use crate::config;

/// Random bytes in front of each message.
const SALT: usize = 16;
/// Bytes of a message's length.
const LENGTH: usize = 4;
/// What messages are padded to. The cipher's own block has half of it.
const BLOCK: usize = 32;

/// The secrets of one account, and who it is.
#[derive(Clone, Debug)]
pub struct Crypt {
    secrets: config::Crypt,
    /// The account that messages are for: an appid or a corporation's id.
    account: Box<str>,
}

/// What stands beside a signed message, in the query of a call or in an answer.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The signature, in hexadecimal digits.
    pub signature: &'a str,
    /// Seconds since the epoch, as text.
    pub timestamp: &'a str,
    /// A number that is used once.
    pub nonce: &'a str,
}

// === impl Crypt ===

impl Crypt {
    /// Returns what reads and writes the messages of `account`.
    pub fn new(secrets: config::Crypt, account: &str) -> Self {
        Self { secrets, account: account.into() }
    }

    /// Returns the signature of a message; of a greeting in the clear, there is none.
    pub fn sign(&self, timestamp: &str, nonce: &str, encrypted: Option<&str>) -> String {
        let mut parts = vec![self.secrets.token.reveal(), timestamp, nonce];
        parts.extend(encrypted);
        parts.sort_unstable();
        // SHA-1 is what both platforms sign with; the token makes it a secret.
        hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, parts.concat().as_bytes()).as_ref())
    }

    /// Says whether a message, or a greeting without one, is signed by the platform.
    ///
    /// # Errors
    /// [`Refused::Signature`].
    pub fn verify(&self, signed: &Signed<'_>, encrypted: Option<&str>) -> Result<(), Refused> {
        let expected = self.sign(signed.timestamp, signed.nonce, encrypted);
        if same(expected.as_bytes(), signed.signature.as_bytes()) { Ok(()) } else { Err(Refused::Signature) }
    }

    /// Opens a message that is signed. Nothing is decrypted before its signature holds, and whatever is wrong behind it
    /// is told with one word, so that nobody learns from trying.
    ///
    /// # Errors
    /// [`Refused::Signature`]: not signed, not for this account, or not encrypted with its key.
    pub fn open(&self, signed: &Signed<'_>, encrypted: &str) -> Result<Vec<u8>, Refused> {
        self.verify(signed, Some(encrypted))?;
        self.decrypt(encrypted).ok_or(Refused::Signature)
    }

    fn decrypt(&self, encrypted: &str) -> Option<Vec<u8>> {
        let mut bytes = STANDARD.decode(encrypted).ok()?;
        let key = &self.secrets.key.0;
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(key, &key[..16]).ok()?;
        let plain = cipher.decrypt_padded_mut::<NoPadding>(&mut bytes).ok()?;
        let padded = usize::from(*plain.last()?);
        let (body, padding) = plain.split_at_checked(plain.len().checked_sub(padded)?)?;
        if !(1..=BLOCK).contains(&padded) || padding.iter().any(|&byte| usize::from(byte) != padded) {
            return None;
        }
        let (length, rest) = body.get(SALT..)?.split_first_chunk::<LENGTH>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (message, account) = rest.split_at_checked(length)?;
        (account == self.account.as_bytes()).then(|| message.to_vec())
    }

    /// Encrypts a message for the account, as the platform does. `salt` is random.
    pub fn seal(&self, message: &[u8], salt: [u8; SALT]) -> String {
        let mut bytes = salt.to_vec();
        bytes.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(message);
        bytes.extend_from_slice(self.account.as_bytes());
        let padded = BLOCK - bytes.len() % BLOCK;
        bytes.extend(std::iter::repeat_n(u8::try_from(padded).unwrap_or(0), padded));
        let (key, length) = (&self.secrets.key.0, bytes.len());
        let cipher = cbc::Encryptor::<Aes256>::new_from_slices(key, &key[..16]);
        let sealed =
            cipher.ok().and_then(|cipher| Some(cipher.encrypt_padded_mut::<NoPadding>(&mut bytes, length).ok()?.len()));
        // A key has 32 bytes and the text is whole blocks, so this is the whole of it.
        STANDARD.encode(&bytes[..sealed.unwrap_or(0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AesKey, Secret};

    fn crypt(account: &str) -> Crypt {
        // Its last character holds two bits too many, as consoles' keys do.
        let key = AesKey::read("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG").unwrap();
        Crypt::new(config::Crypt { token: Secret::new("token"), key }, account)
    }

    fn opened(crypt: &Crypt, encrypted: &str) -> Result<Vec<u8>, Refused> {
        let signature = crypt.sign("1409735669", "nonce", Some(encrypted));
        crypt.open(&Signed { signature: &signature, timestamp: "1409735669", nonce: "nonce" }, encrypted)
    }

    #[test]
    fn what_is_sealed_opens_for_its_account_alone() {
        let wx = crypt("wx1");
        for length in 0..100 {
            let message = vec![b'x'; length];
            assert_eq!(opened(&wx, &wx.seal(&message, [7; 16])), Ok(message));
        }
        assert_eq!(opened(&wx, &crypt("wx2").seal(b"hi", [7; 16])), Err(Refused::Signature));
        let signed = Signed { signature: "00", timestamp: "1409735669", nonce: "nonce" };
        assert_eq!(wx.open(&signed, &wx.seal(b"hi", [7; 16])), Err(Refused::Signature));
    }

    #[test]
    fn no_change_of_a_message_tells_what_was_wrong() {
        let wx = crypt("wx1");
        let sealed = STANDARD.decode(wx.seal(b"<xml>0123456789</xml>", [7; 16])).unwrap();
        // As an attack on the padding tries it: every value of every byte, of the last two blocks above all.
        let mut told = std::collections::BTreeSet::new();
        for place in sealed.len() - 32..sealed.len() {
            for value in 0..=u8::MAX {
                let mut tried = sealed.clone();
                tried[place] = value;
                if tried != sealed {
                    told.insert(format!("{:?}", opened(&wx, &STANDARD.encode(tried)).map_err(|why| why.to_string())));
                }
            }
        }
        assert_eq!(told.into_iter().collect::<Vec<_>>(), ["Err(\"not signed by the provider\")"]);
        for cut in 0..sealed.len() {
            assert!(opened(&wx, &STANDARD.encode(&sealed[..cut])).is_err(), "{cut}");
        }
        assert!(opened(&wx, "not base64").is_err() && opened(&wx, "").is_err());
    }

    #[test]
    fn a_key_has_43_characters() {
        for wrong in
            ["", "abc", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG=", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"]
        {
            assert!(AesKey::read(wrong).is_none(), "{wrong}");
        }
    }
}
