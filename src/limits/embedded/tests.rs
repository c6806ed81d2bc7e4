//! What only this backend has: a log on a disk.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::domain::cap::{Mode, OnLimit};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{Fingerprint, RecipientKey, WordKey};
use crate::domain::rule::{Act, Names};
use crate::domain::suppression::Scope;
use crate::domain::time::Clock;
use crate::limits::{Against, Allowance, Counts, LeaseMode, Need, Once, Remember, Remembered, Span, Take};

const NOW: UnixMicros = UnixMicros::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn claim(recipient: u128, job: u128) -> Claim {
    let take = |rule, limit, days| {
        let span = Span::Rolling(DAY * days);
        Take { rule, log: None, limit, need: 1, span, once: Once::Touch, on_limit: OnLimit::Defer, mode: Mode::Enforce }
    };
    Claim {
        tenant: "acme".parse().unwrap(),
        recipient: RecipientKey(recipient.to_le_bytes()),
        job: JobId(Uuid::from_u128(job)),
        attempt: 1,
        supersedes: 0,
        token: u64::try_from(job).unwrap(),
        deadline: NOW.plus(Duration::from_secs(30)),
        seen: None,
        touch: Uuid::from_u128(job),
        expires_at: UnixMicros::MAX,
        takes: vec![take(1, 3, 1), take(2, 5, 7), take(3, 10, 30)],
        against: Against {
            kind: Kind::Sms,
            class: Class::Marketing,
            address: AddressKey(recipient.to_le_bytes()),
            sender: None,
            signature: None,
            topic: None,
            cancel_key: None,
            batch: None,
            campaign: None,
            run: None,
            collapse_key: None,
            accepted_at: NOW,
            moved_at: None,
        },
    }
}

fn submit(id: u128) -> Remember {
    Remember { id: JobId(Uuid::from_u128(id)), fingerprint: Fingerprint([7; 16]), until: NOW.plus(DAY) }
}

fn spend(key: Option<Remember>, jobs: usize) -> Spend {
    let quota = Allowance { key: WordKey([3; 16]), counts: Counts::Jobs, most: 10, ends_at: NOW.plus(DAY) };
    Spend { tenant: "acme".parse().unwrap(), key, from: vec![quota], items: vec![Need { jobs: 1, micros: 0 }; jobs] }
}

/// Asks for submits with keys and without quotas.
async fn remember(limits: &Embedded, submits: &[Remember]) -> Vec<Remembered> {
    let spends: Vec<_> = submits.iter().map(|key| Spend { from: vec![], ..spend(Some(*key), 1) }).collect();
    limits.spend(NOW, &spends).await.unwrap().into_iter().map(|spent| spent.met).collect()
}

fn optout() -> Suppression {
    let (address, scope, source) = (AddressKey([5; 16]), Scope::Brand, Source::Keyword);
    Suppression { tenant: "acme".parse().unwrap(), address, scope, kind: None, source, at: NOW }
}

fn cancelled(job: u128) -> JobRule {
    let names = Names::job(JobId(Uuid::from_u128(job)));
    JobRule { tenant: "acme".parse().unwrap(), names, at: NOW, act: Act::Cancel }
}

fn wish() -> Lease {
    Lease { bucket: "tenant:acme".into(), rate: "10/s".parse().unwrap(), keep: 0, want: 10, mode: LeaseMode::UpTo }
}

/// Returns limits that have lost nothing, or have it back.
async fn whole(limits: Embedded) -> Embedded {
    let identity = limits.identity().await.unwrap();
    assert!(limits.recovered(&identity).await.unwrap());
    limits
}

/// Copies the files as a crash would leave them, and opens the copy.
fn crashed(dir: &TempDir) -> (TempDir, Embedded) {
    let mut copy = tempfile::tempdir().unwrap();
    let copied = |copy: &TempDir| {
        let mut entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.all(|path| fs::copy(&path, copy.path().join(path.file_name().unwrap())).is_ok())
    };
    // A file that went away in between was replaced by a snapshot: no crash leaves files of two moments.
    while !copied(&copy) {
        copy = tempfile::tempdir().unwrap();
    }
    let limits = Embedded::open(copy.path(), NOW).unwrap();
    (copy, limits)
}

