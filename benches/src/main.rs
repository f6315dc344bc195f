//! `bench`: measures Outrigger's back-ends against other programs that serve the same devices.
//!
//! A benchmark starts every back-end itself, one after the other in interleaved rounds on one
//! machine, drives each with a client that none of them wrote, and writes a report as JSON and
//! as Markdown. Only ratios within one run are comparable: figures of two machines, or of two
//! runs, are not.

mod accounting;
mod balloon;
mod blk;
mod boot;
mod callgrind;
mod console;
mod machine;
mod net;
mod process;
mod report;
mod statistics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benchmarks of Outrigger's back-ends, side by side with their peers.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Block: outrigger-blk, qemu-storage-daemon, the rust-vmm reference, and no back-end.
    Blk(Box<blk::Options>),
    /// Balloon: outrigger-balloon, QEMU's own balloon, and a loop of fallocate.
    Balloon(balloon::Options),
    /// The VMM: from exec to the guest's init, beside QEMU's microvm and q35.
    Boot(boot::Options),
    /// Consoles: outrigger-console, and those of User Mode Linux, of QEMU and of rust-vmm.
    Console(console::Options),
    /// Network: outrigger-net, DPDK's vhost port, and a loop of writev into the same interface.
    Net(net::Options),
    /// The loop that `net` starts, pinned: frames into an interface, one system call each.
    #[command(hide = true)]
    NetLoop(net::Loop),
    /// The client process that `blk` starts, pinned, for each cell it measures.
    #[command(hide = true)]
    BlkClient {
        /// What to do, as JSON.
        spec: String,
    },
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().benchmark {
        Benchmark::Blk(options) => blk::run(&options),
        Benchmark::Balloon(options) => balloon::run(&options),
        Benchmark::Boot(options) => boot::run(&options),
        Benchmark::Console(options) => console::run(&options),
        Benchmark::Net(options) => net::run(&options),
        Benchmark::NetLoop(frames) => frames.run(),
        Benchmark::BlkClient { spec } => blk::client::serve(&spec),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
