//! Messages to WeCom's customers and posts to their groups, which an employee confirms or does not.

mod stage;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use postrider::channel::Answer;
use postrider::channel::template::token::Alone;
use postrider::channel::template::wecom::callback::Desk;
use postrider::channel::template::wecom::customers::Customers;
use postrider::domain::recipient::{Recipient, RecipientKind, Wecom as At};
use postrider::domain::time::{Clock, UnixMicros};
use postrider::pb::job_selector::By;
use postrider::pb::{self, Fate};

use self::stage::{AHEAD, DAY, Stage, customer, group, settings, spec, with_phone, with_text};
use super::wecom::{AGENT, CORP, corporation_at, handover, link_of};
use crate::support::api;
use crate::support::cloud::{PATIENCE, Rig, callback_server, quick};
use crate::support::service::{Backends, Service};

#[tokio::test]
async fn equal_messages_of_one_sender_share_a_request_and_each_has_its_own_answer() {
    let (server, _url) = callback_server().await;
    let corporation = corporation_at("http://127.0.0.1:1", &Clock::system());
    let rig = Rig::start(Box::new(corporation.clone()), quick(), server, |address| {
        let more = "messages = \"customers\"\nconfirm_within = \"1h\"\n";
        let link = link_of(&format!("http://{address}"), more);
        let desk = Desk::new("cloud".parse().unwrap(), &link, link.callbacks.clone().unwrap());
        (Box::new(Customers::new(link, Arc::new(Alone), &Clock::system())), Box::new(desk))
    });
    let rig = rig.await;
    let job = |number: u64| {
        let id = if number % 10 == 9 { format!("nobody{number}") } else { format!("wm{number}") };
        let recipient = if number < 20 {
            let wecom = Some(At { corp_id: CORP.into(), external_userid: id.into() });
            Recipient { wecom, ..Recipient::default() }
        } else {
            Recipient { kind: RecipientKind::Group, wecom_chat_id: Some(id.into()), ..Recipient::default() }
        };
        let sender = if number.is_multiple_of(2) { "zhang" } else { "li" };
        let validity = Duration::from_secs(2 * 3_600);
        let handover = handover(number, "", "come and see");
        postrider::channel::Handover { recipient: Arc::new(recipient), sender: sender.into(), validity, ..handover }
    };
    let answers = rig.submit((0..40).map(job).collect()).await;
    let mut ids = HashSet::new();
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Answer::Taken { message_ids, receipt_expected: true, .. } => {
                assert!(number % 10 != 9 && ids.insert(message_ids[0].clone()), "each has an id of its own");
                assert!(!message_ids[0].contains("wm"), "and it does not say whose");
            }
            Answer::Refused { code } => assert!(**code == *"fail_list" && number % 10 == 9),
            other => panic!("{number}: {other:?}"),
        }
    }
    let mut requests: HashMap<String, HashSet<(String, bool)>> = HashMap::new();
    for (message, _) in rig.simulator.messages() {
        let group = message.to.trim_start_matches(char::is_alphabetic).parse::<u64>().unwrap() >= 20;
        requests.entry(message.id).or_default().insert((message.from, group));
    }
    assert_eq!(requests.len(), 4, "two senders, to customers and to groups");
    assert!(requests.values().all(|parts| parts.len() == 1));
    // What cannot be is refused by name, before anything is sent.
    let refused = async |change: fn(&mut postrider::channel::Handover)| {
        let mut job = job(1);
        change(&mut job);
        match rig.submit(vec![job]).await.remove(0) {
            Answer::Refused { code } => code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(&*refused(|job| job.sender = "".into()).await, "no_sender");
    assert_eq!(&*refused(|job| job.sender = "@all".into()).await, "no_sender", "which is everybody");
    assert_eq!(&*refused(|job| job.sender = "zhang|li".into()).await, "no_sender");
    assert_eq!(&*refused(|job| job.validity = Duration::from_secs(3_600)).await, "expires_too_soon");
    assert_eq!(&*refused(|job| job.recipient = Arc::default()).await, "no_customer");
    rig.finish().await;
}

/// Every word that WeCom has for a customer or a group.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_confirmed_and_each_has_its_own_end() {
    let more = "confirm_within = \"1h\"\npoll_every = \"100ms\"\nremind_after = \"1s\"\n";
    let mut stage = Stage::start(Clock::system(), more, &[]).await;
    let customers = ["wm1", "stranger", "full", "nobody"].into_iter().enumerate();
    let customers = customers.map(|(number, id)| with_phone(customer(id), number));
    let ids = stage.submit("customers", with_text(spec(""), 600), customers.collect()).await;
    let groups = stage.submit("groups", spec(""), vec![group("wr1"), group("wr2")]).await;
    let waiting: Vec<_> = ids[..3].iter().chain(&groups).cloned().collect();
    stage.until("all wait", |stage| stage.all_are(&waiting, pb::State::AwaitingOperator)).await;
    // A list has all that waits: then no other comes.
    stage.until("lists", |stage| stage.listed("zhang").contains(&5)).await;
    let lists = stage.lists("zhang").len();
    // A crash forgets neither: no list comes again.
    stage.service.kill();
    stage.service.restart(None);
    stage.corporation.confirm("zhang");
    let all: Vec<_> = ids.iter().chain(&groups).cloned().collect();
    stage.until("all end", |stage| all.iter().all(|id| stage.watched.outcomes.contains_key(id))).await;
    assert_eq!(stage.fate(&ids[0]), (Fate::Delivered, ""));
    assert_eq!(stage.fate(&ids[1]), (Fate::Undelivered, "not_friend"));
    assert_eq!(stage.fate(&ids[2]), (Fate::Suppressed, "vendor_limit"));
    assert_eq!(stage.fate(&ids[3]), (Fate::Rejected, "fail_list"));
    assert_eq!([stage.fate(&groups[0]), stage.fate(&groups[1])], [(Fate::Delivered, ""); 2]);
    assert_eq!(stage.lists("zhang").len(), lists, "{:?}", stage.lists("zhang"));
    // A text follows those who were not reached, the vendor's limit included.
    stage.until("texts", |stage| stage.watched.outcomes.len() == all.len() + 3).await;
    stage.finish().await;
}

