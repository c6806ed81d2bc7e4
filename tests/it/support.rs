//! What the tests stand on: private servers, faulty networks.

pub(crate) mod fuzz;
pub(crate) mod janitor;
pub(crate) mod proxy;
pub(crate) mod route;
pub(crate) mod servers;
pub(crate) mod smsc;
pub(crate) mod tls;
