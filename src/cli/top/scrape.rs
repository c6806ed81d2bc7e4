//! Asks processes for their metrics, all at once.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::sample::Sample;
use crate::domain::time::Clock;

/// How long a process may take; one that takes longer is shown as away.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where a process shows its metrics, as people write it: `host:port`, `http://host:port` or with `/metrics` behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    /// Host and port.
    at: Box<str>,
}

/// One look at every process.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    /// In the order of the command line.
    pub(super) processes: Vec<Process>,
}

/// One process, and what it said, or why it said nothing.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) at: Box<str>,
    pub(super) said: Result<Sample, Box<str>>,
}

/// Asks every process.
pub(super) async fn sweep(endpoints: &[Endpoint], clock: &Clock) -> Sweep {
    let ask = async |endpoint: &Endpoint| Process { at: endpoint.at.clone(), said: scrape(endpoint, clock).await };
    Sweep { processes: join_all(endpoints.iter().map(ask)).await }
}

async fn scrape(endpoint: &Endpoint, clock: &Clock) -> Result<Sample, Box<str>> {
    let answer = clock.timeout(ANSWER_MAX, get(&endpoint.at)).await;
    let answer = answer.map_err(|_| "no answer within 3 s")?.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let sample = Sample::parse(body);
    match head.split(' ').nth(1) {
        Some("200") if sample.is_ours() => Ok(sample),
        Some("200") => Err("it shows metrics, and none of a postrider".into()),
        Some(status) => Err(format!("it answers {status}, not with metrics").into()),
        None => Err("it does not speak HTTP".into()),
    }
}

/// As HTTP/1.0: the answer comes in one piece, and the connection ends with it.
async fn get(at: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

impl std::str::FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        const HOW: &str = "write HOST:PORT, such as 127.0.0.1:9464; metrics have no TLS";
        let rest = raw.strip_prefix("http://").unwrap_or(raw);
        let at = rest.strip_suffix("/metrics").unwrap_or(rest).trim_end_matches('/');
        let (host, port) = at.rsplit_once(':').ok_or(HOW)?;
        if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
            return Err(HOW);
        }
        Ok(Self { at: at.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        for raw in
            ["localhost:9464", "http://localhost:9464", "http://localhost:9464/", "http://localhost:9464/metrics"]
        {
            assert_eq!(raw.parse(), Ok(Endpoint { at: "localhost:9464".into() }), "{raw}");
        }
        assert!("[::1]:9464".parse::<Endpoint>().is_ok());
        for raw in ["", "localhost", "https://localhost:9464", ":9464", "localhost:http", "http://a/b:1"] {
            raw.parse::<Endpoint>().expect_err(raw);
        }
    }

    #[tokio::test]
    async fn who_does_not_answer_is_told_apart() {
        let clock = Clock::system();
        let nobody: Endpoint = "127.0.0.1:9".parse().unwrap();
        let sweep = sweep(&[nobody.clone(), nobody], &clock).await;
        assert_eq!(sweep.processes.len(), 2);
        assert!(sweep.processes.iter().all(|process| process.said.is_err()));
    }
}