/// On the virtual clock: a step that may follow after ten seconds does not while an employee may still confirm.
#[tokio::test]
async fn what_is_not_confirmed_is_stopped_told_once_and_followed_by_the_next_step() {
    let clock = Clock::virtual_at(UnixMicros::from_secs(Clock::system().now().as_secs()));
    let more = "confirm_within = \"1h\"\npoll_every = \"1m\"\nremind_after = \"10m\"\n";
    let mut stage = Stage::start(clock, more, &["--clock", "virtual"]).await;
    let recipients = (0..3).map(|number| with_phone(customer(&format!("wm{number}")), number));
    let ids = stage.submit("late", with_text(spec(""), 10), recipients.collect()).await;
    stage.until("all wait", |stage| stage.all_are(&ids, pb::State::AwaitingOperator)).await;
    let begun = stage.go(0).await;
    stage.play(begun + 1_800).await;
    assert_eq!(stage.watched.outcomes.len(), 0, "no text follows what may still be confirmed");
    stage.play(begun + 3_720).await;
    stage.until("all end", |stage| ids.iter().all(|id| stage.watched.outcomes.contains_key(id))).await;
    assert!(ids.iter().all(|id| stage.fate(id) == (Fate::Expired, "not_confirmed")));
    stage.until("texts", |stage| stage.watched.outcomes.len() == 6).await;
    let texts = stage.watched.outcomes.iter().filter(|(id, _)| !ids.contains(id));
    assert!(texts.clone().all(|(_, outcomes)| outcomes[..] == [(Fate::Sent, String::new())]));
    stage.until("told", |stage| stage.listed("chief").iter().sum::<usize>() == 3).await;
    let (posted, stopped) = stage.corporation.posted();
    assert_eq!(posted, stopped);
    assert_eq!(stage.corporation.confirm("zhang"), 0, "nothing goes out any more");
    assert!(stage.lists("chief").iter().all(|list| list.contains("zhang")));
    stage.finish().await;
}

