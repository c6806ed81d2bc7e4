//! What is exported is what the table says: no more, no less.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::domain::call::CallResult;
use crate::domain::cap::Mode;
use crate::domain::event::Fate;
use crate::domain::ids::{Lane, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::money::Money;
use crate::domain::suppression::Source;
use crate::telemetry::exporter;

const SECOND: Duration = Duration::from_secs(1);

/// Touches every handle once.
fn count_everything() {
    let acme: TenantId = "acme".parse().unwrap();
    let admission = AdmissionMetrics::new();
    admission.accepted(&acme, (Kind::Sms, Class::Otp), 2, SECOND);
    admission.refused(Some(&acme), RefusedAs::Invalid, 1);
    admission.keys_away();
    let queue = QueueMetrics::new();
    queue.published(true, SECOND);
    queue.failed("timeout");
    let health = QueueHealth::new();
    health.up(true);
    health.dead_letters(2);
    let limits = LimitsMetrics::new();
    limits.answered(LimitsOp::Claim, SECOND);
    limits.failed(LimitsOp::Lease);
    let dispatch = DispatchMetrics::new();
    dispatch.deferred("rate");
    dispatch.suppressed("opt_out");
    dispatch.cap("daily", CapDecision::Taken, Mode::Enforce, 3);
    dispatch.without_limits(Class::Otp, OptOutsAsked::Ledger);
    limits_recovering(true);
    dispatch.waited(Class::Marketing, SECOND);
    dispatch.sent(Class::Marketing, SECOND);
    let agenda = AgendaMetrics::new();
    agenda.depth(7, SECOND);
    agenda.released(Class::Marketing, 4);
    LaneDepth::new(&Lane { class: Class::Otp, pool: "default".parse().unwrap() }).set(1);
    let provider = ProviderMetrics::new(&"carrier-a".parse().unwrap());
    let cost: Money = "0.045 CNY".parse().unwrap();
    CostMetrics::new(&"carrier-a".parse().unwrap(), cost.currency).spent(cost);
    provider.attempt(Verdict::Unresolved, SECOND);
    provider.receipt(Some(Fate::Delivered));
    provider.receipt(None);
    provider.receipt_after(SECOND);
    provider.health(true, 5_000.0, 12);
    provider.breaker(Breaker::HalfOpen);
    LinkMetrics::new(&"carrier-a".parse().unwrap()).note(LinkEvent::Bound, 1);
    let callbacks = CallbackMetrics::new([&"cloud".parse().unwrap()]);
    callbacks.count(&"cloud".parse().unwrap(), CallbackResult::Replayed);
    callbacks.unknown();
    PollMetrics::new(&"cloud".parse().unwrap()).count(PollResult::Looked, 2);
    TrunkMetrics::new(&"trunk".parse().unwrap()).in_progress(3);
    CallMetrics::default().ended(CallResult::Completed, SECOND);
    let record = RecordMetrics::new();
    record.finished(&acme, (Kind::Call, Class::Notification), Fate::Completed, 1);
    record.receipts_unmatched(1);
    record.resent(1);
    record.strays(1);
    opted_out(Kind::Sms, Source::Keyword);
    fallback_step(Kind::Call, Class::Notification);
    certificate_expires(1_800_000_000);
    key_expires(Key::Api, None);
    record.unresolved(1);
    record.lag(SECOND);
}

#[test]
fn what_is_exported_is_what_the_table_says() {
    let exported = exporter::capture(count_everything);
    let mut seen = BTreeSet::new();
    for line in exported.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').map_or((series, ""), |(name, labels)| (name, labels));
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let metric = TABLE.iter().find(|metric| metric.name == family);
        let metric = metric.unwrap_or_else(|| panic!("{family} is exported and stands in no table"));
        let labels: BTreeSet<_> = labels
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|label| label.split_once("=\"").map(|(name, _)| name))
            .filter(|label| *label != "le")
            .collect();
        assert_eq!(labels, metric.labels.iter().copied().collect(), "labels of {family}");
        seen.insert(metric.name);
    }
    let expected: BTreeSet<_> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(expected, seen, "every metric of the table is exported");
}

#[test]
fn every_metric_is_described_once_and_histograms_have_buckets() {
    let exported = exporter::capture(count_everything);
    for metric in TABLE {
        let kind = match metric.shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::FastSeconds | Shape::SlowSeconds => "histogram",
        };
        let help = format!("# HELP {} {}\n", metric.name, metric.help);
        assert_eq!(exported.matches(&help).count(), 1, "{help}");
        assert!(exported.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{} is a {kind}", metric.name);
        assert!(metric.help.ends_with('.'), "help of {} is a sentence", metric.name);
        assert_eq!(TABLE.iter().filter(|other| other.name == metric.name).count(), 1, "{} twice", metric.name);
    }
}

#[test]
fn counts_arrive_where_they_belong() {
    let exported = exporter::capture(count_everything);
    for line in [
        "postrider_jobs_accepted_total{kind=\"sms\",class=\"otp\"} 2",
        "postrider_tenant_jobs_accepted_total{tenant=\"acme\"} 2",
        "postrider_caps_decisions_total{rule=\"daily\",decision=\"taken\",mode=\"enforce\"} 3",
        "postrider_jobs_finished_total{kind=\"call\",class=\"notification\",outcome=\"completed\"} 1",
        "postrider_attempts_total{provider=\"carrier-a\",verdict=\"unresolved\"} 1",
        "postrider_breaker_state{provider=\"carrier-a\"} 1",
        "postrider_callbacks_total{provider=\"cloud\",result=\"replayed\"} 1",
        "postrider_callbacks_total{provider=\"unknown\",result=\"unknown\"} 1",
        "postrider_unresolved_jobs 1",
    ] {
        assert!(exported.contains(&format!("{line}\n")), "missing {line:?} in:\n{exported}");
    }
}
