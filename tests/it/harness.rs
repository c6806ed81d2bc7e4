//! The harness itself: servers keep their data when killed and end with the tests, the proxy does what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::proxy::{Direction, Proxy};
use crate::support::servers::{self, Postgres, RabbitMq, Redis};

const NAME_OF_HOLDER: &str = "harness::holds_a_server_until_it_is_killed";
const HOLD: &str = "POSTRIDER_TEST_HOLD";

#[test]
fn a_killed_redis_keeps_its_data_until_it_is_lost() {
    let redis = Redis::start();
    assert_eq!(say(redis.port(), "SET key value"), "+OK");
    std::thread::sleep(Duration::from_millis(1_100)); // The append-only file is synced every second.
    redis.kill();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port())).is_err());
    redis.restart();
    assert_eq!(say(redis.port(), "GET key"), "$5");
    redis.kill();
    redis.lose_data();
    redis.restart();
    assert_eq!(say(redis.port(), "GET key"), "$-1");
}

#[tokio::test]
async fn a_killed_postgres_keeps_its_data() {
    let postgres = Postgres::start();
    let url = postgres.database();
    query(&url, "CREATE TABLE t AS SELECT 7 AS n").await;
    postgres.kill();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, postgres.port())).is_err());
    postgres.restart();
    query(&url, "SELECT n / (n - 6) FROM t").await;
}

#[tokio::test]
async fn a_killed_rabbitmq_keeps_its_virtual_hosts() {
    let rabbitmq = RabbitMq::start(2);
    let (first, second) = (rabbitmq.vhost(), rabbitmq.vhost());
    rabbitmq.kill();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, rabbitmq.port())).is_err());
    rabbitmq.restart();
    for url in [first, second] {
        let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    }
    assert!(rabbitmq.ctl(&["list_vhosts"]).contains("it1"));
}

#[test]
fn rabbitmq_has_the_advanced_settings_that_are_shipped() {
    let strategy = "maps:get(wal_write_strategy, ra_system:fetch(quorum_queues)).";
    assert_eq!(servers::rabbitmq().ctl(&["eval", strategy]).trim(), "o_sync");
}

#[tokio::test]
async fn tests_share_servers_without_meeting() {
    assert_ne!(servers::redis().database(), servers::redis().database());
    assert_ne!(servers::rabbitmq().vhost(), servers::rabbitmq().vhost());
    let (one, other) = (servers::postgres().database(), servers::postgres().database());
    query(&one, "CREATE TABLE t (n int)").await;
    query(&other, "CREATE TABLE t (n int)").await;
}

#[test]
fn servers_end_with_a_killed_test_process() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args([NAME_OF_HOLDER, "--exact", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let port: u16 = lines.find_map(|line| line.unwrap().strip_prefix("port ")?.parse().ok()).unwrap();
    assert_eq!(say(port, "PING"), "+PONG");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
    });
    assert!(gone, "the server outlived its test process");
}

/// The process that [`servers_end_with_a_killed_test_process`] kills; a test only in name.
#[test]
fn holds_a_server_until_it_is_killed() {
    if std::env::var_os(HOLD).is_some() {
        let redis = Redis::start();
        println!("\nport {}", redis.port());
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn the_proxy_cuts_after_so_many_bytes() {
    let proxy = Proxy::to(echo_server());
    let mut stream = connect(&proxy);
    proxy.cut_after(Direction::ToClient, 3);
    stream.write_all(b"hello").unwrap();
    assert_eq!(rest(&mut stream), b"hel");
    assert_eq!(proxy.passed(Direction::ToServer), 5);
    // Once: the next connection is whole.
    let mut stream = connect(&proxy);
    stream.write_all(b"hello").unwrap();
    assert_eq!(exactly(&mut stream, 5), b"hello");
    proxy.cut();
    assert_eq!(rest(&mut stream), b"");
}

#[test]
fn the_proxy_stalls_and_refuses_until_healed() {
    let proxy = Proxy::to(echo_server());
    let mut stream = connect(&proxy);
    proxy.stall(Direction::ToClient);
    stream.write_all(b"hello").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream.read(&mut [0; 5]).expect_err("nothing passes");
    proxy.heal();
    stream.set_read_timeout(None).unwrap();
    assert_eq!(exactly(&mut stream, 5), b"hello");
    proxy.refuse();
    assert_eq!(rest(&mut stream), b"");
    assert_eq!(rest(&mut connect(&proxy)), b"");
    proxy.heal();
    let mut stream = connect(&proxy);
    stream.write_all(b"again").unwrap();
    assert_eq!(exactly(&mut stream, 5), b"again");
}

fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap()
}

fn exactly(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).unwrap();
    read
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    // A reset is an end too.
    let _reset = stream.read_to_end(&mut read);
    read
}

fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    port
}

/// Sends one inline command to a Redis and returns the first line of its answer.
fn say(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "the driver's task ends with the client, at the end of this function")]
async fn query(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
}
