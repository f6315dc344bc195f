//! todo
pub fn run(_: &[u8]) {}
pub fn split(_: &[u8]) {}
pub fn packed(_: &[u8]) {}
