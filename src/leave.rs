//! May it leave now? Send windows, caps, opt-outs and rules about one job, put together: what is asked of limits before it
//! leaves, and what follows from their answer. Pure; who asks holds the clock and the ports.

mod ground;
mod hours;
mod takes;

pub use ground::{Asking, Ground, Next, over};
pub use takes::Caps;
