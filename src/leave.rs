//! May it leave now? Send windows, caps, opt-outs and rules about one job, put together: what is asked of limits before it
//! leaves, what follows from their answer, and how that is explained. Pure; who asks holds the clock and the ports.

pub mod filled;
mod ground;
mod hours;
mod outlook;
mod ruling;
mod takes;

pub use ground::{Asking, Ground, Next, cancelled, current, opted_out, over};
pub use outlook::Outlook;
pub use ruling::{Places, Ruling, Said};
pub use takes::{Caps, vacated};

/// Stands as a rule's name for the time that a job was submitted for.
pub const SEND_AT: &str = "send_at";
/// Stands as a rule's name for a move to another time.
pub const RESCHEDULED: &str = "rescheduled";
/// Stands as a rule's name for a one-time consent that there is none of.
pub const NO_CONSENT: &str = crate::domain::event::Outcome::NO_CONSENT;
/// Stands as a rule's name for limits that reload what they lost.
pub const RECOVERING: &str = "limits_recovering";
