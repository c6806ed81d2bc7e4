//! How requests to Tencent Cloud are signed: TC3-HMAC-SHA256 (cloud.tencent.com/document/api/382/52072).

use ring::hmac;

use super::super::super::digest::{hex, sha256};
use crate::domain::time::UnixMicros;

/// The algorithm, as requests name it.
pub const ALGORITHM: &str = "TC3-HMAC-SHA256";

/// A POST request to `/`, as far as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The product, such as `sms`.
    pub service: &'a str,
    /// The headers that are signed: names in lower case and in order, values in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
    /// When.
    pub at: UnixMicros,
}

impl Signed<'_> {
    /// Returns the `Authorization` header.
    pub fn authorization(&self, secret_id: &str, secret_key: &str) -> String {
        let Self { service, at, .. } = self;
        let (names, signature) = self.sign(secret_key);
        let date = date(*at);
        format!(
            "{ALGORITHM} Credential={secret_id}/{date}/{service}/tc3_request, SignedHeaders={names}, \
             Signature={signature}"
        )
    }

    /// Returns the names of the signed headers, and the signature.
    pub fn sign(&self, secret_key: &str) -> (String, String) {
        let Self { service, at, .. } = self;
        let names = self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = self.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", sha256(self.body));
        let date = date(*at);
        let scope = format!("{date}/{service}/tc3_request");
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{}", at.as_secs(), sha256(canonical.as_bytes()));
        let first = format!("TC3{secret_key}").into_bytes();
        let key = [date.as_bytes(), service.as_bytes(), b"tc3_request"].iter().fold(first, |key, part| mac(&key, part));
        (names, hex(&mac(&key, text.as_bytes())))
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// Returns the day, in UTC.
fn date(at: UnixMicros) -> String {
    let time = jiff::Timestamp::from_second(at.as_secs()).unwrap_or_default();
    time.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Tencent's documentation; the escapes are part of the text.
    const BODY: &[u8] = br#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#;

    #[track_caller]
    fn check(secret: &str, headers: &[(&str, &str)], expected: &str) {
        let signed = Signed { service: "cvm", headers, body: BODY, at: UnixMicros::from_secs(1_551_113_065) };
        assert_eq!(signed.sign(secret).1, expected);
    }

    #[test]
    fn the_documented_examples_are_signed_as_documented() {
        let plain = [("content-type", "application/json; charset=utf-8"), ("host", "cvm.tencentcloudapi.com")];
        let with_action = [plain[0], plain[1], ("x-tc-action", "describeinstances")];
        let stars = "Gu5t9xGARNpq86cd98joQYCN3*******";
        check(stars, &with_action, "be4f67d323c78ab9acb7395e43c0dbcf822a9cfac32fea2449a7bc7726b770a3");
        let example = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE";
        check(example, &plain, "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168");
    }
}
