//! The trace that a job belongs to.

/// Where in a trace of a sampled call its jobs stand: the ids of W3C Trace Context (level 1, section 3.2.2). Jobs of
/// calls that are not sampled have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    /// trace-id, never all zero.
    pub trace: [u8; 16],
    /// parent-id: the span that accepted the jobs, never all zero.
    pub span: [u8; 8],
}
