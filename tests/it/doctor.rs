//! Bad surroundings: a server that is not there, another one's password, a data directory that is none, a port in use, a
//! certificate of somebody else, a ledger of a newer version. `serve` says which in one line and ends with a code that no
//! crash has; `doctor` finds the same without starting, and what works now and will not for long besides.

mod logins;
mod old;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::ledger::postgres::Postgres;
use postrider::ledger::sqlite::Sqlite;
use postrider::ledger::{AnyLedger, ApiKey, Ledger as _};
use ring::rand::SystemRandom;
use ring::signature;
use serde_json::Value;

use crate::ledger_contract::people;
use crate::support::servers::{self, Redis};

/// The settings are wrong (sysexits.h, `EX_USAGE`).
const USAGE: i32 = 64;
/// Something that is needed cannot be had (sysexits.h, `EX_UNAVAILABLE`).
const UNAVAILABLE: i32 = 69;

/// A port of this machine that nobody listens on.
const NOBODY: &str = "127.0.0.1:9";

/// Settings that cannot work.
struct Case {
    /// What is wrong.
    what: &'static str,
    settings: String,
    /// How `serve` ends.
    code: i32,
    /// What its line names.
    names: &'static [&'static str],
    /// What `doctor` finds faulty; `None`: the settings do not even hold, or the doctor does not look at it.
    about: Option<&'static str>,
}

fn case(
    what: &'static str,
    settings: &str,
    code: i32,
    names: &'static [&'static str],
    about: Option<&'static str>,
) -> Case {
    Case { what, settings: settings.to_owned(), code, names, about }
}

