//! Private servers, the same that the tests start: `load-tests/support` is a link to `tests/it/support`.

pub(crate) mod janitor;
pub(crate) mod servers;
