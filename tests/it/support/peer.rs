//! A program that we did not write, or that is made of what we did not write: it says on standard output what happens, one
//! JSON object a line, and is told on standard input what to do.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// A running peer. It ends when this is dropped, and when the test process ends: it reads from a pipe that closes then.
pub(crate) struct Peer {
    port: u16,
    child: Child,
    stdin: Mutex<ChildStdin>,
    events: Arc<Mutex<Vec<Value>>>,
}

/// How often events are looked at.
const POLL: Duration = Duration::from_millis(5);

// === impl Peer ===

impl Peer {
    /// Starts a program of `tests/peers` in the Python that has what they need.
    pub(crate) fn python(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(python());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(program)).args(arguments);
        Self::run(command, "Python with tests/peers/requirements.txt: run deploy/test.sh, which makes it")
    }

    /// Runs a command that says first where it listens; `missing` says how to get it where it is not there.
    pub(crate) fn run(mut command: Command, missing: &str) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(missing);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let first = lines.next().expect("a line").expect("text");
        let first: Value = serde_json::from_str(&first).expect("JSON");
        let port = first["listening"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let collected = Arc::clone(&events);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).expect("JSON");
                collected.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        let stdin = Mutex::new(child.stdin.take().expect("a pipe"));
        Self { port, child, stdin, events }
    }

    /// Returns the port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Gives it a command, such as `mo FROM TO TEXT`.
    pub(crate) fn command(&self, line: &str) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(stdin, "{line}").expect("a running peer");
    }

    /// Returns the events of that name so far.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// Returns every event so far, in order.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are so many events of that name, and returns all of them.
    ///
    /// # Panics
    /// After 20 s.
    pub(crate) async fn wait_for(&self, name: &str, count: usize) -> Vec<Value> {
        for _ in 0..20_000 / POLL.as_millis() {
            let events = self.events(name);
            if events.len() >= count {
                return events;
            }
            postrider::domain::time::Clock::system().pause(POLL).await;
        }
        panic!("the peer said `{name}` {} times in 20 s, not {count} times", self.events(name).len());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Returns the Python that has what the peers need.
pub(crate) fn python() -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/venv/bin/python");
    std::env::var_os("POSTRIDER_TEST_PYTHON").map_or(made, PathBuf::from)
}
