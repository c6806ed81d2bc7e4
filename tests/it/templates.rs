//! Templates through the whole service: stored, filled in, sent by every means, refused when they do not fit.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::template_service_client::TemplateServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{self, ApprovalState, Class, Fate, JobSpec, Kind, ProviderTemplate, job_spec};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::api;
use crate::support::service::{Backends, Connection, Service};

const SETTINGS: &str = "\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\nlatency = \"1ms\"\nprice = \"0.045 CNY\"\n\
                        receipt_after = \"10ms\"\n";

fn templates(service: &Service) -> TemplateServiceClient<Connection> {
    TemplateServiceClient::new(service.connect())
}

fn params(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A template with an order and a shop, in two locales.
fn order() -> pb::Template {
    let variable = |name: &str, form: &str, default: &str| pb::TemplateVariable {
        name: name.into(),
        r#type: form.into(),
        length_max: 0,
        default_value: default.into(),
    };
    let body = |locale: &str, text: &str| pb::TemplateBody {
        locale: locale.into(),
        sms_text: text.into(),
        call_text: text.into(),
        wecom_text: text.into(),
        ..Default::default()
    };
    pb::Template {
        name: "order".into(),
        variables: vec![variable("order", "character_string", ""), variable("shop", "thing", "Pudong")],
        bodies: vec![
            body("zh-CN", "【Acme】订单{order}已从{shop}发货"),
            body("en", "Your order {order} has left {shop}"),
        ],
        ..Default::default()
    }
}

fn by_name(kind: Kind, name: &str) -> JobSpec {
    let content = match kind {
        Kind::Sms | Kind::Unspecified => {
            job_spec::Content::Sms(pb::SmsContent { template: name.into(), ..Default::default() })
        }
        Kind::Template => {
            job_spec::Content::Template(pb::TemplateContent { template: name.into(), ..Default::default() })
        }
        Kind::Call => job_spec::Content::Call(pb::CallContent {
            source: Some(pb::call_content::Source::Flow(name.into())),
            ..Default::default()
        }),
    };
    JobSpec { content: Some(content), ..api::text(Class::Transactional, "") }
}

fn recipient() -> pb::Recipient {
    let wechat = vec![pb::WechatAddress { appid: "wx0123456789".into(), openid: "o-1".into() }];
    pb::Recipient { wechat, ..api::phone("+8613800000001") }
}

async fn submit(service: &Service, spec: JobSpec, values: &[(&str, &str)]) -> Result<String, Status> {
    let (spec, recipient) = (Some(spec), Some(recipient()));
    let request = pb::SubmitRequest { spec, recipient, params: params(values), ..Default::default() };
    Ok(api::jobs(service).submit(request).await?.into_inner().job_id)
}

/// Waits for a job's outcome.
async fn outcome(service: &Service, job: &str) -> (pb::Job, Fate) {
    let (clock, patience) = (Clock::system(), Duration::from_secs(60));
    let watch = clock.stopwatch();
    loop {
        let request = pb::GetJobRequest { job_id: job.into(), ..Default::default() };
        if let Ok(answer) = api::jobs(service).get_job(request).await {
            let job = answer.into_inner().job.unwrap();
            if let Some(outcome) = &job.outcome {
                let fate = outcome.fate();
                return (job, fate);
            }
        }
        assert!(watch.elapsed() < patience, "{job} has no outcome");
        clock.pause(Duration::from_millis(50)).await;
    }
}

async fn preview(
    service: &Service,
    kind: Kind,
    locale: &str,
    values: &[(&str, &str)],
) -> Result<(String, u32), Status> {
    let (name, locale, kind) = ("order".into(), locale.into(), kind.into());
    let request = pb::PreviewTemplateRequest { name, version: 0, kind, locale, params: params(values) };
    let shown = templates(service).preview_template(request).await?.into_inner();
    let cost = shown.cost.map(|cost| (cost.currency, cost.micros));
    assert_eq!(cost, Some(("CNY".into(), 45_000 * i64::from(shown.segments.max(1)))));
    Ok((shown.text, shown.segments))
}

#[track_caller]
fn refused(answer: Result<impl std::fmt::Debug, Status>, code: Code, field: &str, says: &str) {
    let status = answer.unwrap_err();
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let named = violations.first().map(|violation| violation.field.as_str()).unwrap_or_default();
    assert_eq!((status.code(), named), (code, field), "{status:?}");
    assert!(status.message().contains(says), "{:?} does not say {says:?}", status.message());
}

/// What a cloud bills is counted, and not what the phone shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_preview_counts_as_the_pool_of_the_route_bills() {
    let cloud = "\n[[provider]]\nid = \"aliyun\"\nkind = \"aliyun-sms\"\npool = \"cloud\"\naccess_key_id = \"id\"\n\
                 access_key_secret = \"secret\"\nsign_name = \"晨星\"\ntemplate = \"SMS_1\"\nreceipts = false\n\
                 price = \"0.03 CNY\"\nendpoint = \"http://127.0.0.1:9\"\n";
    let service = Service::start(&Backends::Embedded, &format!("{SETTINGS}{cloud}"));
    // Behind 【晨星】 it is one character longer than a segment.
    let sms_text = "x".repeat(67);
    let body = pb::TemplateBody { sms_text, call_text: "x".into(), ..Default::default() };
    api::put_template(&service, pb::Template { name: "long".into(), bodies: vec![body], ..Default::default() }).await;
    let shown = async |kind: Kind| {
        let request = pb::PreviewTemplateRequest { name: "long".into(), kind: kind.into(), ..Default::default() };
        let shown = templates(&service).preview_template(request).await.unwrap().into_inner();
        (shown.segments, shown.cost.map(|cost| cost.micros))
    };
    assert_eq!(shown(Kind::Sms).await, (1, Some(45_000)));
    let all = pb::TenantRoute { pool: "cloud".into(), ..Default::default() };
    let filter = Some(pb::RuleFilter { classes: vec![Class::Otp.into()], ..Default::default() });
    let some = pb::TenantRoute { filter, ..all.clone() };
    for (routes, expected) in [(vec![some.clone()], (1, Some(45_000))), (vec![some, all], (2, Some(60_000)))] {
        let update_mask = Some(prost_types::FieldMask { paths: vec!["routes".into()] });
        let tenant = Some(pb::Tenant { tenant_id: "default".into(), routes, ..Default::default() });
        let request = pb::UpdateTenantRequest { tenant, update_mask };
        TenantServiceClient::new(service.connect()).update_tenant(request).await.unwrap();
        assert_eq!(shown(Kind::Sms).await, expected);
    }
    assert_eq!(shown(Kind::Call).await, (0, Some(45_000)), "which the cloud does not carry");
}

