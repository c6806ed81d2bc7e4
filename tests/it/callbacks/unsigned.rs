//! Callbacks of clouds that sign nothing.

use postrider::channel::News;
use postrider::channel::call::aliyun as aliyun_voice;
use postrider::channel::callback::Callbacks;
use postrider::channel::sms::{aliyun, custom, tencent};
use postrider::config::{self, Secret};
use postrider::domain::ids::ProviderId;

use super::{Beset, counted, get, post};
use crate::support::cloud::{PATIENCE, provider};

/// What clouds that sign nothing are known by.
const SECRET: &str = "a-secret-in-the-path";

/// Sends what is not a cloud's that signs nothing, and what is.
async fn is_known_by_its_path(id: &str, desk: impl FnOnce(ProviderId, &str) -> Box<dyn Callbacks>, good: &str) {
    let mut beset = Beset::with(id, desk).await;
    let path = format!("{}/{SECRET}", beset.path);
    let said = |target: &str| post(target, "", good.as_bytes());
    assert_eq!(beset.ask(said(&format!("/callback/nobody/{SECRET}"))).await, "HTTP/1.1 404 Not Found", "{id}");
    for wrong in [beset.path.clone(), format!("{}/another-secret-in-it", beset.path)] {
        assert_eq!(beset.ask(said(&wrong)).await, "HTTP/1.1 403 Forbidden", "{id}");
    }
    assert_eq!(beset.ask(post(&path, "", b"\xff\x00 nothing")).await, "HTTP/1.1 400 Bad Request", "{id}");
    let huge = beset.ask(post(&path, "", "x".repeat(10 * 1024 * 1024).as_bytes())).await;
    assert!(["", "HTTP/1.1 413 Payload Too Large"].contains(&&*huge), "{id}: {huge}");
    assert!(beset.inbox.try_recv().is_err(), "{id}: none of it says anything");
    let (status, news) = beset.ask_and_take(said(&path)).await;
    assert_eq!(status, "HTTP/1.1 200 OK", "{id}");
    assert!(matches!(news, News::Receipt(_) | News::CallReceipt(..)), "{id}");
    assert_eq!(beset.ask(said(&path)).await, "HTTP/1.1 200 OK", "{id}");
    assert!(beset.inbox.try_recv().is_err(), "{id}: a replay says nothing");
    let counts = ["taken", "replayed", "signature", "unreadable", "body"].map(|result| counted(id, result));
    assert_eq!(counts, [1.0, 1.0, 2.0, 1.0, 1.0], "{id}");
    assert_eq!(beset.tasks.finish(&beset.clock, PATIENCE).await, 0, "tasks left");
}

#[tokio::test]
async fn what_is_not_of_a_cloud_that_signs_nothing_is_refused_and_counted_and_does_no_harm() {
    let said = r#"[{"phone_number": "13800000001", "send_time": "2026-01-01 08:00:00", "report_time": "2026-01-01 08:00:01",
        "success": true, "err_code": "DELIVERED", "err_msg": "", "sms_size": "1", "biz_id": "1^0", "out_id": ""}]"#;
    let desk = |id, _: &str| Box::new(aliyun::callback::Desk::new(id, Secret::new(SECRET))) as _;
    is_known_by_its_path("known-aliyun", desk, said).await;

    let said = r#"[{"user_receive_time": "2026-01-01 08:00:01", "nationcode": "86", "mobile": "13800000001",
        "report_status": "SUCCESS", "errmsg": "DELIVRD", "description": "", "sid": "5000:1"}]"#;
    let desk = |id, _: &str| Box::new(tencent::callback::Desk::new(id, Secret::new(SECRET))) as _;
    is_known_by_its_path("known-tencent", desk, said).await;

    let said = r#"[{"call_id": "1^3", "status_code": "200000", "duration": "10", "hangup_direction": "CALLEE"}]"#;
    let desk = |id, _: &str| Box::new(aliyun_voice::callback::Desk::new(id, Secret::new(SECRET))) as _;
    is_known_by_its_path("known-voice", desk, said).await;

    let desk = |id, _: &str| Box::new(custom::Desk::new(id, described("POST", "body"))) as _;
    is_known_by_its_path("known-http", desk, r#"[{"id": "m-1", "status": "ok"}]"#).await;
}

/// What the settings say of a cloud's callbacks.
fn described(method: &str, items: &str) -> config::Callbacks {
    let settings = provider(&format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"http\"\nendpoint = \"http://127.0.0.1:1\"\nbody = \"x\"\n\
         callback_token = \"{SECRET}\"\ncallback_method = \"{method}\"\ncallback_items = \"{items}\"\n\
         callback_message_id = \"item.id\"\ncallback_delivered = \"item.status == 'ok'\"\n\
         callback_undelivered = \"item.status == 'no'\"\ncallback_from = \"item.from\"\n\
         callback_text = \"item.text|utf16 if item.charset == 'UTF-16BE' else item.text\"\n"
    ));
    let config::Link::Custom(link) = &settings.providers[0].link else { panic!("custom") };
    link.callbacks.clone().unwrap()
}

/// Of a cloud that calls back by GET, everything is in the query.
#[tokio::test]
async fn callbacks_by_get_are_known_by_their_path_and_taken_once() {
    let desk = |id, _: &str| Box::new(custom::Desk::new(id, described("GET", "query"))) as _;
    let mut beset = Beset::with("known-get", desk).await;
    let path = format!("{}/{SECRET}", beset.path);
    let good = get(&format!("{path}?id=m-1&status=ok"));
    assert_eq!(beset.ask(get(&format!("{}/wrong?id=m-1&status=ok", beset.path))).await, "HTTP/1.1 403 Forbidden");
    assert_eq!(beset.ask(post(&format!("{path}?id=m-1&status=ok"), "", b"")).await, "HTTP/1.1 405 Method Not Allowed");
    for nothing in ["", "?", "?colour=blue", "?%ff=%"] {
        assert_eq!(beset.ask(get(&format!("{path}{nothing}"))).await, "HTTP/1.1 400 Bad Request", "{nothing}");
    }
    assert!(beset.inbox.try_recv().is_err(), "none of it says anything");
    let (status, news) = beset.ask_and_take(good.clone()).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(matches!(news, News::Receipt(receipt) if &*receipt.message_id == "m-1"));
    assert_eq!(beset.ask(good).await, "HTTP/1.1 200 OK");
    assert!(beset.inbox.try_recv().is_err(), "a replay says nothing");
    // Texts in UTF-8 and in UTF-16, whose bytes may be a text in UTF-8 too, or none.
    let texts = [
        ("text=%E9%80%80%E8%AE%A2+%2B1", "退订 +1"),
        ("charset=UTF-16BE&text=%90%00%8B%A2", "退订"),
        ("charset=UTF-16BE&text=e6R0", "收到"),
        ("charset=UTF-16BE&text=%00T%00D", "TD"),
        ("text=%ff", "\u{fffd}"),
    ];
    for (query, expected) in texts {
        let (_, news) = beset.ask_and_take(get(&format!("{path}?from=%2B8613800000001&{query}"))).await;
        let News::Reply(reply) = news else { panic!("{news:?}") };
        assert_eq!((&*reply.from, &*reply.text), ("+8613800000001", expected), "{query}");
    }
    let counts = ["taken", "replayed", "signature", "unreadable"].map(|result| counted("known-get", result));
    assert_eq!(counts, [6.0, 1.0, 1.0, 5.0]);
    assert_eq!(beset.tasks.finish(&beset.clock, PATIENCE).await, 0, "tasks left");
}
