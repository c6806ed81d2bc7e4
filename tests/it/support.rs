//! What the tests stand on: private servers, faulty networks, peers, the service itself.

pub(crate) mod api;
pub(crate) mod cloud;
pub(crate) mod exchange;
pub(crate) mod fuzz;
pub(crate) mod janitor;
pub(crate) mod peer;
pub(crate) mod proxy;
pub(crate) mod route;
pub(crate) mod samples;
pub(crate) mod servers;
pub(crate) mod service;
pub(crate) mod sink;
pub(crate) mod smsc;
pub(crate) mod tls;
