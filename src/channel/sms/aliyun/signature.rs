//! How requests to Aliyun are signed: signature version 3, ACS3-HMAC-SHA256 (help.aliyun.com/document_detail/2593177.html).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;

use super::super::super::digest::{hex, sha256};

/// The algorithm, as requests name it.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// What stays as it is in a query (RFC 3986): letters, digits and `-_.~`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A request, as far as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The parameters of the query.
    pub query: &'a [(String, String)],
    /// The headers that are signed, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The SHA-256 of the body, in hexadecimal digits.
    pub body_hash: &'a str,
}

impl Signed<'_> {
    /// Returns the `Authorization` header.
    pub fn authorization(&self, key_id: &str, secret: &str) -> String {
        let (names, signature) = self.sign(secret);
        format!("{ALGORITHM} Credential={key_id},SignedHeaders={names},Signature={signature}")
    }

    /// Returns the names of the signed headers, and the signature.
    pub fn sign(&self, secret: &str) -> (String, String) {
        let mut headers = self.headers.to_vec();
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let Self { method, path, body_hash, .. } = self;
        let canonical = format!("{method}\n{path}\n{}\n{lines}\n{names}\n{body_hash}", query(self.query));
        let text = format!("{ALGORITHM}\n{}", sha256(canonical.as_bytes()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        (names, hex(hmac::sign(&key, text.as_bytes()).as_ref()))
    }
}

/// Returns a query, its parameters sorted and encoded.
pub fn query(parameters: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = parameters.iter().collect();
    sorted.sort();
    let encode = |text| utf8_percent_encode(text, ENCODED).to_string();
    sorted.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Aliyun's documentation, with this date and nonce.
    fn documented(date: &str, nonce: &str) -> String {
        let query = [
            ("ImageId".to_owned(), "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd".to_owned()),
            ("RegionId".to_owned(), "cn-shanghai".to_owned()),
        ];
        let body_hash = sha256(b"");
        let headers = [
            ("host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-version", "2014-05-26"),
            ("x-acs-content-sha256", &body_hash),
            ("x-acs-date", date),
            ("x-acs-signature-nonce", nonce),
        ];
        let signed = Signed { method: "POST", path: "/", query: &query, headers: &headers, body_hash: &body_hash };
        signed.sign("YourAccessKeySecret").1
    }

    #[test]
    fn the_documented_examples_are_signed_as_documented() {
        assert_eq!(
            documented("2023-10-26T10:22:32Z", "3156853299f313e23d1673dc12e1703d"),
            "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
        assert_eq!(
            documented("2023-10-26T09:01:01Z", "d410180a5abf7fe235dd9b74aca91fc0"),
            "e521358f7776c97df52e6b2891a8bc73026794a071b50c3323388c4e0df64804"
        );
    }

    #[test]
    fn a_query_is_sorted_and_encoded_to_the_letter() {
        let parameters = [("b", "a b*~"), ("B", "+/"), ("a", "你")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(query(&parameters), "B=%2B%2F&a=%E4%BD%A0&b=a%20b%2A~");
    }
}
