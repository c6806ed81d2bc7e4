//! The `postrider-load` command.

fn main() {}
