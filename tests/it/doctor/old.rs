//! Servers of an old version: they say the little that is said before a client knows how old they are.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Serves every connection on a free port with `serve`, until the tests end; returns the port.
pub(super) fn listen(serve: fn(TcpStream) -> std::io::Result<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that hangs up has heard enough.
            std::thread::spawn(move || serve(stream).ok());
        }
    });
    port
}

/// Returns the URL of a RabbitMQ 3.8.2.
pub(super) fn rabbitmq() -> String {
    format!("amqp://u:sesame@127.0.0.1:{}/%2f", listen(greet))
}

/// Connection.Start (AMQP 0-9-1, section 1.4.2.1), and then nothing.
fn greet(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 8])?;
    let field = |name: &str, value: &str| {
        let mut field = vec![u8::try_from(name.len()).unwrap()];
        field.extend(name.bytes());
        field.push(b'S');
        field.extend(long(value.as_bytes()));
        field
    };
    let properties = [field("product", "RabbitMQ"), field("version", "3.8.2")].concat();
    let body = [&[0_u8, 10, 0, 10, 0, 9][..], &long(&properties), &long(b"PLAIN"), &long(b"en_US")].concat();
    stream.write_all(&[&[1_u8, 0, 0][..], &long(&body), &[0xce]].concat())?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Returns the URL of a Redis 5.0.7.
pub(super) fn redis() -> String {
    format!("redis://127.0.0.1:{}/0", listen(inform))
}

/// Answers `INFO`, and `OK` to everything else.
fn inform(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut line = || lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()));
    loop {
        let parts: usize = line()?[1..].parse().unwrap();
        let mut words = vec![];
        for _ in 0..parts {
            line()?;
            words.push(line()?);
        }
        let info = "redis_version:5.0.7\r\nrole:master\r\n";
        if words[0] == "INFO" {
            write!(stream, "${}\r\n{info}\r\n", info.len())?;
        } else {
            write!(stream, "+OK\r\n")?;
        }
    }
}

/// Returns the URL of a PostgreSQL 11.22.
pub(super) fn postgres() -> String {
    format!("postgres://u:sesame@127.0.0.1:{}/d", listen(obey))
}

/// Lets everybody in, and carries out every simple query without doing anything.
fn obey(mut stream: TcpStream) -> std::io::Result<()> {
    let message = |kind: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    };
    let ready = message(b'Z', b"I");
    read_sized(&mut stream)?;
    let greeting = [message(b'R', &[0; 4]), message(b'S', b"server_version\x0011.22\x00"), ready.clone()].concat();
    stream.write_all(&greeting)?;
    loop {
        stream.read_exact(&mut [0])?;
        read_sized(&mut stream)?;
        stream.write_all(&[message(b'C', b"SET\x00"), ready.clone()].concat())?;
    }
}

fn read_sized(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    stream.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4])
}
