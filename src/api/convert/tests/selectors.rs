//! Whom a request means: jobs by what they are called, and addresses.

use super::*;
use crate::api::convert::suppression::reach;
use crate::domain::rule::Names;
use crate::domain::suppression::Scope;
use crate::seal::Sealer;

fn selector(by: pb::job_selector::By) -> Result<Vec<Names>, Invalid> {
    let sealer = Sealer::ephemeral().unwrap();
    select(Some(pb::JobSelector { by: Some(by) }), &"acme".parse().unwrap(), &sealer)
}

#[track_caller]
fn selector_says(path: &str, by: pb::job_selector::By) {
    let said = selector(by).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[test]
fn selectors() {
    use pb::job_selector::By;
    let jobs = |ids: Vec<String>| By::Jobs(pb::JobIds { job_ids: ids });
    let good = "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11".to_owned();
    selector_says("", jobs(vec![good.clone()]));
    selector_says("jobs.job_ids", jobs(vec![]));
    selector_says("jobs.job_ids", jobs(vec![good.clone(); 1_001]));
    selector_says("jobs.job_ids[1]", jobs(vec![good, "x".into()]));
    selector_says("cancel_key", By::CancelKey(String::new()));
    selector_says("cancel_key", By::CancelKey("x".repeat(129)));
    selector_says("batch_id", By::BatchId("x".into()));
    selector_says("campaign_id", By::CampaignId(String::new()));
    selector_says("run_id", By::RunId("x\n".into()));
    selector_says("recipient", By::Recipient(pb::Recipient::default()));
    selector_says("", By::Recipient(pb::Recipient { recipient_id: "anna".into(), ..pb::Recipient::default() }));
    selector_says("", By::Filter(pb::JobFilter::default()));
    selector_says("", By::Filter(pb::JobFilter { run_id: "r".into(), class: 1, ..pb::JobFilter::default() }));
    selector_says("filter.state", By::Filter(pb::JobFilter { state: 1, ..pb::JobFilter::default() }));
    selector_says("filter.kind", By::Filter(pb::JobFilter { kind: 9, ..pb::JobFilter::default() }));
    let nobody = Some(pb::Recipient::default());
    selector_says("filter.recipient", By::Filter(pb::JobFilter { recipient: nobody, ..pb::JobFilter::default() }));
    let sealer = Sealer::ephemeral().unwrap();
    assert!(select(None, &"acme".parse().unwrap(), &sealer).is_err());
}

#[track_caller]
fn filter_says(path: &str, change: impl FnOnce(&mut pb::JobFilter)) {
    let mut raw = pb::JobFilter::default();
    change(&mut raw);
    let said = filter(Some(raw), &"acme".parse().unwrap(), &Sealer::ephemeral().unwrap()).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[test]
fn filters() {
    filter_says("", |_| {});
    filter_says("batch_id", |filter| filter.batch_id = "x".into());
    filter_says("campaign_id", |filter| filter.campaign_id = "x".repeat(129));
    filter_says("recipient", |filter| filter.recipient = Some(pb::Recipient::default()));
    filter_says("kind", |filter| filter.kind = 9);
    filter_says("cancel_key", |filter| filter.cancel_key = "\0".into());
    filter_says("accepted_from", |filter| {
        filter.accepted_from = Some(prost_types::Timestamp { seconds: -1, nanos: 0 });
    });
    filter_says("accepted_to", |filter| (filter.accepted_from, filter.accepted_to) = (Some(at(2)), Some(at(1))));
    filter_says("", |filter| filter.class = 1);
    filter_says("class", |filter| filter.class = 77);
    filter_says("state", |filter| filter.state = 1);
    filter_says("labels", |filter| drop(filter.labels.insert("a".into(), "b".into())));
    filter_says("", |filter| filter.run_id = "r".into());
    filter_says("run_id", |filter| filter.run_id = "r".repeat(129));
}

#[track_caller]
fn scope_says(path: &str, scope: pb::SuppressionScope, word: &str) {
    let raw = pb::Suppression { scope: scope.into(), word: word.into(), ..pb::Suppression::default() };
    let said = reach(&raw, &"acme".parse().unwrap(), &Sealer::ephemeral().unwrap()).err();
    assert_eq!(said.as_ref().map_or("", |invalid| &invalid.path), path, "{said:?}");
}

#[test]
fn scopes() {
    use pb::SuppressionScope as Raw;
    scope_says("", Raw::Unspecified, "");
    scope_says("", Raw::Everything, "");
    scope_says("", Raw::Topic, "sale");
    scope_says("word", Raw::Topic, "");
    scope_says("word", Raw::Sender, "");
    scope_says("word", Raw::Brand, "sale");
    scope_says("word", Raw::Sender, &"x".repeat(65));
    scope_says("", Raw::Signature, "x");
    scope_says("word", Raw::Signature, "");
    scope_says("", Raw::Global, "");
    scope_says("word", Raw::Global, "x");
    let raw = pb::Suppression { scope: 99, ..pb::Suppression::default() };
    let sealer = Sealer::ephemeral().unwrap();
    assert_eq!(reach(&raw, &"a".parse().unwrap(), &sealer).unwrap_err().path, "scope");
    let brand = reach(&pb::Suppression::default(), &"a".parse().unwrap(), &sealer);
    assert_eq!(brand, Ok(((Scope::Brand, None), "".into())));
    let raw = pb::Suppression { kind: pb::Kind::Call.into(), ..pb::Suppression::default() };
    let calls = reach(&raw, &"a".parse().unwrap(), &sealer);
    assert_eq!(calls, Ok(((Scope::Brand, Some(Kind::Call)), "".into())));
    let raw = pb::Suppression { kind: 9, ..pb::Suppression::default() };
    assert_eq!(reach(&raw, &"a".parse().unwrap(), &sealer).unwrap_err().path, "kind");
}

#[test]
fn an_address_is_shown_as_it_was_given() {
    for address in ["+8613800000000", "wechat:wx1/o-1/2", "wecom:ww1/wm1", "wecom-chat:wr1", "wecom-user:zhang"] {
        assert_eq!(one_address(Some(address_to_pb(address))).as_deref(), Ok(address));
    }
}

#[test]
fn an_opt_out_names_one_address() {
    let address = |change: fn(&mut pb::Recipient)| {
        let mut raw = pb::Recipient::default();
        change(&mut raw);
        one_address(Some(raw)).map_err(|invalid| invalid.problem)
    };
    assert_eq!(address(|raw| raw.phone = "+4915112345678".into()), Ok("+4915112345678".into()));
    assert_eq!(address(|raw| raw.wecom_chat_id = "g".into()), Ok("wecom-chat:g".into()));
    assert_eq!(address(|_| {}), Err(Problem::NotOneAddress));
    assert_eq!(
        address(|raw| (raw.phone, raw.wecom_userid) = ("+4915112345678".into(), "u".into())),
        Err(Problem::NotOneAddress)
    );
}