/// What a crash interrupts is done by the next process: also where WeCom says nothing any more of what was stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_behind_a_stop_loses_neither_the_end_nor_the_word_to_the_chief() {
    for hides in [false, true] {
        let more = "confirm_within = \"3s\"\npoll_every = \"100ms\"\n";
        let mut stage = Stage::start(Clock::system(), more, &[]).await;
        if hides {
            stage.corporation.hide_stopped();
        }
        let ids = stage.submit("late", spec(""), vec![customer("wm1")]).await;
        stage.until("all wait", |stage| stage.all_are(&ids, pb::State::AwaitingOperator)).await;
        while stage.corporation.posted().1 == 0 {
            Clock::system().pause(Duration::from_millis(1)).await;
        }
        stage.service.kill();
        stage.service.restart(None);
        stage.until("all end", |stage| ids.iter().all(|id| stage.watched.outcomes.contains_key(id))).await;
        assert_eq!(stage.fate(&ids[0]), (Fate::Expired, "not_confirmed"));
        stage.until("told", |stage| stage.listed("chief").contains(&1)).await;
        stage.finish().await;
    }
}

/// What goes wrong with one message concerns that one; and those of others are not even asked about, be they another
/// application's or another provider's of this service.
#[tokio::test(flavor = "multi_thread")]
async fn one_messages_error_concerns_that_one_and_strangers_are_left_alone() {
    let other = format!(
        "confirm_within = \"8s\"\npoll_every = \"100ms\"\nremind_after = \"1s\"\n[[provider]]\nid = \"other\"\n\
         kind = \"wecom\"\nmessages = \"customers\"\npool = \"other\"\nendpoint = \"ENDPOINT\"\ncorp_id = \"{CORP}\"\n\
         agent_id = {AGENT}\nsecret = \"geheim\"\nsender = \"li\"\nconfirm_within = \"1s\"\npoll_every = \"100ms\"\n\
         response_timeout = \"2s\"\n"
    );
    let mut stage = Stage::start(Clock::system(), &other, &[]).await;
    let stranger = stage.corporation.strange("wang", "wm9");
    let mut ids = Vec::new();
    for (key, id) in [("one", "wm1"), ("two", "wm2"), ("three", "wm3")] {
        ids.extend(stage.submit(key, spec(""), vec![customer(id)]).await);
    }
    stage.until("all wait", |stage| stage.all_are(&ids, pb::State::AwaitingOperator)).await;
    let ours: Vec<_> = stage.corporation.msgids().into_iter().filter(|id| *id != stranger).collect();
    let [broken, ..] = &ours[..] else { panic!("{ours:?}") };
    stage.corporation.break_message(broken);
    stage.corporation.confirm("zhang");
    stage.until("two end", |stage| stage.watched.outcomes.len() == 2).await;
    assert!(stage.watched.outcomes.values().all(|outcomes| outcomes[..] == [(Fate::Delivered, String::new())]));
    // Long enough for the other provider to stop it, were it its own, and for this one to ask about it often.
    Clock::system().pause(Duration::from_secs(3)).await;
    assert_eq!(stage.corporation.posted().1, 0, "nothing is stopped");
    assert_eq!(stage.corporation.asked(&stranger).0, 0, "a stranger's is not asked about");
    assert!(stage.lists("wang").is_empty() && stage.lists("chief").is_empty());
    let (asked, lists) = stage.corporation.asked(broken);
    assert!(asked < lists / 4, "ever less often: {asked} of {lists}");
    let metrics = stage.service.metrics().join("\n");
    for result in ["failed", "foreign", "looked"] {
        let line = format!("postrider_polls_total{{provider=\"cloud\",result=\"{result}\"}}");
        assert!(metrics.lines().any(|said| said.starts_with(&line) && !said.ends_with(" 0")), "{line}");
    }
    stage.finish().await;
}

