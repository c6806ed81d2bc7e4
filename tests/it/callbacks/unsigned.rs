//! Callbacks of clouds that sign nothing.

use postrider::channel::News;
use postrider::channel::callback::Callbacks;
use postrider::channel::sms::{aliyun, custom, tencent};
use postrider::config::{self, Secret};
use postrider::domain::ids::ProviderId;

use super::{Beset, counted, post};
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
    assert!(matches!(news, News::Receipt(_)), "{id}");
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

    let settings = provider(&format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"http\"\nendpoint = \"http://127.0.0.1:1\"\nbody = \"x\"\n\
         callback_token = \"{SECRET}\"\ncallback_message_id = \"item.id\"\n\
         callback_delivered = \"item.status == 'ok'\"\ncallback_undelivered = \"item.status == 'no'\"\n"
    ));
    let config::Link::Custom(link) = &settings.providers[0].link else { panic!("custom") };
    let desk = |id, _: &str| Box::new(custom::Desk::new(id, link.callbacks.clone().unwrap())) as _;
    is_known_by_its_path("known-http", desk, r#"[{"id": "m-1", "status": "ok"}]"#).await;
}
