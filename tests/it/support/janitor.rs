//! Runs one server process that surely ends with the test process, even when that is killed.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

/// A shell that looks after one server process and its directory; see `janitor.sh`.
///
/// It reads from a pipe that the test process holds. The pipe closes when that process ends, however it ends.
pub(crate) struct Janitor {
    dir: PathBuf,
    shell: Mutex<Shell>,
    pid: AtomicU32,
}

struct Shell {
    child: Child,
    // `None` only while dropping.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What a janitor runs.
pub(crate) struct Job<'a> {
    /// The server's directory, removed at the end.
    pub(crate) dir: &'a Path,
    /// The signal that ends the server at once without leaving anything behind.
    pub(crate) end_signal: &'a str,
    /// Program and arguments.
    pub(crate) command: &'a [String],
    /// Its environment, on top of ours.
    pub(crate) env: &'a [(String, String)],
}

/// How long a server may take to start. RabbitMQ needs 3 s alone and a minute on a machine that compiles.
pub(crate) const START_MAX: Duration = Duration::from_secs(180);

// === impl Janitor ===

impl Janitor {
    pub(crate) fn hire(job: &Job<'_>) -> Self {
        // A session of its own: Ctrl-C on the tests must not end the janitor before its work is done, and the kernel shares
        // the processors out by sessions. (PostgreSQL's processes are each one; all others together would get no more than
        // one of them.)
        let mut child = Command::new("setsid")
            .args(["sh", "-c", include_str!("janitor.sh"), "janitor"])
            .arg(job.dir)
            .arg(job.end_signal)
            .args(job.command)
            .envs(job.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a POSIX shell, and setsid of util-linux");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a piped output"));
        Self { dir: job.dir.to_owned(), shell: Mutex::new(Shell { child, input, output }), pid: AtomicU32::new(0) }
    }

    /// Starts the server and waits until `ready`.
    pub(crate) fn start(&self, ready: impl Fn() -> bool) {
        self.start_with(None, ready);
    }

    /// Starts the server with one more variable, as `NAME=value`, and waits until `ready`; or until it has died where it is
    /// made to, which may be before anybody saw it ready.
    pub(crate) fn start_with(&self, variable: Option<&str>, ready: impl Fn() -> bool) {
        const PAUSE: Duration = Duration::from_millis(50);
        const TRIES: u32 = 3;
        let crashes = || self.log().matches("crash point ").count();
        let before = crashes();
        for _ in 0..TRIES {
            let pid = self.shell().say(&format!("start {}", variable.unwrap_or_default()));
            self.pid.store(pid.parse().expect("a process id"), Ordering::SeqCst);
            for _ in 0..(START_MAX.as_millis() / PAUSE.as_millis()) {
                if ready() {
                    return;
                }
                if self.ended() {
                    if crashes() > before {
                        return;
                    }
                    break; // A port or a lock of the run before may not be free yet.
                }
                std::thread::sleep(PAUSE);
            }
            assert!(self.ended(), "no answer within {START_MAX:?}; the log:\n{}", self.log());
            self.end("KILL");
            std::thread::sleep(10 * PAUSE);
        }
        panic!("the server in {} did not start; its log:\n{}", self.dir.display(), self.log());
    }

    /// Sends a signal such as `KILL` and waits until the server has ended. Harmless when it has ended already.
    pub(crate) fn end(&self, signal: &str) {
        self.shell().say(&format!("end {signal}"));
    }

    /// Returns the process id of the server that was started last.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::SeqCst)
    }

    /// Returns whether the server has ended by itself, as a zombie or wholly.
    pub(crate) fn ended(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
    }

    /// Returns what the server has written to standard output and error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn shell(&self) -> std::sync::MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        let mut shell = self.shell();
        shell.input = None;
        let _reaped = shell.child.wait();
    }
}

// === impl Shell ===

impl Shell {
    fn say(&mut self, line: &str) -> String {
        let input = self.input.as_mut().expect("an open pipe");
        writeln!(input, "{line}").expect("a living janitor");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("a living janitor");
        answer.trim().to_owned()
    }
}

/// Returns a port that is free on loopback, for TCP and for UDP.
///
/// Taken from below the range that the system gives to outgoing connections, so that it is still free when a killed
/// server wants it back.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 17_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin at different places.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than COUNT");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let place = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
