//! Quotas in the whole service: exact, by index in a batch, once under a key, over a restart, at once when they change.

use postrider::pb::batch_item_result::Result as Answer;
use postrider::pb::job_service_client::JobServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{
    BatchItem, CalendarUnit, Class, Money, Quota, Recipient, SubmitBatchRequest, SubmitBatchResponse, Tenant,
    UpdateTenantRequest, quota,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::api;
use crate::support::service::{Backends, Service};

const PROVIDERS: &str = "\n[[provider]]\nid = \"a\"\nkind = \"simulated\"\nprice = \"0.03 CNY\"\n\
                         \n[[provider]]\nid = \"b\"\nkind = \"simulated\"\nprice = \"0.05 CNY\"\n";

fn jobs(most: u64) -> Quota {
    // A month: at midnight of its last day alone this test would see a new window.
    let limit = Some(quota::Limit::Jobs(most));
    Quota { name: "jobs".into(), per: CalendarUnit::Month.into(), limit }
}

fn money(currency: &str, micros: i64) -> Quota {
    let limit = Some(quota::Limit::Money(Money { currency: currency.into(), micros }));
    Quota { name: "budget".into(), per: CalendarUnit::Month.into(), limit }
}

async fn set(service: &Service, quotas: Vec<Quota>) -> Result<(), Status> {
    let tenant = Tenant { tenant_id: "default".into(), quotas, ..Tenant::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["quotas".into()] });
    let request = UpdateTenantRequest { tenant: Some(tenant), update_mask };
    TenantServiceClient::new(service.connect()).update_tenant(request).await.map(|_| ())
}

/// Submits a batch of jobs whose texts have so many segments.
async fn batch(service: &Service, key: &str, segments: &[usize]) -> SubmitBatchResponse {
    let item = |(index, segments): (usize, &usize)| BatchItem {
        recipient: Some(Recipient { phone: format!("+86138002{index:05}"), ..Recipient::default() }),
        params: [("rest".to_owned(), "x".repeat(153 * segments - 10))].into(),
        ..BatchItem::default()
    };
    let request = SubmitBatchRequest {
        spec: Some(api::text(Class::Transactional, "{rest}")),
        items: segments.iter().enumerate().map(item).collect(),
        idempotency_key: key.into(),
    };
    JobServiceClient::new(service.connect()).submit_batch(request).await.unwrap().into_inner()
}

/// Returns the indexes that were accepted; all others must be over a quota.
#[track_caller]
fn taken(response: &SubmitBatchResponse) -> Vec<u32> {
    let taken = |result: &postrider::pb::BatchItemResult| match result.result.as_ref().unwrap() {
        Answer::JobId(_) => Some(result.index),
        Answer::Refusal(refusal) => {
            assert_eq!((refusal.code, &*refusal.reason), (Code::ResourceExhausted.into(), "OVER_QUOTA"));
            None
        }
    };
    response.results.iter().filter_map(taken).collect()
}

async fn single(service: &Service, key: &str) -> Result<String, Status> {
    let request = api::submit(key, api::text(Class::Transactional, "a quota"), "+8613800300000");
    api::jobs(service).submit(request).await.map(|response| response.into_inner().job_id)
}

async fn quotas_hold(backends: &Backends) {
    let service = Service::start(backends, PROVIDERS);
    set(&service, vec![jobs(10)]).await.unwrap();
    assert_eq!(taken(&batch(&service, "", &[1; 6]).await), [0, 1, 2, 3, 4, 5]);
    let first = batch(&service, "k", &[1; 6]).await;
    assert_eq!((taken(&first), first.accepted, first.refused), (vec![0, 1, 2, 3], 4, 2));
    let Some(Answer::Refusal(refusal)) = &first.results[4].result else { panic!("{first:?}") };
    assert!(refusal.message.contains("jobs") && refusal.retry_after.is_some_and(|after| after.seconds > 0));
    let over = single(&service, "").await.unwrap_err();
    let details = over.get_error_details();
    assert_eq!((over.code(), &*details.error_info().unwrap().metadata["quota"]), (Code::ResourceExhausted, "jobs"));
    assert!(details.retry_info().unwrap().retry_delay.is_some_and(|after| after.as_secs() > 0));

    // What was taken stays taken, and what was accepted under a key stays accepted, and nothing else does.
    service.kill();
    service.restart(None);
    assert_eq!(single(&service, "one").await.unwrap_err().code(), Code::ResourceExhausted);
    set(&service, vec![jobs(11)]).await.unwrap();
    let again = batch(&service, "k", &[1; 6]).await;
    assert_eq!((again.batch_id.clone(), taken(&again)), (first.batch_id, vec![0, 1, 2, 3]));
    // A key under which nothing was accepted is free; one under which something was takes nothing again.
    let job = single(&service, "one").await.unwrap();
    assert_eq!(single(&service, "one").await.unwrap(), job);
    assert_eq!(single(&service, "two").await.unwrap_err().code(), Code::ResourceExhausted);

    // Money: the dearest price, for each segment.
    assert_eq!(set(&service, vec![money("USD", 1)]).await.unwrap_err().code(), Code::InvalidArgument);
    set(&service, vec![money("CNY", 300_000)]).await.unwrap();
    assert_eq!(taken(&batch(&service, "", &[2, 3, 2, 1]).await), [0, 1], "the third would cost 0.10 more");
    assert_eq!(taken(&batch(&service, "", &[1, 1]).await), [0]);
    set(&service, vec![]).await.unwrap();
    assert_eq!(taken(&batch(&service, "k", &[1; 6]).await), [0, 1, 2, 3], "without quotas too");
    single(&service, "two").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_hold_on_embedded_backends() {
    quotas_hold(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_hold_on_servers() {
    quotas_hold(&Backends::servers()).await;
}
