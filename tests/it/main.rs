//! The tests that need more than one module: contracts on every backend, peers, crashes, the whole service.
//!
//! One binary, so that the private servers of [`support::servers`] start once and are shared.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod bad_input;
mod binds;
mod callbacks;
mod calls;
mod caps;
mod chaos;
mod cli;
mod clouds;
mod costs;
mod crash;
mod dashboards;
mod dead_letters;
mod delivered;
mod doctor;
mod e2e_python;
mod explain;
mod extensions;
mod fallback;
mod feeders;
mod fuzz_callbacks;
mod fuzz_frame;
mod fuzz_smpp;
mod harness;
mod ledger_away;
mod ledger_contract;
mod limits_away;
mod limits_contract;
mod load;
mod million;
mod month;
mod opening;
mod oracle;
mod pools;
mod providers;
mod queue_contract;
mod queue_faults;
mod queue_rates;
mod quotas;
mod race;
mod readme;
mod recall;
mod recorders;
mod rehearse;
mod rolling;
mod routing;
mod senders;
mod silence;
mod simulated_smsc;
mod smpp;
mod smpp34;
mod smpp_faults;
mod support;
mod templates;
mod tidy;
mod top;
mod traces;
mod trunk;
mod windows;
