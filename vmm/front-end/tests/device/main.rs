//! Devices with a thread and a back-end: a scripted one for what back-ends do wrong, and our own
//! for what they do right.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails"
)]

mod back_end;
mod foreign;
mod guest;
mod hostile;
mod kills;
mod life;
mod losses;
mod outrigger_blk;
mod peers;
mod whole;
