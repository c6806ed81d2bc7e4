//! A job that crash after crash hits at its claim: it was never handed over, so it goes out in the end.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{Class, Fate};

use super::{PATIENCE, died_at};
use crate::support::api::{self, Watched};
use crate::support::servers;
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

/// Crashes in a row, each at the first claim of a process.
const DEATHS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn what_must_go_out_does_so_after_many_crashes_on_the_embedded_backends() {
    goes_out(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_go_out_does_so_after_many_crashes_on_the_servers() {
    let backends = Backends::Servers {
        queue: servers::rabbitmq().vhost(),
        limits: servers::redis().database(),
        ledger: servers::postgres().database(),
    };
    goes_out(&backends).await;
}

async fn goes_out(backends: &Backends) {
    let clock = Clock::system();
    let sink = Sink::start(&[]);
    // A claim is looked into 5 s after the provider's own time-out.
    let settings = smpp_provider(sink.port(), "response_timeout = \"1s\"\nreconnect_delay = \"100ms\"\n");
    let service = Service::start(backends, &settings);
    let client = api::jobs(&service);
    // Due in a moment, so that the process that accepts it does not claim it.
    let spec = api::at(api::text(Class::Otp, "hello"), clock.now().as_secs() + 3);
    let [id] = &api::insist(&client, &api::batch("key", spec, &["+8613800000000".to_owned()])).await[..] else {
        panic!()
    };
    service.kill();
    let mut watched = Watched::default();
    for _ in 0..DEATHS {
        service.restart(Some("after_claim:1"));
        died_at(&service, "after_claim:1", &clock, &mut watched, &client).await;
        assert!(sink.submits().is_empty(), "a process that dies at its first claim hands nothing over");
    }
    service.restart(None);
    let watch = clock.stopwatch();
    while !watched.outcomes.contains_key(id) && watch.elapsed() < PATIENCE {
        watched.follow(&client, Duration::from_millis(500)).await;
    }
    let fates: Vec<_> = watched.outcomes.get(id).into_iter().flatten().map(|(fate, _)| *fate).collect();
    assert_eq!((sink.taken().len(), &fates[..]), (1, &[Fate::Delivered][..]), "the service said:\n{}", service.log());
    assert!(watched.unresolved.contains(id), "each crash left it without an answer");
}