fn files(dir: &TempDir, kind: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == kind)).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn what_was_answered_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let limits = whole(Embedded::open(dir.path(), NOW).unwrap()).await;
    let tenant: TenantId = "acme".parse().unwrap();
    let (submit, optout, rule, lease) = (submit(9), optout(), cancelled(44), wish());
    assert_eq!(limits.lease(NOW, std::slice::from_ref(&lease)).await.unwrap()[0].tokens, 10);
    for job in 1..=3 {
        assert_eq!(limits.claim(NOW, &[claim(1, job)]).await.unwrap(), [Decision::Claimed]);
    }
    remember(&limits, &[submit]).await;
    let (spent, cut) = (|items, full| Spent { met: Remembered::New, items, full }, spend(Some(self::submit(10)), 9));
    let spends = [spend(Some(self::submit(11)), 3), cut.clone()];
    assert_eq!(limits.spend(NOW, &spends).await.unwrap(), [spent(3, None), spent(7, Some(0))]);
    limits.suppress(std::slice::from_ref(&optout)).await.unwrap();
    limits.rule(&[rule], NOW.plus(DAY)).await.unwrap();
    let (_copy, again) = crashed(&dir);
    let over = Decision::OverCap { take: 0, open_at: NOW.plus(DAY), turn_at: NOW.plus(DAY) };
    let held = Decision::Held { attempt: 1, deadline: NOW.plus(Duration::from_secs(30)) };
    let other = Claim { token: 99, ..claim(1, 1) };
    let decisions = again.claim(NOW, &[claim(1, 4), other, claim(1, 2), claim(2, 44)]).await.unwrap();
    assert_eq!(decisions, [over, held, Decision::Claimed, Decision::Cancelled]);
    assert_eq!(remember(&again, &[submit]).await, [Remembered::Pending]);
    let first = Spent { met: Remembered::Pending, items: 7, full: None };
    assert_eq!(again.spend(NOW, &[cut, spend(None, 1)]).await.unwrap(), [first, spent(0, Some(0))]);
    assert_eq!(again.suppressions(&tenant, AddressKey([5; 16])).await.unwrap(), [optout]);
    assert_eq!(again.lease(NOW, &[lease]).await.unwrap()[0].tokens, 0, "a burst is not granted twice");
    assert_eq!(again.identity().await.unwrap(), limits.identity().await.unwrap());
    assert!(Embedded::open(dir.path(), NOW).is_err(), "two processes in one directory");
    limits.close().await;
    assert_eq!(limits.claim(NOW, &[claim(1, 9)]).await, Err(LimitsError::Storage("limits are closed".into())));
    Embedded::open(dir.path(), NOW).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_stays_short_and_nothing_is_lost_when_snapshots_replace_it() {
    let dir = tempfile::tempdir().unwrap();
    let limits = whole(Embedded::open_with(dir.path(), NOW, 15_000).unwrap()).await;
    let identity = limits.identity().await.unwrap();
    remember(&limits, &[submit(1), submit(2)]).await;
    limits.accepted(&[submit(1).id]).await.unwrap();
    limits.suppress(&[optout()]).await.unwrap();
    limits.rule(&[cancelled(44)], NOW.plus(DAY)).await.unwrap();
    limits.lease(NOW, &[wish()]).await.unwrap();
    limits.spend(NOW, &[spend(None, 9), spend(Some(submit(3)), 2)]).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..8u128 {
        let limits = limits.clone();
        workers.spawn(async move {
            for batch in 0..50u128 {
                let claims: Vec<_> =
                    (0..32).map(|item| claim(item * 8 + worker, worker << 32 | batch << 8 | item)).collect();
                limits.claim(NOW.plus(Duration::from_millis(u64::try_from(batch).unwrap())), &claims).await.unwrap();
            }
        });
    }
    let mut copies = Vec::new();
    while !workers.is_empty() {
        let _done = Clock::system().timeout(Duration::from_millis(20), workers.join_next()).await;
        copies.push(crashed(&dir));
    }
    limits.close().await;
    // 256 recipients, 3 claims each: the caps let no more through, whatever was replayed.
    let total: u64 = files(&dir, "log").iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(files(&dir, "snap").len() == 1 && total < 60_000, "{total} bytes of log");
    let again = Embedded::open(dir.path(), NOW).unwrap();
    assert_eq!((again.recipients(), limits.recipients()), (256, 256));
    for recipient in 0..256 {
        let decision = again.claim(NOW, &[claim(recipient, 1 << 60)]).await.unwrap().remove(0);
        assert!(matches!(decision, Decision::OverCap { take: 0, .. }), "{decision:?}");
    }
    let met = remember(&again, &[submit(1), submit(2)]).await;
    assert_eq!(met, [Remembered::Accepted, Remembered::Pending]);
    let quota = again.spend(NOW, &[spend(Some(submit(3)), 2), spend(None, 1)]).await.unwrap();
    assert_eq!(quota.iter().map(|spent| spent.items).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(again.suppressions(&"acme".parse().unwrap(), AddressKey([5; 16])).await.unwrap(), [optout()]);
    assert_eq!(again.claim(NOW, &[claim(999, 44)]).await.unwrap(), [Decision::Cancelled]);
    assert_eq!(again.lease(NOW, &[wish()]).await.unwrap()[0].tokens, 0);
    assert!(again.inner.state.latest() > NOW, "time goes on from the latest claim");
    for (_dir, copy) in copies {
        assert_eq!(copy.identity().await.unwrap(), identity);
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_a_hole_changes_the_identity() {
    let dir = tempfile::tempdir().unwrap();
    let limits = whole(Embedded::open(dir.path(), NOW).unwrap()).await;
    for job in 1..=4 {
        limits.claim(NOW, &[claim(job, job)]).await.unwrap();
    }
    let identity = limits.identity().await.unwrap();
    limits.close().await;
    drop(limits);
    let log = files(&dir, "log").remove(0);
    let whole = fs::read(&log).unwrap();

    for room in [0, 4_096] {
        fs::write(&log, [&whole[..whole.len() - 3], &vec![0; room]].concat()).unwrap();
        let torn = Embedded::open(dir.path(), NOW.plus(DAY)).unwrap();
        assert_eq!((torn.recipients(), torn.identity().await.unwrap()), (3, identity.clone()));
        torn.close().await;
    }

    let mut hole = whole.clone();
    hole[60] ^= 1;
    fs::write(&log, &hole).unwrap();
    let later = NOW.plus(DAY);
    let damaged = Embedded::open(dir.path(), later).unwrap();
    assert_eq!(damaged.recipients(), 3, "what can be read is kept");
    let changed = damaged.identity().await.unwrap();
    assert!(changed.id != identity.id && changed.changed_at == later && changed.recovering);
    let seen = Claim { seen: Some(NOW), ..claim(1, 1) };
    assert_eq!(damaged.claim(later, &[seen]).await.unwrap(), [Decision::Forgotten]);
    damaged.close().await;
    drop(damaged);
    assert_eq!(Embedded::open(dir.path(), later).unwrap().identity().await.unwrap(), changed, "one loss, one change");
}

#[tokio::test]
async fn what_is_found_behind_a_torn_block_outlives_the_next_kill() {
    let dir = tempfile::tempdir().unwrap();
    let limits = whole(Embedded::open(dir.path(), NOW).unwrap()).await;
    let wish = |bucket: &str| Lease { bucket: bucket.into(), ..wish() };
    for bucket in ["tenant:torn", "tenant:whole"] {
        limits.lease(NOW, &[wish(bucket)]).await.unwrap();
        // Each is a block of its own, and nobody waits for either.
        Clock::system().pause(Duration::from_millis(60)).await;
    }
    let identity = limits.identity().await.unwrap();
    limits.close().await;
    drop(limits);
    let log = files(&dir, "log").remove(0);
    let mut bytes = fs::read(&log).unwrap();
    let start = bytes.windows(4).skip(1).position(|four| four == &bytes[..4]).unwrap() + 1;
    let next = start + bytes[start..].windows(4).skip(1).position(|four| four == &bytes[..4]).unwrap() + 1;
    bytes[start..next].fill(0);
    fs::write(&log, &bytes).unwrap();

    let torn = Embedded::open(dir.path(), NOW).unwrap();
    assert_eq!(torn.identity().await.unwrap(), identity, "it was never confirmed");
    let (_copy, again) = crashed(&dir);
    let granted = again.lease(NOW, &[wish("tenant:torn"), wish("tenant:whole")]).await.unwrap();
    assert_eq!(granted.iter().map(|granted| granted.tokens).collect::<Vec<_>>(), [10, 0]);
}

#[tokio::test]
async fn missing_and_short_segments_are_loss() {
    let dir = tempfile::tempdir().unwrap();
    let fill = async |from: u128| {
        let limits = whole(Embedded::open(dir.path(), NOW).unwrap()).await;
        limits.claim(NOW, &[claim(from, from), claim(from + 1, from + 1)]).await.unwrap();
        let identity = limits.identity().await.unwrap();
        limits.close().await;
        identity
    };
    let identity = fill(1).await;
    assert_eq!(fill(3).await, identity);
    let first = &files(&dir, "log")[0];
    let bytes = fs::read(first).unwrap();
    fs::write(first, &bytes[..20]).unwrap();
    let shortened = fill(5).await;
    assert_ne!(shortened, identity);
    assert_eq!(fill(7).await, shortened, "a loss is found once");
    fs::remove_file(&files(&dir, "log")[0]).unwrap();
    let missing = fill(9).await;
    assert_ne!(missing, shortened);
    fs::remove_file(&files(&dir, "snap")[0]).unwrap();
    assert_ne!(fill(11).await, missing);
}

#[tokio::test]
async fn a_failed_write_ends_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let limits = whole(Embedded::open(dir.path(), NOW).unwrap()).await;
    limits.claim(NOW, &[claim(1, 1)]).await.unwrap();
    limits.inner.log.break_disk();
    let broken = Err(LimitsError::Storage("the disk is broken".into()));
    assert_eq!(limits.claim(NOW, &[claim(1, 2)]).await, broken);
    assert_eq!(limits.claim(NOW, &[claim(1, 2)]).await, broken, "what is in memory alone is no answer");
    assert_eq!(limits.identity().await.map(|_| vec![]), broken);
    limits.close().await;
    drop(limits);
    let again = Embedded::open(dir.path(), NOW).unwrap();
    assert_eq!(again.claim(NOW, &[claim(1, 1), claim(1, 3)]).await.unwrap(), [Decision::Claimed, Decision::Claimed]);
}

#[tokio::test]
async fn what_rides_along_is_no_promise_and_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let limits = whole(Embedded::open(dir.path(), NOW).unwrap()).await;
    limits.lease(NOW, &[wish()]).await.unwrap();
    // Longer than a change may stay in memory: it is written, and not said to be on the disk.
    Clock::system().pause(Duration::from_millis(60)).await;
    assert_eq!(limits.inner.log.reached(), Offset::default());
    limits.claim(NOW, &[claim(1, 1)]).await.unwrap();
    assert_eq!(limits.inner.log.reached(), limits.inner.log.end());
    limits.lease(NOW, &[wish()]).await.unwrap();
    Clock::system().pause(Duration::from_millis(60)).await;
    let (_copy, again) = crashed(&dir);
    assert_eq!(again.lease(NOW, &[wish()]).await.unwrap()[0].tokens, 0);
}