/// A message goes on while somebody is to get it, and is stopped once nobody is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_while_it_waits_is_stopped_where_nobody_else_would_get_it() {
    let more = "confirm_within = \"1h\"\npoll_every = \"100ms\"\n";
    let mut stage = Stage::start(Clock::system(), more, &[]).await;
    let all = stage.submit("all", spec("all"), vec![group("wr1"), group("wr2")]).await;
    let some = stage.submit("some", spec("some"), vec![customer("wm1"), customer("wm2")]).await;
    let out = stage.submit("out", spec("out"), vec![customer("wm3")]).await;
    let waiting: Vec<_> = all.iter().chain(&some).chain(&out).cloned().collect();
    stage.until("all wait", |stage| stage.all_are(&waiting, pb::State::AwaitingOperator)).await;
    let ids = |ids: &[String]| By::Jobs(pb::JobIds { job_ids: ids.to_vec() });
    stage.cancel(ids(&all)).await;
    stage.until("all end", |stage| stage.all_are(&all, pb::State::Settled)).await;
    assert!(all.iter().all(|id| stage.fate(id) == (Fate::Cancelled, "request")));
    // The other would not get it either: it goes on, and is delivered.
    let posted = stage.corporation.posted();
    let shared = posted.0 < waiting.len();
    stage.cancel(ids(&some[..1])).await;
    stage.opt_out(customer("wm3")).await;
    stage.until("opted out", |stage| stage.all_are(&out, pb::State::Settled)).await;
    assert_eq!(stage.fate(&out[0]), (Fate::Suppressed, "opt_out"));
    stage.corporation.confirm("zhang");
    stage.until("the rest ends", |stage| stage.all_are(&some, pb::State::Settled)).await;
    assert_eq!(stage.fate(&some[1]), (Fate::Delivered, ""));
    if shared {
        assert_eq!(stage.fate(&some[0]), (Fate::Delivered, ""), "WeCom stops a message as a whole");
    }
    stage.finish().await;
}

