//! Idempotency keys.

use postrider::domain::ids::JobId;
use postrider::domain::keys::Fingerprint;
use postrider::domain::time::UnixMicros;
use postrider::limits::{Limits, Remember, Remembered};
use uuid::Uuid;

use super::{DAY, NOW, Store, on_every_backend, remember};

on_every_backend! {
    the_first_is_new_and_the_rest_are_known
    a_key_is_free_again_after_its_time
}

fn submit(id: u128, body: u8) -> Remember {
    Remember { id: JobId(Uuid::from_u128(id)), fingerprint: Fingerprint([body; 16]), until: NOW.plus(DAY) }
}

async fn the_first_is_new_and_the_rest_are_known(store: Store) {
    use Remembered::{Accepted, Conflict, New, Pending};
    let limits = &store.limits;
    let met = remember(limits, NOW, &[submit(1, 1), submit(2, 2), submit(1, 1)]).await;
    assert_eq!(met, [New, New, Pending]);
    limits.accepted(&[submit(1, 1).id, submit(99, 1).id]).await.unwrap();
    let met = remember(limits, NOW, &[submit(1, 1), submit(1, 9), submit(2, 2), submit(2, 9), submit(99, 1)]).await;
    assert_eq!(met, [Accepted, Conflict, Pending, Conflict, New]);
    let many: Vec<_> = (1_000..2_000).map(|id| submit(id, 1)).collect();
    assert_eq!(remember(limits, NOW, &many).await, vec![New; 1_000]);
    let ids: Vec<_> = many.iter().map(|submit| submit.id).collect();
    limits.accepted(&ids).await.unwrap();
    assert_eq!(remember(limits, NOW, &many).await, vec![Accepted; 1_000]);
}

async fn a_key_is_free_again_after_its_time(store: Store) {
    let limits = &store.limits;
    remember(limits, NOW, &[submit(1, 1)]).await;
    let last = UnixMicros(NOW.plus(DAY).0 - 1);
    assert_eq!(remember(limits, last, &[submit(1, 9)]).await, [Remembered::Conflict]);
    let later = Remember { until: NOW.plus(DAY * 3), ..submit(1, 9) };
    assert_eq!(remember(limits, NOW.plus(DAY * 2), std::slice::from_ref(&later)).await, [Remembered::New]);
    assert_eq!(remember(limits, NOW.plus(DAY * 2), &[later]).await, [Remembered::Pending]);
}
