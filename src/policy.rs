//! May it leave now? Rules and their decisions; pure: no clock, no I/O, no randomness.

pub mod routes;
pub mod zones;