async fn every_kind_goes_by_one_name(backends: Backends) {
    let service = Service::start(&backends, SETTINGS);
    let stored = api::put_template(&service, order()).await;
    assert_eq!((stored.version, stored.variables[0].length_max), (1, 32));
    assert_eq!(
        preview(&service, Kind::Sms, "", &[("order", "A42")]).await.unwrap(),
        ("【Acme】订单A42已从Pudong发货".into(), 1)
    );
    let english = "Your order A42 has left Jing'an".to_owned();
    for locale in ["en", "en-GB"] {
        let values = [("order", "A42"), ("shop", "Jing'an")];
        assert_eq!(preview(&service, Kind::Call, locale, &values).await.unwrap(), (english.clone(), 0));
    }
    // A locale that it does not have is its first.
    assert!(preview(&service, Kind::Template, "fr", &[("order", "A42")]).await.unwrap().0.contains("订单"));
    for kind in [Kind::Sms, Kind::Template, Kind::Call] {
        let id = submit(&service, by_name(kind, "order"), &[("order", "A42")]).await.unwrap();
        let (_, fate) = outcome(&service, &id).await;
        assert!(
            matches!(fate, Fate::Delivered | Fate::Completed | Fate::Undelivered | Fate::Failed),
            "{kind:?} {fate:?}"
        );
    }
}

#[tokio::test]
async fn every_kind_goes_by_one_name_embedded() {
    every_kind_goes_by_one_name(Backends::Embedded).await;
}

#[tokio::test]
async fn every_kind_goes_by_one_name_on_servers() {
    every_kind_goes_by_one_name(Backends::servers()).await;
}

