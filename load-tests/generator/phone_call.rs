//! What phone calls say: a question, and a text for whoever presses 1, handed in while they are on the line.

use std::collections::BTreeMap;

use postrider::pb::flow_node::Act;
use postrider::pb::{self, CallResult, call_content};
use prost_types::Duration;

/// The template of the text that follows.
pub(crate) const FOLLOW_UP: &str = "follow-up";

/// Returns the content of a call. Nobody is called twice: each call has one outcome, and the account can balance.
pub(super) fn content() -> pb::CallContent {
    let failed = [
        CallResult::Busy,
        CallResult::NoAnswer,
        CallResult::Declined,
        CallResult::InvalidNumber,
        CallResult::Unreachable,
        CallResult::Machine,
        CallResult::Network,
    ];
    let never = |result: CallResult| pb::CallRetry { result: result.into(), after: Some(seconds(60)), times: 0 };
    pb::CallContent {
        source: Some(call_content::Source::InlineFlow(flow())),
        ring_max: Some(seconds(10)),
        retries: failed.map(never).into(),
        ..pb::CallContent::default()
    }
}

fn flow() -> pb::CallFlow {
    let node = |act, next: &str| pb::FlowNode { act: Some(act), next: next.into() };
    let say = |text: &str| Act::Say(pb::SayNode { text: text.into(), repeats: 1 });
    let gather = pb::GatherNode {
        menu: [("1".to_owned(), "link".to_owned())].into(),
        otherwise: "bye".into(),
        digits_max: 1,
        wait: Some(seconds(2)),
        ..pb::GatherNode::default()
    };
    let link = pb::SubmitNode { template: FOLLOW_UP.into(), kind: pb::Kind::Sms.into(), params: BTreeMap::new() };
    let nodes = [
        ("ask", node(say("Press 1"), "menu")),
        ("menu", node(Act::Gather(gather), "")),
        ("link", node(Act::Submit(link), "bye")),
        ("bye", node(say("Bye"), "")),
    ];
    let nodes = nodes.map(|(name, node)| (name.to_owned(), node)).into();
    pb::CallFlow { start: "ask".into(), nodes, ..pb::CallFlow::default() }
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}
