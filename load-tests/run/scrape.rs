//! Reads the service's metrics.

use std::collections::BTreeMap;
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
        self.samples(name).map(|(_, value)| value).sum()
    }

    /// Returns the sums of a metric by one of its labels.
    pub(crate) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mark = format!("{label}=\"");
        let mut sums = BTreeMap::new();
        for (labels, value) in self.samples(name) {
            if let Some((word, _)) = labels.split_once(&mark).and_then(|(_, rest)| rest.split_once('"')) {
                *sums.entry(word.to_owned()).or_default() += value;
            }
        }
        sums
    }

    /// Returns the buckets of a histogram, each with its bound and how many are within it, in order.
    pub(crate) fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let counts = self.by(&format!("{name}_bucket"), "le");
        let bound = |(word, count): (&String, &f64)| Some((word.parse().ok()?, *count));
        let mut buckets: Vec<(f64, f64)> = counts.iter().filter_map(bound).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }

    /// Returns the samples of a metric: labels and value.
    fn samples(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
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
        assert_eq!(metrics.by("a_total", "x")["1"], 2.0);
        let text = "h_bucket{le=\"1\"} 2\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n";
        let buckets = Metrics(text.to_owned()).buckets("h");
        assert_eq!(buckets, [(0.5, 1.0), (1.0, 2.0), (f64::INFINITY, 3.0)]);
    }
}
