//! What a stored template costs to fill in. Run it with `cargo bench --bench templates`.
//!
//! Modelled: what dispatch does for each job that names a template: the locale is looked up, values and defaults are put
//! in order, the text is filled. 70 characters come out, as one segment of UCS-2 holds. Figures are per render.

#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postrider::domain::job::Kind;
use postrider::domain::template::{Body, Form, Template, Variable};
use postrider::domain::time::UnixMicros;

type Values = Vec<(Box<str>, Box<str>)>;

fn template() -> (Template, Values) {
    let variable = |name: &str, default: &str| Variable {
        name: name.into(),
        form: Form::Thing,
        length_max: 20,
        default_value: default.into(),
    };
    let body = |locale: &str, text: &str| Body { locale: locale.into(), sms_text: text.into(), ..Body::default() };
    let template = Template {
        name: "order".into(),
        version: 1,
        variables: vec![variable("name", ""), variable("order", ""), variable("shop", "浦东店")],
        bodies: vec![
            body("en", "Dear {name}, your order {order} has left our shop in {shop}."),
            body(
                "zh",
                "【优选】尊敬的{name}，您的订单{order}已从{shop}发出，预计明天送达，请保持手机畅通并注意查收，有疑问请联系店铺，退订回T。",
            ),
        ],
        providers: vec![],
        stored_at: UnixMicros(0),
    };
    (template, vec![("name".into(), "欧阳女士".into()), ("order".into(), "A20261128001".into())])
}

fn render(c: &mut Criterion) {
    let (template, given) = template();
    let fill = |locale: &str| {
        let body = template.body(locale, Kind::Sms).unwrap();
        body.filled(Kind::Sms, &template.values(&given))
    };
    assert_eq!(fill("zh-CN").chars().count(), 70);
    let mut group = c.benchmark_group("render");
    group.throughput(Throughput::Elements(1));
    for locale in ["en", "zh-CN"] {
        group.bench_function(locale, |b| b.iter(|| fill(black_box(locale))));
    }
}

fn check(c: &mut Criterion) {
    let (template, given) = template();
    let mut group = c.benchmark_group("check");
    group.throughput(Throughput::Elements(1));
    group.bench_function("values", |b| b.iter(|| template.check(black_box(&given))));
}

criterion_group!(templates, render, check);
criterion_main!(templates);