#[test]
fn what_is_wrong_around_it_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for Case { what, settings, code, names, about } in
        server_cases().into_iter().chain(old_cases()).chain(machine_cases(dir.path(), &taken.to_string()))
    {
        let file = dir.path().join("postrider.toml");
        fs::write(&file, with_defaults(&settings, dir.path())).unwrap();
        let output = run(&["serve", "--config", file.to_str().unwrap()]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{what}: {errors}");
        let lines: Vec<_> = errors.lines().filter(|line| line.starts_with("postrider: ")).collect();
        assert_eq!(lines.len(), 1, "{what}: {errors}");
        for name in names {
            assert!(lines[0].contains(name), "{what}: {:?} does not name {name}", lines[0]);
        }
        assert!(!errors.contains("panicked") && !errors.contains("sesame"), "{what}: {errors}");
        let Some(about) = about else { continue };
        let findings = doctor(&file);
        let fault = findings.1.iter().find(|finding| finding["found"] == "fault");
        let fault = fault.unwrap_or_else(|| panic!("{what}: {:?}", findings.1));
        assert_eq!((findings.0, &fault["about"]), (Some(1), &Value::from(about)), "{what}: {fault}");
        assert!(fault["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{what}: {fault}");
        assert!(!fault.to_string().contains("sesame"), "{what}: {fault}");
    }
}

/// Servers that are not there, or do not let us in.
fn server_cases() -> Vec<Case> {
    let rabbitmq = servers::rabbitmq().vhost();
    let stranger_url = rabbitmq.replacen("guest:guest", "guest:sesame", 1);
    let nowhere = format!("{}-not-there", rabbitmq);
    let no_database = format!("{}_not_there", servers::postgres().database());
    vec![
        case(
            "no RabbitMQ",
            &format!("[queue]\nurl = \"amqp://u:sesame@{NOBODY}\"\n"),
            UNAVAILABLE,
            &["queue"],
            Some("queue.url"),
        ),
        case(
            "a wrong password",
            &format!("[queue]\nurl = {stranger_url:?}\n"),
            UNAVAILABLE,
            &["queue", "refused"],
            Some("queue.url"),
        ),
        case(
            "no such virtual host",
            &format!("[queue]\nurl = {nowhere:?}\n"),
            UNAVAILABLE,
            &["queue", "not-there"],
            Some("queue.url"),
        ),
        case(
            "no Redis",
            &format!("[limits]\nurl = \"redis://:sesame@{NOBODY}/0\"\n"),
            UNAVAILABLE,
            &["limits"],
            Some("limits.url"),
        ),
        case(
            "no PostgreSQL",
            &format!("[ledger]\nurl = \"postgres://u:sesame@{NOBODY}/d\"\n"),
            UNAVAILABLE,
            &["ledger"],
            Some("ledger.url"),
        ),
        case(
            "no such database",
            &format!("[ledger]\nurl = {no_database:?}\n"),
            UNAVAILABLE,
            &["ledger", "_not_there"],
            Some("ledger.url"),
        ),
    ]
}

/// Servers that are too old.
fn old_cases() -> Vec<Case> {
    let old = |what, section: &str, url: String, names, about| {
        case(what, &format!("[{section}]\nurl = {url:?}\n"), UNAVAILABLE, names, about)
    };
    vec![
        old(
            "an old RabbitMQ",
            "queue",
            old::rabbitmq(),
            &["queue", "3.8.2", "install RabbitMQ 3.10"],
            Some("queue.url"),
        ),
        old("an old Redis", "limits", old::redis(), &["limits", "5.0.7", "install Redis 6.2"], Some("limits.url")),
        // A doctor would ask it more than this one answers.
        old("an old PostgreSQL", "ledger", old::postgres(), &["ledger", "11.22", "install PostgreSQL 13"], None),
    ]
}

/// What is wrong on this machine.
fn machine_cases(dir: &Path, taken: &str) -> Vec<Case> {
    let file = dir.join("a-file");
    fs::write(&file, "no directory").unwrap();
    let certificate = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/tls").join(name);
    let tls =
        |cert: &Path, key: &Path| format!("[grpc]\nlisten = \"127.0.0.1:0\"\ntls_cert = {cert:?}\ntls_key = {key:?}\n");
    let stranger = dir.join("stranger.key");
    fs::write(&stranger, fresh_key()).unwrap();
    let newer = dir.join("newer");
    fs::create_dir_all(&newer).unwrap();
    let ledger = rusqlite::Connection::open(newer.join("ledger.sqlite")).unwrap();
    ledger.pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    let data = |dir: &Path| format!("data_dir = {dir:?}\n");
    vec![
        case(
            "another server's URL",
            "[queue]\nurl = \"redis://127.0.0.1/0\"\n",
            USAGE,
            &["queue.url", "amqp://"],
            None,
        ),
        case("a file for a data directory", &data(&file), UNAVAILABLE, &["data_dir", "a-file"], Some("data_dir")),
        // Nobody can write there, not even root.
        case(
            "a data directory that cannot be written",
            &data(Path::new("/proc/postrider")),
            UNAVAILABLE,
            &["data_dir"],
            Some("data_dir"),
        ),
        case(
            "a port in use",
            &format!("[grpc]\nlisten = {taken:?}\n"),
            UNAVAILABLE,
            &["grpc.listen", "127.0.0.1:"],
            None,
        ),
        case(
            "a port in use for metrics",
            &format!("[metrics]\nlisten = {taken:?}\n"),
            UNAVAILABLE,
            &["metrics.listen"],
            None,
        ),
        case(
            "a certificate with no key of its own",
            &tls(&certificate("server.pem"), &stranger),
            UNAVAILABLE,
            &["grpc.tls_cert", "grpc.tls_key"],
            Some("grpc.tls_cert"),
        ),
        case(
            "no certificate",
            &tls(&dir.join("none.pem"), &certificate("server.key")),
            UNAVAILABLE,
            &["grpc.tls_cert", "none.pem"],
            Some("grpc.tls_cert"),
        ),
        case("settings of a newer version", "[queue]\nshards = 4\n", USAGE, &["queue.shards"], None),
        case("a ledger of a newer version", &data(&newer), UNAVAILABLE, &["ledger", "99"], Some("ledger.url")),
    ]
}

#[test]
fn a_full_disk_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postrider.toml");
    fs::write(&file, with_defaults("", dir.path())).unwrap();
    // No file may be longer than 4 KiB, which a write is told of as of a full disk, wherever the first one comes.
    let script = "trap '' XFSZ; ulimit -f 8; exec timeout -s KILL 120 \"$0\" serve --config \"$1\"";
    let mut full = Command::new("sh");
    full.args(["-c", script, env!("CARGO_BIN_EXE_postrider"), file.to_str().unwrap()]);
    full_disk_is_said(&mut full);
}

