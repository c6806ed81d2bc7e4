//! A private Prometheus that scrapes one service.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::janitor::{Janitor, Job, free_port};
use crate::support::servers::{program, server_dir};

/// A Prometheus that looks at one target every second.
pub(super) struct Prometheus {
    _janitor: Janitor,
    port: u16,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `target` on loopback as the job `postrider`, with the rules of a file.
    pub(super) fn scraping(target: u16, rules: &Path) -> Self {
        let program = program("prometheus", &["/usr/bin"], "prometheus");
        let (dir, port) = (server_dir("prometheus"), free_port());
        let settings = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [{:?}]\nscrape_configs:\n  \
             - job_name: postrider\n    static_configs: [{{targets: [\"127.0.0.1:{target}\"]}}]\n",
            rules
        );
        fs::write(dir.join("prometheus.yml"), settings).expect("a writable temporary directory");
        let command = [
            program.display().to_string(),
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--log.level=warn".into(),
        ];
        let janitor = Janitor::hire(&Job { dir: &dir, end_signal: "KILL", command: &command, env: &[] });
        janitor.start(|| ask(port, "/-/ready").is_ok_and(|(status, _)| status == "200"));
        Self { _janitor: janitor, port }
    }

    /// Returns the values that a query has now, or what Prometheus says against it.
    pub(super) fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let mut path = String::from("/api/v1/query?query=");
        query.bytes().for_each(|byte| write!(path, "%{byte:02X}").unwrap());
        let (_, body) = ask(self.port, &path).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        let Some(series) = answer["data"]["result"].as_array() else { return Err(answer["error"].to_string()) };
        Ok(series.iter().map(|series| series["value"][1].as_str().unwrap().parse().unwrap()).collect())
    }

    /// Returns the rules that cannot be evaluated, each with why.
    pub(super) fn failing_rules(&self) -> Vec<String> {
        let (_, body) = ask(self.port, "/api/v1/rules").unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules
            .filter(|rule| rule["health"] == "err")
            .map(|rule| format!("{}: {}", rule["name"], rule["lastError"]))
            .collect()
    }
}

/// Asks for a page, and returns status and body. As HTTP/1.0: the body is as long as the connection.
fn ask(port: u16, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: prometheus\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok((head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned()))
}
