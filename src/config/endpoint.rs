//! Where a provider's HTTP API is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The base URL of an HTTP API: `https://host[:port][/path]`, or plain `http` on loopback.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    secure: bool,
    host: Box<str>,
    port: u16,
    path: Box<str>,
}

/// The text is no base URL that secrets may be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// Neither `https` nor `http`.
    #[error("must start with https:// (or http:// on loopback)")]
    Scheme,
    /// No host, no such port, or what a base URL has not.
    #[error("not a base URL such as \"https://api.example.com\"; without user, query and fragment")]
    Form,
    /// Secrets and numbers would cross a network in the clear.
    #[error("plain http is for loopback only: secrets and numbers would cross a network in the clear")]
    Plain,
}

impl Endpoint {
    /// Returns whether the connection is TLS.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Returns the host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path in front of every request's own, without a slash at its end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns host and port as a `Host` header says them: the port only where it is not the usual one.
    pub fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;
    fn from_str(raw: &str) -> Result<Self, InvalidEndpoint> {
        let (secure, rest) = match (raw.strip_prefix("https://"), raw.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(InvalidEndpoint::Scheme),
        };
        let visible = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'?' | b'#' | b'\\' | b'"');
        if !rest.bytes().all(visible) {
            return Err(InvalidEndpoint::Form);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let usual = if secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            // Within brackets a colon is part of the address.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().ok().filter(|&port| port > 0).ok_or(InvalidEndpoint::Form)?)
            }
            _ => (authority, usual),
        };
        if host.is_empty() || host.starts_with('[') != host.ends_with(']') {
            return Err(InvalidEndpoint::Form);
        }
        let loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !secure && !loopback {
            return Err(InvalidEndpoint::Plain);
        }
        Ok(Self { secure, host: host.into(), port, path: path.trim_end_matches('/').into() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.secure { "https" } else { "http" }, self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, InvalidEndpoint>) {
        let read = raw.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
        assert_eq!(read, expected.map(str::to_owned), "input: {raw:?}");
    }

    #[test]
    fn secrets_go_over_tls_or_stay_on_the_machine() {
        check("https://api.example.com", Ok("https://api.example.com"));
        check("https://api.example.com:443/", Ok("https://api.example.com"));
        check("https://api.example.com:8443/v1/", Ok("https://api.example.com:8443/v1"));
        check("http://127.0.0.1:9000", Ok("http://127.0.0.1:9000"));
        check("http://[::1]:9000/a", Ok("http://[::1]:9000/a"));
        check("http://localhost", Ok("http://localhost"));
        check("http://api.example.com", Err(InvalidEndpoint::Plain));
        check("http://localhost.example.com", Err(InvalidEndpoint::Plain));
        check("ftp://api.example.com", Err(InvalidEndpoint::Scheme));
        for raw in
            ["https://", "https://:1", "https://a:b@c", "https://a:0", "https://a:x", "https://a/?b", "https://a b"]
        {
            check(raw, Err(InvalidEndpoint::Form));
        }
    }
}