/// A disk of its own, of 64 KiB, in a mount namespace that ends with the process.
#[test]
fn a_disk_that_is_really_full_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, file) = (dir.path().join("disk"), dir.path().join("postrider.toml"));
    fs::create_dir_all(&disk).unwrap();
    fs::write(&file, with_defaults(&format!("data_dir = {:?}\n", disk.join("data")), dir.path())).unwrap();
    let mounted = |way: &str, then: &str| {
        let mut command = Command::new("unshare");
        command.arg("--mount").args((!way.is_empty()).then_some(way));
        command.args(["sh", "-c", &format!("mount -t tmpfs -o size=64k tmpfs \"$0\" && {then}")]).arg(&disk);
        command
    };
    // As root, or as root of a user namespace.
    let ways = ["", "--map-root-user"];
    let Some(way) = ways.iter().find(|way| mounted(way, "true").status().is_ok_and(|status| status.success())) else {
        println!("no disk can be mounted here: the limit of file sizes of the test above alone stands for a full one");
        return;
    };
    let mut full = mounted(way, "exec timeout -s KILL 120 \"$1\" serve --config \"$2\"");
    full.arg(env!("CARGO_BIN_EXE_postrider")).arg(&file);
    full_disk_is_said(&mut full);
}

fn full_disk_is_said(serve: &mut Command) {
    let output = serve.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(UNAVAILABLE), "{errors}");
    let lines: Vec<_> = errors.lines().filter(|line| line.starts_with("postrider: ")).collect();
    let [line] = lines[..] else { panic!("one line: {errors}") };
    let words = ["too large", "No space left", "full", "disk I/O error"];
    assert!(words.iter().any(|word| line.contains(word)) && !errors.contains("panicked"), "{errors}");
}

/// Returns a good private key that belongs to no certificate, in PEM.
fn fresh_key() -> String {
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = signature::EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    let text = STANDARD.encode(key.as_ref());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

/// Adds what a case does not say: free ports, and a data directory.
fn with_defaults(settings: &str, dir: &Path) -> String {
    let mut text = String::new();
    if !settings.contains("data_dir") {
        text += &format!("data_dir = {:?}\n", dir.join("data"));
    }
    text += settings;
    for section in ["grpc", "metrics"] {
        if !settings.contains(&format!("[{section}]")) {
            text += &format!("[{section}]\nlisten = \"127.0.0.1:0\"\n");
        }
    }
    text
}

#[test]
fn servers_that_are_well_set_up_have_nothing_to_fix_and_others_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postrider.toml");
    let ask = |limits: &str| {
        let servers = format!(
            "data_dir = {:?}\n[queue]\nurl = {:?}\n[limits]\nurl = {limits:?}\n[ledger]\nurl = {:?}\n",
            dir.path().join("data"),
            servers::rabbitmq().vhost(),
            servers::postgres().database(),
        );
        fs::write(&file, servers).unwrap();
        doctor(&file).1
    };
    let good = ask(&servers::redis().database());
    for about in ["queue.url", "limits.url", "ledger.url"] {
        let mine: Vec<_> = good.iter().filter(|finding| finding["about"] == about).collect();
        assert!(mine.len() > 1, "{about}: {good:?}");
        let bad: Vec<_> =
            mine.iter().filter(|finding| finding["found"] == "fault" || finding["found"] == "risk").collect();
        assert!(bad.is_empty(), "{about}: {bad:?}");
    }
    let said = |needle: &str| good.iter().any(|finding| finding["text"].as_str().unwrap().contains(needle));
    assert!(said("RabbitMQ ") && said("Redis ") && said("PostgreSQL "), "every version is told: {good:?}");

    let careless = Redis::start_without_append_only_file();
    let risks = risks(&ask(&careless.database()));
    assert!(
        risks.iter().any(|risk| risk.contains("append-only")) && risks.iter().any(|risk| risk.contains("evict")),
        "{risks:?}"
    );
    let lagging = Redis::start_lagging();
    let risks = self::risks(&ask(&lagging.database()));
    assert!(risks.iter().any(|risk| risk.contains("appendfsync always")), "{risks:?}");
}

