//! Exports the metrics to Prometheus, over a small HTTP server of our own: one path, bounded in everything.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::metrics::{BUILD_INFO, FAST_SECONDS, SLOW_SECONDS, Shape, TABLE};
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// How often the exporter empties what histograms have buffered. Without it they grow while nobody scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How long one scrape may take, request and answer.
const SCRAPE_MAX: Duration = Duration::from_secs(10);
/// Most scrapes at a time; more are closed at once.
const SCRAPES_MAX: usize = 8;
/// Longest request head; Prometheus sends some hundred bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Reads what was counted.
#[derive(Clone, Debug)]
pub struct Exporter {
    handle: PrometheusHandle,
}

/// An HTTP server for the metrics that is bound and not serving yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    exporter: Exporter,
}

/// Makes every handle of the process count, from now on. A second call returns the first exporter.
pub fn install() -> Exporter {
    static INSTALLED: OnceLock<Exporter> = OnceLock::new();
    INSTALLED
        .get_or_init(|| {
            let recorder = builder().build_recorder();
            let exporter = Exporter { handle: recorder.handle() };
            // Fails only where a test has installed a recorder of its own.
            let _other = metrics::set_global_recorder(recorder);
            describe();
            exporter
        })
        .clone()
}

// === impl Exporter ===

impl Exporter {
    /// Returns everything that was counted, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Binds the HTTP server.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(&self, listen: SocketAddr) -> io::Result<Listener> {
        Ok(Listener { listener: TcpListener::bind(listen).await?, exporter: self.clone() })
    }

    /// Keeps the exporter's memory bounded until `tasks` stop.
    pub fn keep_up(&self, clock: &Clock, tasks: &Tasks) {
        let (handle, clock, stop) = (self.handle.clone(), clock.clone(), tasks.stop().clone());
        tasks.spawn("metrics_upkeep", async move {
            while stop.run_until_cancelled(clock.pause(UPKEEP_EVERY)).await.is_some() {
                handle.run_upkeep();
            }
        });
    }
}

// === impl Listener ===

impl Listener {
    /// Returns the address it is bound to.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers scrapes until `tasks` stop.
    pub fn spawn(self, clock: &Clock, tasks: &Tasks) {
        let (clock, group) = (clock.clone(), tasks.clone());
        tasks.spawn("metrics_listener", async move {
            let scrapes = Arc::new(Semaphore::new(SCRAPES_MAX));
            while let Some(accepted) = group.stop().run_until_cancelled(self.listener.accept()).await {
                let Ok((stream, _peer)) = accepted else {
                    // Out of file descriptors, most likely: others will close theirs.
                    clock.pause(Duration::from_millis(100)).await;
                    continue;
                };
                let Ok(permit) = Arc::clone(&scrapes).try_acquire_owned() else { continue };
                let (exporter, clock) = (self.exporter.clone(), clock.clone());
                group.spawn("metrics_scrape", async move {
                    // A scraper that is slow or gone is its own problem.
                    let _ended = clock.timeout(SCRAPE_MAX, answer(stream, &exporter)).await;
                    drop(permit);
                });
            }
        });
    }
}

fn builder() -> PrometheusBuilder {
    TABLE.iter().fold(PrometheusBuilder::new(), |builder, metric| {
        let buckets = match metric.shape {
            Shape::Counter | Shape::Gauge => return builder,
            Shape::FastSeconds => FAST_SECONDS,
            Shape::SlowSeconds => SLOW_SECONDS,
        };
        // Fails only for an empty list of buckets.
        builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets).unwrap_or_default()
    })
}

fn describe() {
    for metric in TABLE {
        match metric.shape {
            Shape::Counter => describe_counter!(metric.name, metric.help),
            Shape::Gauge => describe_gauge!(metric.name, metric.help),
            Shape::FastSeconds | Shape::SlowSeconds => describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
    }
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

async fn answer(mut stream: TcpStream, exporter: &Exporter) -> io::Result<()> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut part).await?;
        if read == 0 || head.len() + read > HEAD_BYTES_MAX {
            return respond(&mut stream, "400 Bad Request", "a request head of at most 8 KiB is expected\n").await;
        }
        head.extend_from_slice(&part[..read]);
    }
    let path = head.strip_prefix(b"GET ").and_then(|rest| rest.split(|&byte| byte == b' ' || byte == b'?').next());
    match path {
        Some(b"/metrics") => respond(&mut stream, "200 OK", &exporter.render()).await,
        Some(_) => respond(&mut stream, "404 Not Found", "metrics are at /metrics\n").await,
        None => respond(&mut stream, "405 Method Not Allowed", "only GET is answered\n").await,
    }
}

async fn respond(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Returns what is exported after `count`, and nothing that other tests count.
#[cfg(test)]
pub(crate) fn capture(count: impl FnOnce()) -> String {
    let recorder = builder().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        count();
    });
    recorder.handle().render()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn scrapes_are_answered_and_anything_else_is_told_what_to_do() {
        let (clock, tasks) = (Clock::system(), Tasks::new());
        let exporter = install();
        exporter.keep_up(&clock, &tasks);
        let listener = exporter.bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap();
        listener.spawn(&clock, &tasks);
        let scrape = ask(address, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(scrape.starts_with("HTTP/1.1 200 OK\r\n"), "{scrape}");
        assert!(scrape.contains("postrider_build_info{version="), "{scrape}");
        assert!(ask(address, b"GET /other HTTP/1.1\r\n\r\n").await.contains("404"));
        assert!(ask(address, b"POST /metrics HTTP/1.1\r\n\r\n").await.contains("405"));
        assert!(ask(address, &[b'x'; HEAD_BYTES_MAX + 1]).await.contains("400"));
        assert_eq!(tasks.finish(&clock, Duration::from_secs(5)).await, 0, "tasks left");
    }
}
