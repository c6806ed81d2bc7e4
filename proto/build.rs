//! Compiles the API.

fn main() {}
