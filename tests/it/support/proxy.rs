//! A faulty network: a TCP proxy that cuts, stalls and crumbles on command.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Stands between a client and a server on loopback. Dropping it cuts every connection.
pub(crate) struct Proxy {
    port: u16,
    wire: Arc<Wire>,
}

/// Which way bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// What all connections share.
struct Wire {
    target: SocketAddr,
    ended: AtomicBool,
    refusing: AtomicBool,
    to_server: Way,
    to_client: Way,
    live: Mutex<Vec<(u64, TcpStream, TcpStream)>>,
    next: AtomicU64,
}

/// One direction.
struct Way {
    stalled: AtomicBool,
    crumbling: AtomicBool,
    // Bytes that may still pass before everything is cut; negative: no limit.
    left: AtomicI64,
    passed: AtomicU64,
}

const NO_LIMIT: i64 = -1;
/// Bytes that pass at a time where everything crumbles: less than most frames that carry something.
const CRUMB: usize = 61;
/// How soon a command is noticed.
const TICK: Duration = Duration::from_millis(5);

// === impl Proxy ===

impl Proxy {
    /// Starts a proxy to `port` on loopback.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let own_port = listener.local_addr().expect("a bound listener").port();
        let wire = Arc::new(Wire {
            target: (Ipv4Addr::LOCALHOST, port).into(),
            ended: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            to_server: Way::open(),
            to_client: Way::open(),
            live: Mutex::default(),
            next: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&wire);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { port: own_port, wire }
    }

    /// Returns the port that clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection now. New ones are accepted.
    pub(crate) fn cut(&self) {
        self.wire.cut();
    }

    /// Lets `bytes` more pass in a direction, over all connections, then cuts every connection once.
    pub(crate) fn cut_after(&self, direction: Direction, bytes: u32) {
        self.wire.way(direction).left.store(i64::from(bytes), Ordering::SeqCst);
    }

    /// Lets nothing more pass in a direction; connections stay open, as with a peer that hangs.
    pub(crate) fn stall(&self, direction: Direction) {
        self.wire.way(direction).stalled.store(true, Ordering::SeqCst);
    }

    /// Lets what passes in a direction arrive crumb by crumb, so that what was sent together may be read apart.
    pub(crate) fn crumble(&self, direction: Direction) {
        self.wire.way(direction).crumbling.store(true, Ordering::SeqCst);
    }

    /// Refuses new connections, by closing them at once, and cuts those there are.
    pub(crate) fn refuse(&self) {
        self.wire.refusing.store(true, Ordering::SeqCst);
        self.wire.cut();
    }

    /// Ends every fault: bytes flow and connections are accepted.
    pub(crate) fn heal(&self) {
        self.wire.refusing.store(false, Ordering::SeqCst);
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.wire.way(direction).left.store(NO_LIMIT, Ordering::SeqCst);
            self.wire.way(direction).stalled.store(false, Ordering::SeqCst);
            self.wire.way(direction).crumbling.store(false, Ordering::SeqCst);
        }
    }

    /// Returns how many bytes have passed in a direction.
    pub(crate) fn passed(&self, direction: Direction) -> u64 {
        self.wire.way(direction).passed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.ended.store(true, Ordering::SeqCst);
        self.wire.cut();
        // Wakes the listener, which then ends.
        let _woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

// === impl Wire ===

impl Wire {
    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Vec<(u64, TcpStream, TcpStream)>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for (_, client, server) in self.live().drain(..) {
            close(&client, &server);
        }
    }

    fn forget(&self, number: u64) {
        self.live().retain(|(other, ..)| *other != number);
    }
}

// === impl Way ===

impl Way {
    fn open() -> Self {
        let (stalled, crumbling) = Default::default();
        Self { stalled, crumbling, left: AtomicI64::new(NO_LIMIT), passed: AtomicU64::new(0) }
    }

    /// Takes from what may pass; returns how many bytes of `wanted` do, and whether the cut is due.
    fn admit(&self, wanted: usize) -> (usize, bool) {
        let wanted = i64::try_from(wanted).expect("a small buffer");
        let admitted = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            NO_LIMIT => None,
            left if left <= wanted => Some(NO_LIMIT),
            left => Some(left - wanted),
        });
        match admitted {
            Ok(left) if left <= wanted => (usize::try_from(left).expect("not negative"), true),
            _ => (usize::try_from(wanted).expect("not negative"), false),
        }
    }
}

fn accept(listener: &TcpListener, wire: &Arc<Wire>) {
    for client in listener.incoming() {
        if wire.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if wire.refusing.load(Ordering::SeqCst) {
            continue; // Dropped, so closed.
        }
        if let Ok(server) = TcpStream::connect(wire.target) {
            // A connection that dies this early is a fault like any other.
            let _dead = join(client, server, wire);
        }
    }
}

fn join(client: TcpStream, server: TcpStream, wire: &Arc<Wire>) -> std::io::Result<()> {
    let number = wire.next.fetch_add(1, Ordering::SeqCst);
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
    }
    let (from_client, from_server) = (client.try_clone()?, server.try_clone()?);
    let (to_client, to_server) = (client.try_clone()?, server.try_clone()?);
    wire.live().push((number, client, server));
    for (from, to, direction) in
        [(from_client, to_server, Direction::ToServer), (from_server, to_client, Direction::ToClient)]
    {
        let wire = Arc::clone(wire);
        std::thread::spawn(move || {
            pump(&from, &to, &wire, direction);
            close(&from, &to);
            wire.forget(number);
        });
    }
    Ok(())
}

/// Carries bytes one way until an end closes, or a fault cuts.
fn pump(mut from: &TcpStream, mut to: &TcpStream, wire: &Wire, direction: Direction) {
    let mut buffer = vec![0; 64 * 1024];
    let way = wire.way(direction);
    while !wire.ended.load(Ordering::SeqCst) {
        if way.stalled.load(Ordering::SeqCst) {
            std::thread::sleep(TICK);
            continue;
        }
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => return,
        };
        while way.stalled.load(Ordering::SeqCst) && !wire.ended.load(Ordering::SeqCst) {
            std::thread::sleep(TICK);
        }
        let (pass, cut) = way.admit(read);
        // Counted first, so that whoever has them finds them counted.
        way.passed.fetch_add(pass as u64, Ordering::SeqCst);
        let crumb = if way.crumbling.load(Ordering::SeqCst) { CRUMB } else { buffer.len() };
        for piece in buffer[..pass].chunks(crumb) {
            if to.write_all(piece).is_err() {
                return;
            }
            std::thread::yield_now();
        }
        if cut {
            wire.cut();
            return;
        }
    }
}

fn close(client: &TcpStream, server: &TcpStream) {
    for stream in [client, server] {
        // It may be closed already.
        let _closed = stream.shutdown(Shutdown::Both);
    }
}
