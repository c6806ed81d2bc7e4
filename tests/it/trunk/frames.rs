//! A frame with calls in it is not held for as long as they last: once they are dialled it is done with.

use postrider::domain::ids::Lane;
use postrider::domain::job::Class as OfJob;
use postrider::domain::time::Stopwatch;
use postrider::queue::embedded::{self, Embedded};
use postrider::queue::{Queue as _, QueueName};
use postrider::shutdown::Tasks;

use super::*;
use crate::support::servers;

const CALLS: usize = 12;
/// A frame is held for so long at most anyway: these calls last longer than this test, which looks before that.
const HELD: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(10);

/// A trunk on which everybody answers at once, presses nothing and stays.
fn patient() -> String {
    let more =
        format!("lines = {CALLS}\ncalls_per_s = 1000\nlatency = \"1ms\"\nring = \"10ms\"\ntalk = \"600s\"\nkeys = []");
    let nobody = ["busy", "no_answer", "declined", "invalid_number", "unreachable", "network"]
        .map(|part| format!("\n{part} = 0"));
    format!("[[provider]]\nid = \"trunk\"\nkind = \"simulated-trunk\"\n{more}{}\n", nobody.concat())
}

/// Returns a service in which as many calls as there are lines are talked in, all of one batch, and since when.
async fn talking(backends: &Backends) -> (Service, Stopwatch) {
    let service = Service::start(backends, &patient());
    let client = api::jobs(&service);
    let mut spec = calls("long");
    let Some(job_spec::Content::Call(content)) = &mut spec.content else { panic!("a call") };
    content.after = vec![];
    let Some(call_content::Source::InlineFlow(flow)) = &mut content.source else { panic!("a flow") };
    let Some(flow_node::Act::Gather(gather)) = &mut flow.nodes.get_mut("menu").unwrap().act else { panic!("a menu") };
    gather.wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let clock = Clock::system();
    let watch = clock.stopwatch();
    api::insist(&client, &api::batch("long", spec, &api::numbers(0, CALLS))).await;
    let sent = |line: &String| {
        line.starts_with("postrider_attempts_total{provider=\"trunk\",verdict=\"taken\"}")
            && line.ends_with(&format!(" {CALLS}"))
    };
    while !service.metrics().iter().any(sent) || up(&service) < CALLS {
        assert!(watch.elapsed() < SOON * 3, "{} calls are up:\n{}", up(&service), service.log());
        clock.pause(Duration::from_millis(20)).await;
    }
    (service, watch)
}

fn up(service: &Service) -> usize {
    let gauge = "postrider_calls_in_progress{trunk=\"trunk\"} ";
    service.metrics().iter().find_map(|line| line.strip_prefix(gauge)?.parse().ok()).unwrap_or(0)
}

fn lane() -> Lane {
    Lane { class: OfJob::Transactional, pool: "voice".parse().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_acknowledged_while_its_calls_are_up_on_servers() {
    let (queue, limits) = (servers::rabbitmq().vhost(), servers::redis().database());
    let vhost = queue.rsplit_once('/').unwrap().1.to_owned();
    let (service, begun) = talking(&Backends::Servers { queue, limits, ledger: servers::postgres().database() }).await;
    let (clock, name) = (Clock::system(), QueueName::Lane(lane()).to_string());
    let watch = clock.stopwatch();
    loop {
        let asked = ["-p", &vhost, "list_queues", "--no-table-headers", "name", "messages", "messages_unacknowledged"];
        let said = servers::rabbitmq().ctl(&asked);
        let line = said.lines().find(|line| line.split_whitespace().next() == Some(&name));
        let counts = line.unwrap_or_else(|| panic!("no {name} among:\n{said}")).split_whitespace().skip(1);
        if counts.eq(["0", "0"]) {
            break;
        }
        assert!(watch.elapsed() < SOON, "the frame is held:\n{said}");
        clock.pause(Duration::from_millis(200)).await;
    }
    assert_eq!(up(&service), CALLS, "all of them are still talked in");
    assert!(begun.elapsed() < HELD, "too slow to tell");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_acknowledged_while_its_calls_are_up_embedded() {
    let (service, begun) = talking(&Backends::Embedded).await;
    // Acknowledgements are written behind: moments later they are.
    let clock = Clock::system();
    clock.pause(Duration::from_secs(2)).await;
    assert_eq!(up(&service), CALLS, "all of them are still talked in");
    service.kill();
    assert!(begun.elapsed() < HELD, "too slow to tell");
    // What was not acknowledged would wait again.
    let (tasks, dir) = (Tasks::new(), service.dir().join("data/queue"));
    let queue = Embedded::open(&dir, embedded::Options::default(), &tasks, &clock).await.unwrap();
    queue.declare(&[lane()]).await.unwrap();
    assert_eq!(queue.depth(&QueueName::Lane(lane())).await, Ok(0), "the frame was held");
    queue.close().await;
}
