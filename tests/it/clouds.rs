//! Clouds against their simulators, and both against the vendors' own libraries.

mod service;
mod twilio;
