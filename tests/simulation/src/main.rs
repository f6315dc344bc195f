//! Replays a seed.
fn main() {}