#[tokio::test]
async fn a_waiting_job_keeps_its_version_through_deletion_and_restart() {
    let service = Service::start(&Backends::Embedded, SETTINGS);
    api::put_template(&service, order()).await;
    let soon = |seconds| api::at(by_name(Kind::Sms, "order"), Clock::system().now().as_secs() + seconds);
    let waiting = submit(&service, soon(4), &[("order", "A42")]).await.unwrap();
    // A second version asks for more: the first is what the waiting job has.
    let mut wider = order();
    wider.variables.push(pb::TemplateVariable { name: "day".into(), ..Default::default() });
    assert_eq!(api::put_template(&service, wider).await.version, 2);
    refused(submit(&service, soon(1), &[("order", "A42")]).await, Code::InvalidArgument, "params", "{day}");
    let gone = pb::DeleteTemplateRequest { name: "order".into() };
    templates(&service).delete_template(gone.clone()).await.unwrap();
    refused(templates(&service).delete_template(gone).await, Code::NotFound, "", "template");
    refused(submit(&service, soon(1), &[("order", "A42")]).await, Code::NotFound, "", "template");
    let first = pb::GetTemplateRequest { name: "order".into(), version: 1 };
    assert_eq!(templates(&service).get_template(first).await.unwrap().into_inner().template.unwrap().version, 1);
    // The new process has no version of it in memory.
    service.kill();
    service.restart(None);
    let (job, fate) = outcome(&service, &waiting).await;
    assert_eq!(fate, Fate::Delivered, "{job:?}");
    assert_eq!(api::put_template(&service, order()).await.version, 3);
}

fn at(approval: ApprovalState) -> ProviderTemplate {
    ProviderTemplate { provider_id: "aliyun".into(), template_id: "SMS_1".into(), approval: approval.into() }
}

/// The template with a change.
fn changed(change: fn(&mut pb::Template)) -> pb::Template {
    let mut template = order();
    change(&mut template);
    template
}

/// The field that is wrong, a word of the message, and the change.
type Wrong = (&'static str, &'static str, fn(&mut pb::Template));

