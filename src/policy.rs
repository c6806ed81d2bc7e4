//! May it leave now? Rules and their decisions; pure: no clock, no I/O, no randomness.

pub mod cap_windows;
pub mod extensions;
pub mod numbers;
pub mod routes;
pub mod windows;
pub mod zones;
