//! `outrigger-blk`: a virtio block device as a vhost-user back-end.

use std::process::ExitCode;

use framework::program::{self, logging, options};
use framework::sandbox::Sandbox;
use framework::server::{self, Daemon};
use outrigger_blk::device::BlockDevice;
use outrigger_blk::image::Medium;
use outrigger_blk::options::{CAPABILITIES, Options};
use serde_json::json;

const NAME: &str = "outrigger-blk";

/// Requests of block devices that a helper thread makes where io_uring has no operation for them.
const IOCTLS: [u32; 2] = [BLKDISCARD, BLKSECDISCARD];
const BLKDISCARD: u32 = 0x1277;
const BLKSECDISCARD: u32 = 0x127d;

fn main() -> ExitCode {
    match options::parse::<Options>(&CAPABILITIES) {
        Ok(options) => program::exit_code(NAME, &serve(&options)),
        Err(status) => status,
    }
}

fn serve(options: &Options) -> anyhow::Result<()> {
    logging::start(options.common.log.as_deref())?;
    let image = options.open()?;
    let sandbox = Sandbox::new(options.common.sandbox);
    let sandbox = match image.medium() {
        Medium::BlockDevice => sandbox.ioctls(&IOCTLS),
        Medium::File | Medium::Null => sandbox,
    };
    tracing::info!(
        image = %image.path().display(),
        bytes = image.bytes(),
        read_only = image.is_read_only(),
        "serving"
    );
    let config = json!({
        "image": image.path(),
        "read_only": options.read_only,
        "logical_block_size": image.sizes().logical,
        "direct": image.direct().is_some(),
        "num_queues": options.num_queues,
        "queue_size": options.queue_size,
    });
    let device = BlockDevice::new(image, options.settings());
    let daemon = Daemon { name: "blk", options: &options.common, sandbox, config };
    Ok(server::run(device, daemon)?)
}
