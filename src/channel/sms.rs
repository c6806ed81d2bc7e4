//! Text messages: how a text becomes segments, and how it reaches an SMSC or a cloud.
//!
//! # Where other session protocols plug in
//! China's carriers speak CMPP, SMGP and SGIP: like SMPP, each is a session over TCP in which submits are numbered, a window of
//! them is unanswered, and reports and replies come back. What of [`smpp`] they share, and what is SMPP's own:
//!
//! | part | is | for another protocol |
//! |---|---|---|
//! | `exchange`, `ring` | window, answers by number, throttled and torn jobs, time-outs; pure, and knows of a PDU only where its number stands | as it is, with that place (octet 12 here, 8 in CMPP and SMGP, 16 in SGIP) and the meaning of a status as arguments |
//! | `route` | which bind, how full, how many are allowed | as it is |
//! | `bind` | reconnects with backoff, comes and goes as binds are allowed; its handshake alone is SMPP's | its connect: a digest instead of a password (CMPP, SMGP) |
//! | `session` | reads, writes, keeps alive, drains, answers once news is durable; matches on the PDUs that `wire` reads | its PDUs, and its own number of unanswered keep-alives |
//! | `wire`, `submit`, `receipt`, `status`, `ids` | SMPP's own | its own codec |
//! | `parts`, [`text`], [`gsm7`] | replies put together, texts cut | as they are; GBK (`Msg_Fmt` 15) is one more coding |
//!
//! So a protocol is a folder beside `smpp` with a codec, and the shared files move up from there once there are two. Two things
//! have no place yet: the numbers of one CMPP submit to several recipients, which go one by one until then, and SGIP's reports,
//! which its gateway brings on a connection that it opens itself: they need a listener, as callbacks have one.

pub mod aliyun;
pub mod cloud;
pub mod custom;
pub mod gsm7;
pub mod smpp;
pub mod tencent;
pub mod text;
pub mod twilio;