#[tokio::test]
async fn keys_that_end_soon_are_risks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postrider.toml");
    let (clock, database) = (Clock::system(), servers::postgres().database());
    let (lite, post) = (dir.path().join("ledger.sqlite"), Postgres::new(&database, clock.clone()).unwrap());
    let now = clock.now();
    let day = |days: i64| UnixMicros(now.0 + days * 86_400_000_000);
    let key = ApiKey { created_at: day(-20), expires_at: Some(day(5)), ..people::api_key("5c1f0e7a9b3d2c48") };
    let sqlite = Sqlite::open(&lite, clock).unwrap();
    for ledger in [AnyLedger::Sqlite(sqlite), AnyLedger::Postgres(post)] {
        ledger.migrate().await.unwrap();
        ledger.put_api_key(&key).await.unwrap();
    }
    for ledger in [String::new(), format!("[ledger]\nurl = {database:?}\n")] {
        fs::write(&file, format!("data_dir = {:?}\n{ledger}", dir.path())).unwrap();
        let (code, findings) = doctor(&file);
        let risk = findings.iter().find(|finding| finding["about"] == "API keys").unwrap();
        assert_eq!((code, &risk["found"]), (Some(1), &Value::from("risk")), "{findings:?}");
        let text = risk["text"].as_str().unwrap();
        assert!(text.contains("5c1f0e7a9b3d2c48 of acme (submitter)"), "{text}");
    }

    let sealing = format!(
        "lookup = {key:?}\n[[seal]]\nid = 1\nkey = {key:?}\nuse_until = \"2026-01-01\"\n",
        key = STANDARD.encode([1; 32])
    );
    fs::write(dir.path().join("keys"), sealing).unwrap();
    fs::set_permissions(dir.path().join("keys"), fs::Permissions::from_mode(0o600)).unwrap();
    let findings = doctor(&file).1;
    let risk = findings.iter().find(|finding| finding["about"] == "seal.key_file").unwrap();
    assert_eq!(risk["found"], "risk", "{findings:?}");
    assert!(risk["text"].as_str().unwrap().contains("until 2026-01-01"), "{risk}");
}

#[test]
fn a_server_with_an_alarm_is_a_fault() {
    let rabbitmq = servers::RabbitMq::start(1);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postrider.toml");
    let settings = format!("data_dir = {:?}\n[queue]\nurl = {:?}\n", dir.path().join("data"), rabbitmq.vhost());
    fs::write(&file, settings).unwrap();
    rabbitmq.ctl(&["set_vm_memory_high_watermark", "0"]);
    // The node looks at its memory every few seconds.
    let found = (0..60).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        doctor(&file).1.iter().any(|finding| finding["text"].as_str().unwrap().contains("takes no messages"))
    });
    assert!(found, "{:?}", doctor(&file));
}

fn risks(findings: &[Value]) -> Vec<String> {
    let risks = findings.iter().filter(|finding| finding["found"] == "risk" && finding["about"] == "limits.url");
    risks.map(|finding| finding["text"].as_str().unwrap().to_owned()).collect()
}

fn run(arguments: &[&str]) -> Output {
    // One that starts after all would never end.
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "120", env!("CARGO_BIN_EXE_postrider")]).args(arguments).output().unwrap()
}

/// Returns the exit code and the findings.
fn doctor(file: &Path) -> (Option<i32>, Vec<Value>) {
    let output = run(&["doctor", "--json", "--config", file.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let findings = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>();
    assert!(!findings.is_empty() && !errors.contains("panicked"), "{text}{errors}");
    (output.status.code(), findings)
}
