//! PostgreSQL away while jobs are due: what is due soon goes on time, passwords go, opt-outs that are given meanwhile
//! bind, callers are known by their keys and caps hold; what waits in the agenda stands still, and goes afterwards.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, Class, Fate, State, SuppressionScope};
use tonic::Code;

use crate::support::api::{self, Client, Watched, numbers};
use crate::support::proxy::Proxy;
use crate::support::servers;
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

const PATIENCE: Duration = Duration::from_secs(120);
/// Jobs of a tenant whose rate keeps them in the agenda.
const BACKLOG: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ledger_what_is_due_soon_goes_and_an_opt_out_binds() {
    the_ledger_is_away(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: the ledger is away for a minute"]
async fn without_a_ledger_for_a_minute_what_is_due_soon_goes_and_an_opt_out_binds() {
    the_ledger_is_away(Duration::from_secs(60)).await;
}

async fn the_ledger_is_away(cut: Duration) {
    let (clock, sink) = (Clock::system(), Sink::start(&["--latency", "5"]));
    let server = servers::postgres();
    let proxy = Proxy::to(server.port());
    let Backends::Servers { queue, limits, ledger } = Backends::servers() else { panic!("servers") };
    let ledger = ledger.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let provider = smpp_provider(sink.port(), "binds = 1\nwindow = 50\nrate = \"500/s\"\nresponse_timeout = \"5s\"\n");
    let service = Service::start(&Backends::Servers { queue, limits, ledger }, &provider);
    let mut run = Run { client: api::jobs(&service), service, sink, clock, jobs: HashMap::new() };
    api::cap_marketing(&run.service).await;
    let capped = numbers(0, 20);
    run.submit("capped", Class::Marketing, &capped).await;
    run.until("the capped are reached", |run| run.reached(&capped) == 20).await;
    let backlog = numbers(10_000, BACKLOG);
    let rate = Some(pb::Rate { per_second: 20, burst: 20 });
    let crowd = api::tenant(&run.service, "crowd", rate).await;
    let crowded = api::insist(&crowd, &api::batch("backlog", api::text(Class::Marketing, "soon"), &backlog)).await;
    run.until("the agenda has a backlog", |run| run.reached(&backlog) > 0 && run.agenda_depth() > 300.0).await;

    // Due while the ledger is away; some of them will have opted out by then.
    let (soon, regretting) = (numbers(1_000, 100), numbers(2_000, 20));
    for (group, numbers) in [("soon", &soon), ("regretting", &regretting)] {
        run.submit_at(group, Class::Marketing, numbers, run.clock.now().as_secs() + 6).await;
    }
    proxy.refuse();
    let away = run.clock.stopwatch();
    for number in &regretting {
        api::opt_out(&run.service, number, SuppressionScope::Brand).await;
    }
    assert!(away.elapsed() < Duration::from_secs(4), "an opt-out needs no ledger: {:?}", away.elapsed());
    run.submit("after the opt-out", Class::Marketing, &regretting).await;
    run.submit("over the cap", Class::Marketing, &capped).await;
    run.keys_are_known().await;
    let mut urgent = vec![];
    while away.elapsed() < cut {
        let more = numbers(100_000 + urgent.len(), 4);
        run.submit(&format!("code {}", urgent.len()), Class::Otp, &more).await;
        urgent.extend(more);
        run.clock.pause(Duration::from_millis(200)).await;
    }
    run.until("codes go", |run| run.reached(&urgent) == urgent.len()).await;
    run.until("what was due went", |run| run.reached(&soon) == soon.len()).await;
    let stood = run.reached(&backlog);
    run.clock.pause(Duration::from_secs(1)).await;
    assert_eq!(run.reached(&backlog), stood, "the agenda stands still");
    assert!(stood < BACKLOG * 3 / 4, "{stood} of the backlog went: nothing was tried");
    println!("{} codes and {} due jobs went in {:?} without a ledger", urgent.len(), soon.len(), away.elapsed());

    proxy.heal();
    run.until("the agenda goes on", |run| run.reached(&backlog) == BACKLOG).await;
    run.all_settles().await;
    let mut watched = Watched::default();
    let settled = |watched: &Watched| crowded.iter().all(|job| watched.outcomes.contains_key(job));
    follow(&crowd, &mut watched, "the crowd's jobs settle", settled).await;
    let nobody = [&regretting[..]].concat();
    assert_eq!(run.reached(&nobody), 0, "nobody who opted out");
    run.everybody_once([capped, backlog, soon, urgent].concat());
}

/// A service, whom it reached, and the jobs that it accepted, by group.
struct Run {
    service: Service,
    client: Client,
    sink: Sink,
    clock: Clock,
    jobs: HashMap<String, Vec<String>>,
}

impl Run {
    async fn submit(&mut self, group: &str, class: Class, numbers: &[String]) {
        let ids = api::insist(&self.client, &api::batch(group, api::text(class, group), numbers)).await;
        self.jobs.insert(group.to_owned(), ids);
    }

    async fn submit_at(&mut self, group: &str, class: Class, numbers: &[String], at: i64) {
        let spec = api::at(api::text(class, group), at);
        let ids = api::insist(&self.client, &api::batch(group, spec, numbers)).await;
        self.jobs.insert(group.to_owned(), ids);
    }

    fn reached(&self, among: &[String]) -> usize {
        self.sink.reached(among)
    }

    fn agenda_depth(&self) -> f64 {
        let depth = |line: &String| line.strip_prefix("postrider_agenda_depth ")?.parse().ok();
        self.service.metrics().iter().find_map(depth).unwrap_or(0.0)
    }

    /// A wrong key is told from a right one.
    async fn keys_are_known(&self) {
        let mut stranger = Client::new(self.service.connect_with("pr_no_such_key"));
        let request = api::submit("", api::text(Class::Otp, "1234"), "+8613999999999");
        assert_eq!(stranger.submit(request).await.unwrap_err().code(), Code::Unauthenticated);
    }

    /// Waits until each job has the outcome that it must have.
    async fn all_settles(&self) {
        let put_off = &self.jobs["over the cap"];
        let all: Vec<&String> = self.jobs.values().flatten().filter(|job| !put_off.contains(job)).collect();
        let mut watched = Watched::default();
        let settled = |watched: &Watched| {
            all.iter().all(|job| watched.outcomes.contains_key(*job))
                && put_off.iter().all(|job| watched.states.get(job) == Some(&State::Scheduled))
        };
        follow(&self.client, &mut watched, "everything settles", settled).await;
        for (group, jobs) in self.jobs.iter().filter(|(group, _)| *group != "over the cap") {
            for job in jobs {
                let outcomes: Vec<Fate> = watched.outcomes[job].iter().map(|(fate, _)| *fate).collect();
                let must = match group.as_str() {
                    "regretting" | "after the opt-out" => &[Fate::Suppressed][..],
                    _ => &[Fate::Sent, Fate::Delivered],
                };
                assert!(outcomes.len() == 1 && must.contains(&outcomes[0]), "{group}: {outcomes:?}");
            }
        }
    }

    fn everybody_once(&self, reached: Vec<String>) {
        let mut handed: HashMap<String, usize> = HashMap::new();
        self.sink.taken().into_iter().for_each(|submit| *handed.entry(submit.to).or_default() += 1);
        let not_once = |number: &&String| handed.get(number.trim_start_matches('+')) != Some(&1);
        let not_once: Vec<_> = reached.iter().filter(not_once).collect();
        assert!(not_once.is_empty(), "not once: {not_once:?}");
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let watch = self.clock.stopwatch();
        while !holds(self) {
            assert!(watch.elapsed() < PATIENCE, "waited in vain: {what}; it said:\n{}", self.service.log());
            self.clock.pause(Duration::from_millis(100)).await;
        }
    }
}

async fn follow(client: &Client, watched: &mut Watched, what: &str, done: impl Fn(&Watched) -> bool) {
    let watch = Clock::system().stopwatch();
    while !done(watched) {
        watched.follow(client, Duration::from_millis(200)).await;
        assert!(watch.elapsed() < PATIENCE, "waited in vain: {what}");
    }
}
