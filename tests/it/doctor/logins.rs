//! Logging in at providers: who is let in, who is not, and who is not there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use postrider::domain::time::Clock;
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Simulator, Vendor, aliyun, plain, tencent, twilio};
use serde_json::Value;

use super::{NOBODY, old, run};
use crate::support::smsc::Smsc;

const ACCOUNT: &str = "AC00000000000000000000000000000000";

fn vendors() -> [(&'static str, Box<dyn Vendor>); 4] {
    let (key, secret) = ("LTAI5t".to_owned(), "geheim".to_owned());
    let twilio = twilio::Twilio { account_sid: ACCOUNT.into(), auth_token: secret.clone(), inbound: None };
    let tencent = tencent::Tencent {
        secret_id: key.clone(),
        secret_key: secret.clone(),
        app_id: "1400000000".into(),
        callback: None,
    };
    let nonces = aliyun::Nonces::default();
    let plain = plain::Plain { secret: secret.clone(), callback: None };
    let aliyun = aliyun::Aliyun { access_key_id: key, access_key_secret: secret, callback: None, nonces };
    [
        ("twilio", Box::new(twilio)),
        ("aliyun-sms", Box::new(aliyun)),
        ("tencent-sms", Box::new(tencent)),
        ("http", Box::new(plain)),
    ]
}

/// Returns the settings of a cloud of this kind.
fn cloud(id: &str, kind: &str, endpoint: &str, secret: &str) -> String {
    let account = match kind {
        "twilio" => format!("account_sid = \"{ACCOUNT}\"\nauth_token = \"{secret}\"\nsender = \"+15005550006\"\n"),
        "aliyun-sms" => format!(
            "access_key_id = \"LTAI5t\"\naccess_key_secret = \"{secret}\"\nsign_name = \"x\"\ntemplate = \"SMS_1\"\n"
        ),
        "tencent-sms" => format!(
            "secret_id = \"LTAI5t\"\nsecret_key = \"{secret}\"\napp_id = \"1400000000\"\nsign_name = \"x\"\n\
             template = \"1\"\n"
        ),
        _ => "body = \"{}\"\n".to_owned(),
    };
    let kind = format!("[[provider]]\nid = \"{id}\"\nkind = \"{kind}\"\nendpoint = \"{endpoint}\"\nreceipts = false\n");
    kind + &account
}

fn smpp(id: &str, address: &str, password: &str) -> String {
    format!(
        "[[provider]]\nid = \"{id}\"\nkind = \"smpp\"\naddress = \"{address}\"\nsystem_id = \"brand\"\n\
         password = \"{password}\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_let_us_in_or_the_doctor_says_why_not() {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let smsc = Smsc::start(&["--system-id", "brand", "--password", "sesame"]);
    let address = format!("127.0.0.1:{}", smsc.port());
    let mut settings = smpp("good-smpp", &address, "sesame") + &smpp("bad-smpp", &address, "wrong");
    settings += &(smpp("full-smpp", &format!("127.0.0.1:{}", full_smsc()), "sesame") + &smpp("no-smpp", NOBODY, "x"));
    for (kind, vendor) in vendors() {
        let listen = ([127, 0, 0, 1], 0).into();
        let simulator = Simulator::start(vendor, listen, (Behaviour::default(), 7), &tasks, &clock).await.unwrap();
        let endpoint = format!("http://{}", simulator.address());
        settings += &cloud(&format!("good-{kind}"), kind, &endpoint, "geheim");
        settings += &cloud(&format!("bad-{kind}"), kind, &endpoint, "sesame");
        settings += &cloud(&format!("no-{kind}"), kind, &format!("http://{NOBODY}"), "sesame");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("postrider.toml");
    fs::write(&file, format!("data_dir = {:?}\n{settings}", dir.path().join("data"))).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let said = tokio::task::spawn_blocking(move || {
        let ask = |more: &[&str]| {
            let output = run(&[&["doctor", "--json", "--config", &file], more].concat());
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        (ask(&[]), ask(&["--no-logins"]))
    });
    let ((code, said), (_, skipped)) = said.await.unwrap();
    let findings: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        ("good-smpp", "fine", "let us in"),
        ("bad-smpp", "fault", "ESME_RINVPASWD"),
        ("full-smpp", "unseen", "ESME_RALYBND"),
        ("no-smpp", "fault", "refused"),
        ("good-twilio", "fine", "let us in"),
        ("bad-twilio", "fault", "20003"),
        ("no-twilio", "fault", "no_connection"),
        ("good-aliyun-sms", "fine", "let us in"),
        ("bad-aliyun-sms", "fault", "SignatureDoesNotMatch"),
        ("no-aliyun-sms", "fault", "no_connection"),
        ("good-tencent-sms", "fine", "let us in"),
        ("bad-tencent-sms", "fault", "AuthFailure.SignatureFailure"),
        ("no-tencent-sms", "fault", "no_connection"),
        ("good-http", "unseen", "reached"),
        ("bad-http", "unseen", "reached"),
        ("no-http", "fault", "no_connection"),
    ];
    for (id, found, text) in expected {
        let finding = findings.iter().find(|finding| finding["about"] == format!("provider {id}")).expect(id);
        assert_eq!(finding["found"], found, "{finding}");
        assert!(finding["text"].as_str().unwrap().contains(text), "{finding}");
        assert!(found != "fault" || !finding["fix"].as_str().unwrap().is_empty(), "{finding}");
    }
    assert_eq!(code, Some(1));
    assert!(!said.contains("sesame") && !said.contains("geheim"), "{said}");
    assert!(!skipped.contains("provider "), "{skipped}");
    assert!(!smsc.events("unbind").is_empty(), "the good bind was given back");
    tasks.finish(&clock, std::time::Duration::from_secs(5)).await;
}

/// Starts an SMSC where the account has all its binds; returns its port.
fn full_smsc() -> u16 {
    const BIND_RESP: u32 = 0x8000_0009;
    const ALREADY_BOUND: u32 = 5;
    old::listen(|mut stream: TcpStream| {
        let mut header = [0; 16];
        stream.read_exact(&mut header)?;
        let words =
            [17, BIND_RESP, ALREADY_BOUND, u32::from_be_bytes([header[12], header[13], header[14], header[15]])];
        stream.write_all(&words.map(u32::to_be_bytes).concat())?;
        stream.write_all(&[0])
    })
}
