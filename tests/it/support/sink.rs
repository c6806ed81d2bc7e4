//! An SMSC that remembers: each hand-over is in an fsynced file before it is answered, whatever happens to the service.

use std::collections::HashSet;

use serde_json::Value;

use super::smsc::Smsc;

/// A running [`Smsc`] with its file.
pub(crate) struct Sink {
    smsc: Smsc,
    dir: tempfile::TempDir,
}

/// One submit_sm as the SMSC saw it.
#[derive(Clone, Debug)]
pub(crate) struct Submit {
    /// The number or name that it came from.
    pub(crate) from: String,
    /// The recipient's number, without `+`.
    pub(crate) to: String,
    /// user_message_reference.
    pub(crate) reference: Option<u64>,
    /// What the SMSC answered, or would have answered where it was told to be silent.
    pub(crate) status: u64,
    /// The text.
    pub(crate) text: String,
}

impl Sink {
    /// Starts an SMSC that behaves as its options say; see `tests/peers/smsc.js`.
    pub(crate) fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let mut arguments = vec!["--log", file.to_str().unwrap()];
        arguments.extend(options);
        Self { smsc: Smsc::start(&arguments), dir }
    }

    /// Returns the port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.smsc.port()
    }

    /// Gives it a command; see `tests/peers/smsc.js`.
    pub(crate) fn say(&self, line: &str) {
        self.smsc.command(line);
    }

    /// Returns every submit_sm so far, in order.
    pub(crate) fn submits(&self) -> Vec<Submit> {
        let text = std::fs::read_to_string(self.dir.path().join(FILE)).unwrap_or_default();
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| submit(&serde_json::from_str(line).unwrap())).collect()
    }

    /// Returns how many messages for some numbers the SMSC took.
    pub(crate) fn reached(&self, among: &[String]) -> usize {
        let among: HashSet<_> = among.iter().map(|number| number.trim_start_matches('+')).collect();
        self.taken().iter().filter(|submit| among.contains(&*submit.to)).count()
    }

    /// Returns the submit_sms that the SMSC took, in order.
    pub(crate) fn taken(&self) -> Vec<Submit> {
        self.submits().into_iter().filter(|submit| submit.status == 0).collect()
    }
}

const FILE: &str = "submits.jsonl";

fn submit(line: &Value) -> Option<Submit> {
    (line["event"] == "submit").then(|| Submit {
        from: line["from"].as_str().unwrap_or_default().to_owned(),
        to: line["to"].as_str().unwrap_or_default().to_owned(),
        reference: line["reference"].as_u64(),
        status: line["status"].as_u64().unwrap_or_default(),
        text: line["text"].as_str().unwrap_or_default().to_owned(),
    })
}
