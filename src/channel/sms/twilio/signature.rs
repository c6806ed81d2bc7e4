//! How Twilio signs what it sends: `X-Twilio-Signature`, the base64 of the HMAC-SHA1, under the account's token, of the
//! URL and the sorted parameters (twilio.com/docs/usage/security#validating-requests).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::super::super::callback::Call;

/// The header that holds the signature.
pub const HEADER: &str = "x-twilio-signature";

/// Returns the signature of a form that is posted to `url`.
pub fn sign(token: &str, url: &str, form: &[u8]) -> String {
    STANDARD.encode(hmac::sign(&key(token), signed(url, form).as_bytes()))
}

/// Returns whether `signature` is that of a form that was posted to `url`. Twilio leaves the port out of what it signs,
/// or not, so a URL counts with and without its usual port.
pub fn verify(token: &str, url: &str, form: &[u8], signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else { return false };
    let good = |url: &str| hmac::verify(&key(token), signed(url, form).as_bytes(), &signature).is_ok();
    good(url) || good(&other_port(url))
}

/// Returns whether a request is signed whose path stands behind `public_url` in what was called, and in front of
/// `fragment` in what Twilio was given.
pub fn signed_by(token: &str, (public_url, fragment): (&str, &str), call: &Call<'_>) -> bool {
    let signature = call.headers.get(HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    verify(token, &format!("{public_url}{}{fragment}", call.target), call.body, signature)
}

fn key(token: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes())
}

fn signed(url: &str, form: &[u8]) -> String {
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(form).collect();
    pairs.sort();
    pairs.dedup();
    pairs.into_iter().fold(url.to_owned(), |text, (name, value)| text + &name + &value)
}

/// Returns the same URL with its port if it has none, without it if it has one.
fn other_port(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{scheme}://{host}{path}"),
        _ => format!("{scheme}://{authority}:{}{path}", if scheme == "https" { 443 } else { 80 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Twilio's documentation.
    const TOKEN: &str = "12345";
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
    const FORM: &[u8] =
        b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

    #[test]
    fn the_documented_example_is_signed_as_documented() {
        assert_eq!(sign(TOKEN, URL, FORM), SIGNATURE);
        assert!(verify(TOKEN, URL, FORM, SIGNATURE));
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(!verify("12346", URL, FORM, SIGNATURE));
        assert!(!verify(TOKEN, "https://mycompany.com/myapp.php?foo=1&bar=3", FORM, SIGNATURE));
        assert!(!verify(TOKEN, URL, &FORM[..FORM.len() - 1], SIGNATURE));
        for wrong in ["", "RSOYDt4T1cUTdK1PDd93/VVr8B9=", "not base64", "AAAA"] {
            assert!(!verify(TOKEN, URL, FORM, wrong), "{wrong}");
        }
    }

    #[test]
    fn the_usual_port_may_be_there_or_not() {
        let with_port = sign(TOKEN, "https://mycompany.com:443/myapp.php?foo=1&bar=2", FORM);
        assert!(verify(TOKEN, URL, FORM, &with_port));
        let without = sign(TOKEN, "http://127.0.0.1/a", b"");
        assert!(verify(TOKEN, "http://127.0.0.1:8080/a", b"", &without));
    }
}
