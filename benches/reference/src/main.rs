//! `reference-blk`: a vhost-user block back-end written the way rust-vmm daemons usually are, on
//! `vhost-user-backend` and `virtio-queue`, one worker thread and one io_uring per queue.
//!
//! It is a row of the block benchmark and nothing else: the same device without Outrigger's own
//! rings, worker loop and connection, so that what those buy is measured. It serves one
//! connection, the split ring with event index, and trusts its driver more than a daemon should.

mod device;
mod request;
mod storage;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Parser;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use crate::device::BlockDevice;
use crate::storage::Medium;

/// Reference block back-end on vhost-user-backend and virtio-queue, for benchmarks.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Unix socket to listen on; one front-end is served, then the program ends.
    #[arg(long, value_name = "PATH")]
    socket_path: PathBuf,
    /// File or block device that is served.
    #[arg(long, value_name = "PATH", required_unless_present = "null")]
    blk_file: Option<PathBuf>,
    /// Serve a device of SIZE bytes that completes every request at once and moves no data.
    #[arg(long, value_name = "SIZE", conflicts_with = "blk_file")]
    null: Option<u64>,
    /// Open the file with O_DIRECT.
    #[arg(long)]
    direct: bool,
    /// Queues offered; each has a worker thread of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    num_queues: u16,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let medium = match (&options.blk_file, options.null) {
        (Some(path), _) => Medium::open(path, options.direct)
            .with_context(|| format!("cannot open {}", path.display()))?,
        (None, size) => Medium::null(size.unwrap_or_default()),
    };
    let device = Arc::new(BlockDevice::new(&medium, options.num_queues)?);
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<()>::new());
    let mut daemon = VhostUserDaemon::new("reference-blk".into(), Arc::clone(&device), memory)
        .map_err(|error| anyhow!("cannot start the daemon: {error}"))?;
    device.listen_for_completions(&daemon.get_epoll_handlers())?;
    let socket = &options.socket_path;
    daemon.serve(socket).map_err(|error| anyhow!("serving {} ended: {error}", socket.display()))
}