/// Two processes on real servers: one asks for both, each is told once, and when one dies the other goes on.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_ask_by_turns() {
    let more = "confirm_within = \"1h\"\npoll_every = \"200ms\"\nremind_after = \"1s\"\n";
    let backends = Arc::new(Backends::servers());
    let mut stage = Stage::start_on(Arc::clone(&backends), Clock::system(), more, &[]).await;
    let provider = settings(&format!("http://{}", stage.simulator.address()), more);
    let other = tokio::task::block_in_place(|| stage.service.join(&backends, "dispatch", &provider));
    let ids = stage.submit("posts", spec(""), vec![group("wr1"), group("wr2")]).await;
    stage.until("all wait", |stage| stage.all_are(&ids, pb::State::AwaitingOperator)).await;
    stage.until("lists", |stage| stage.listed("zhang").contains(&2)).await;
    let (lists, watch) = (stage.corporation.asked("").1, Clock::system().stopwatch());
    Clock::system().pause(Duration::from_secs(3)).await;
    let asked = stage.corporation.asked("").1 - lists;
    let looks = watch.elapsed().as_millis() / 200 + 2;
    assert!(asked as u128 <= 2 * looks, "two lists a look: {asked} in {looks} looks");
    assert!(stage.lists("zhang").len() <= stage.corporation.posted().0, "{:?}", stage.lists("zhang"));
    // The other takes over from the one whose turn it is, whether that dies or, as here, is the first or the second.
    let looked = |service: &Service| {
        let looked = "postrider_polls_total{provider=\"cloud\",result=\"looked\"} ";
        service.metrics().iter().find_map(|line| line.strip_prefix(looked)?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    if looked(&stage.service) > looked(&other) {
        let before = looked(&other);
        stage.service.kill();
        let watch = Clock::system().stopwatch();
        while looked(&other) <= before {
            assert!(watch.elapsed() < 3 * PATIENCE, "the other takes over");
            Clock::system().pause(Duration::from_millis(100)).await;
        }
        stage.service.restart(None);
    } else {
        other.kill();
    }
    stage.corporation.confirm("zhang");
    stage.until("all end", |stage| stage.all_are(&ids, pb::State::Settled)).await;
    assert!(ids.iter().all(|id| stage.fate(id) == (Fate::Delivered, "")));
    drop(other);
    stage.finish().await;
}

/// A day of posts to a hundred groups, on the virtual clock.
#[tokio::test]
async fn a_day_of_posts_has_three_lists_and_a_fourth_post_is_stopped_by_its_cap() {
    let now = Clock::system().now().as_secs();
    let clock = Clock::virtual_at(UnixMicros::from_secs(now));
    let more = "poll_every = \"1m\"\n[[cap]]\nname = \"group-day\"\ntopics = [\"group_post\"]\nlimit = 3\n\
                window = \"calendar day\"\non_limit = \"drop\"\n[windows]\ndefaults = \"shipped\"\n";
    let mut stage = Stage::start(clock, more, &["--clock", "virtual"]).await;
    // The midnight in Shanghai that comes next.
    let midnight = (stage.go(0).await + AHEAD).div_euclid(DAY) * DAY + DAY - AHEAD;
    let groups: Vec<_> = (0..100).map(|number| group(&format!("wr{number}"))).collect();
    let mut posts = Vec::new();
    for hour in [8, 12, 20] {
        let spec = api::at(spec("group_post"), midnight + hour * 3_600);
        posts.push(stage.submit(&format!("post-{hour}"), spec, groups.clone()).await);
    }
    let [morning, noon, evening] = [posts[0].clone(), posts[1].clone(), posts[2].clone()];

    stage.play(midnight + 7 * 3_600 + 3_540).await;
    assert_eq!(stage.corporation.posted().0, 0, "never early");
    stage.play(midnight + 8 * 3_600).await;
    stage.until("08:00", |stage| stage.all_are(&morning, pb::State::AwaitingOperator)).await;
    assert_eq!(stage.lists("zhang").len(), 0);
    stage.play(midnight + 8 * 3_600 + 1_860).await;
    stage.until("a list", |stage| stage.listed("zhang") == [100]).await;
    stage.play(midnight + 9 * 3_600).await;
    assert_eq!(stage.corporation.confirm("zhang"), 100);
    stage.play(midnight + 9 * 3_600 + 300).await;
    stage.until("confirmed", |stage| stage.all_are(&morning, pb::State::Settled)).await;

    stage.play(midnight + 12 * 3_600).await;
    stage.until("12:00", |stage| stage.all_are(&noon, pb::State::AwaitingOperator)).await;
    stage.play(midnight + 12 * 3_600 + 1_860).await;
    stage.until("a list", |stage| stage.lists("zhang").len() == 2).await;
    // Nobody confirms it.
    stage.play(midnight + 16 * 3_600 + 120).await;
    stage.until("stopped", |stage| stage.all_are(&noon, pb::State::Settled)).await;
    stage.until("told", |stage| stage.lists("chief").len() == 1).await;

    stage.play(midnight + 20 * 3_600).await;
    stage.until("20:00", |stage| stage.all_are(&evening, pb::State::AwaitingOperator)).await;
    stage.play(midnight + 20 * 3_600 + 1_860).await;
    stage.until("a list", |stage| stage.lists("zhang").len() == 3).await;
    let fourth = stage.submit("post-4", spec("group_post"), groups).await;
    stage.until("capped", |stage| stage.all_are(&fourth, pb::State::Settled)).await;
    assert_eq!(stage.corporation.confirm("zhang"), 100);
    stage.play(midnight + 20 * 3_600 + 2_400).await;
    stage.until("confirmed", |stage| stage.all_are(&evening, pb::State::Settled)).await;

    let ended = |ids: &[String], end| ids.iter().all(|id| stage.fate(id) == end);
    assert!(ended(&morning, (Fate::Delivered, "")) && ended(&evening, (Fate::Delivered, "")));
    assert!(ended(&noon, (Fate::Expired, "not_confirmed")));
    assert!(ended(&fourth, (Fate::Suppressed, "group-day")));
    let sent = stage.simulator.messages().into_iter().filter(|(message, _)| message.to.starts_with("wr")).count();
    assert_eq!((sent, stage.lists("zhang").len(), stage.lists("chief").len()), (300, 3, 1));
    println!("300 posts in {} requests, lists: {:?}", stage.corporation.posted().0, stage.lists("zhang"));
    stage.finish().await;
}
