//! Reads the service's metrics.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// All samples of one moment.
#[derive(Clone, Default, Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks the service.
    pub(crate) async fn scrape(at: SocketAddr) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(at).await?;
        // Version 1.0: the answer comes in one piece, and the connection ends with it.
        stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        Ok(Self(answer))
    }

    /// Returns the sum over all labels of a metric; 0 where there is none.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let samples = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.trim().parse::<f64>().ok()
        });
        samples.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_their_labels() {
        let text = "# HELP a b\na_total{x=\"1\"} 2\na_total{x=\"y} z\"} 3.5\na_total_more 9\nb 4\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.sum("a_total"), 5.5);
        assert_eq!(metrics.sum("b"), 4.0);
        assert_eq!(metrics.sum("c"), 0.0);
    }
}
