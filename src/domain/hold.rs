//! Providers that the operator holds back.

use super::job::words;

words! {
    /// Why nothing is handed to a provider.
    Hold {
        /// It was paused.
        Paused = "paused",
        /// It finishes what is in flight, and counts as paused then.
        Draining = "draining",
    }
}
