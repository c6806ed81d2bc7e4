//! Rates: how fast work may leave, as tokens per second with a burst.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// A token bucket's numbers: a steady rate per second, and how many may go at once after a quiet time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Tokens that come back per second.
    pub per_s: NonZeroU32,
    /// Most tokens the bucket holds.
    pub burst: NonZeroU32,
}

/// The text is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    /// Not `N/s` or `N/s:burst`.
    #[error("a rate reads like \"500/s\" or \"500/s:1000\" (burst of 1000)")]
    Shape,
    /// Zero never sends anything.
    #[error("a rate must be at least 1/s and a burst at least 1")]
    Zero,
}

impl Rate {
    /// Returns a rate whose burst is one second's worth.
    pub fn per_second(per_s: NonZeroU32) -> Self {
        Self { per_s, burst: per_s }
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;
    fn from_str(raw: &str) -> Result<Self, InvalidRate> {
        let (rate, burst) = raw.split_once(':').map_or((raw, None), |(rate, burst)| (rate, Some(burst)));
        let number = |raw: &str| {
            let value: u32 = raw.trim().parse().map_err(|_| InvalidRate::Shape)?;
            NonZeroU32::new(value).ok_or(InvalidRate::Zero)
        };
        let per_s = number(rate.trim().strip_suffix("/s").ok_or(InvalidRate::Shape)?)?;
        let burst = burst.map_or(Ok(per_s), number)?;
        Ok(Self { per_s, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per_s == self.burst {
            write!(f, "{}/s", self.per_s)
        } else {
            write!(f, "{}/s:{}", self.per_s, self.burst)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, InvalidRate>) {
        assert_eq!(raw.parse::<Rate>().map(|rate| rate.to_string()), expected.map(str::to_owned), "input: {raw:?}");
    }

    #[test]
    fn rates_read_like_people_write_them() {
        check("5000/s", Ok("5000/s"));
        check("10/s:100", Ok("10/s:100"));
        check("10", Err(InvalidRate::Shape));
        check("-1/s", Err(InvalidRate::Shape));
        check("0/s", Err(InvalidRate::Zero));
        check("5/s:0", Err(InvalidRate::Zero));
    }
}
