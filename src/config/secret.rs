//! Values that are shown to nobody.

use std::fmt;

/// A password. Shown nowhere; [`Secret::reveal`] gives it to the one who needs it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// The URL of a server, perhaps with a password, which is masked wherever the URL is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Box<str>);

impl Secret {
    /// Returns a secret.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the plain value.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl ServerUrl {
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the plain URL, password included.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = || {
            let (scheme, rest) = self.0.split_once("://")?;
            // A password may hold any of the other separators, and people forget to escape them.
            let (user_info, host) = rest.rsplit_once('@')?;
            let (user, _password) = user_info.split_once(':')?;
            Some(format!("{scheme}://{user}:***@{host}"))
        };
        // Parameters may hold one as well, as in `?password=`.
        let shown = masked().unwrap_or_else(|| self.0.to_string());
        f.write_str(shown.split_once('?').map_or(shown.as_str(), |(plain, _parameters)| plain))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}