const WRONG: [Wrong; 12] = [
    ("template.name", "name", |t| t.name = "Order Shipped".into()),
    ("template.bodies", "must be given", |t| t.bodies.clear()),
    ("template.bodies[1].locale", "twice", |t| t.bodies[1].locale = "zh-cn".into()),
    ("template.bodies[1].locale", "must be given", |t| t.bodies[1].locale.clear()),
    ("template.bodies[0].sms_text", "{oder}", |t| t.bodies[0].sms_text = "{oder}".into()),
    ("template.bodies[0].sms_text", "2000", |t| t.bodies[0].sms_text = "x".repeat(2_001)),
    ("template.variables[0].type", "character_string", |t| t.variables[0].r#type = "string".into()),
    ("template.variables[0].length_max", "32", |t| t.variables[0].length_max = 33),
    ("template.variables[1].default_value", "21 characters", |t| t.variables[1].default_value = "x".repeat(21)),
    ("template.variables[1].name", "twice", |t| t.variables[1].name = "order".into()),
    ("template.providers[0].approval", "must be given", |t| t.providers = vec![at(ApprovalState::Unspecified)]),
    ("template", "65536", |t| t.bodies = (0..16).map(long).collect()),
];

fn long(number: u32) -> pb::TemplateBody {
    pb::TemplateBody { locale: format!("x-{number}"), wecom_text: "鞋".repeat(2_000), ..Default::default() }
}

#[tokio::test]
async fn a_template_that_cannot_be_is_refused_by_field() {
    let service = Service::start(&Backends::Embedded, SETTINGS);
    for (field, says, change) in WRONG {
        let request = pb::PutTemplateRequest { template: Some(changed(change)) };
        refused(templates(&service).put_template(request).await, Code::InvalidArgument, field, says);
    }
    assert_eq!(api::put_template(&service, order()).await.version, 1);
}

#[tokio::test]
async fn a_job_that_does_not_fit_its_template_is_refused_by_name_when_it_is_submitted() {
    let service = Service::start(&Backends::Embedded, SETTINGS);
    api::put_template(&service, order()).await;
    let send = |kind, values: &'static [(&'static str, &'static str)]| submit(&service, by_name(kind, "order"), values);
    let bad = Code::InvalidArgument;
    refused(send(Kind::Sms, &[]).await, bad, "params", "{order}");
    refused(send(Kind::Sms, &[("order", "A"), ("size", "9")]).await, bad, "params[size]", "order, shop");
    refused(
        send(Kind::Sms, &[("order", "A"), ("shop", "a shop in a very long street")]).await,
        bad,
        "params[shop]",
        "20",
    );
    refused(send(Kind::Template, &[("order", "订单")]).await, bad, "params[order]", "character_string");
    refused(send(Kind::Call, &[("order", "")]).await, bad, "params[order]", "empty");
    refused(submit(&service, by_name(Kind::Sms, "unheard-of"), &[]).await, Code::NotFound, "", "template");
    // Each item of a batch answers for its own values.
    let item = |values: &[(&str, &str)]| {
        let (recipient, params) = (Some(recipient()), params(values));
        pb::BatchItem { recipient, params, ..Default::default() }
    };
    let items = vec![item(&[("order", "A1")]), item(&[]), item(&[("order", "A2")])];
    let request = pb::SubmitBatchRequest { spec: Some(by_name(Kind::Sms, "order")), items, ..Default::default() };
    let answer = api::jobs(&service).submit_batch(request).await.unwrap().into_inner();
    assert_eq!((answer.accepted, answer.refused), (2, 1));
    let Some(pb::batch_item_result::Result::Refusal(refusal)) = &answer.results[1].result else { panic!() };
    assert_eq!(refusal.field, "items[1].params");
    // A means that it has no text for, and a vendor that has not approved it.
    let mute = |template: &mut pb::Template| template.bodies.iter_mut().for_each(|body| body.call_text.clear());
    api::put_template(&service, changed(mute)).await;
    refused(send(Kind::Call, &[("order", "A")]).await, bad, "spec.call.flow", "no text for call");
    api::put_template(&service, changed(|t| t.providers = vec![at(ApprovalState::Pending)])).await;
    refused(send(Kind::Template, &[("order", "A")]).await, Code::FailedPrecondition, "", "approved");
    // Any carrier takes its text.
    send(Kind::Sms, &[("order", "A")]).await.unwrap();
    api::put_template(&service, changed(|t| t.providers = vec![at(ApprovalState::Approved)])).await;
    send(Kind::Template, &[("order", "A")]).await.unwrap();
}

#[tokio::test]
async fn another_tenants_template_does_not_exist() {
    let service = Service::start(&Backends::Embedded, SETTINGS);
    api::put_template(&service, order()).await;
    let mut tenants = TenantServiceClient::new(service.connect());
    let tenant = pb::Tenant { tenant_id: "other".into(), ..Default::default() };
    tenants.create_tenant(pb::CreateTenantRequest { tenant: Some(tenant) }).await.unwrap();
    let key = pb::CreateApiKeyRequest { tenant_id: "other".into(), role: pb::Role::Admin.into(), expires_at: None };
    let key = tenants.create_api_key(key).await.unwrap().into_inner().secret;
    let connection = || service.connect_with(&key);
    let mut theirs = TemplateServiceClient::new(connection());
    let get = pb::GetTemplateRequest { name: "order".into(), version: 1 };
    refused(theirs.get_template(get).await, Code::NotFound, "", "template");
    let gone = pb::DeleteTemplateRequest { name: "order".into() };
    refused(theirs.delete_template(gone).await, Code::NotFound, "", "template");
    let preview = pb::PreviewTemplateRequest { name: "order".into(), kind: Kind::Sms.into(), ..Default::default() };
    refused(theirs.preview_template(preview).await, Code::NotFound, "", "template");
    let request = pb::SubmitRequest {
        spec: Some(by_name(Kind::Sms, "order")),
        recipient: Some(recipient()),
        params: params(&[("order", "A")]),
        ..Default::default()
    };
    let submitted = pb::job_service_client::JobServiceClient::new(connection()).submit(request).await;
    refused(submitted, Code::NotFound, "", "template");
    assert!(
        theirs.list_templates(pb::ListTemplatesRequest::default()).await.unwrap().into_inner().templates.is_empty()
    );
    // The owner's list, page by page.
    for name in ["a", "b", "c"] {
        api::put_template(&service, pb::Template { name: name.into(), ..order() }).await;
    }
    let (mut seen, mut page_token) = (vec![], String::new());
    loop {
        let request = pb::ListTemplatesRequest { page_size: 3, page_token };
        let page = templates(&service).list_templates(request).await.unwrap().into_inner();
        seen.extend(page.templates.into_iter().map(|template| template.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["a", "b", "c", "order"]);
}
