//! What a provider's gate grants, and to whom.

use super::*;

#[test]
fn jobs_fit_in_order_and_whole() {
    assert_eq!(fitting(&[1, 1, 1], 2), (2, 2));
    assert_eq!(fitting(&[3, 1], 2), (0, 0));
    assert_eq!(fitting(&[2, 2], 9), (2, 4));
}
