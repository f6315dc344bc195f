//! `outrigger-balloon`: a virtio memory balloon as a vhost-user back-end.

use std::process::ExitCode;
use std::time::Duration;

use framework::program::options::{CommonOptions, PollTime};
use framework::program::{self, logging, options};
use framework::sandbox::Sandbox;
use framework::server::{self, Daemon};
use outrigger_balloon::device::BalloonDevice;
use outrigger_balloon::options::{CAPABILITIES, Options};
use serde_json::json;

const NAME: &str = "outrigger-balloon";

fn main() -> ExitCode {
    match options::parse::<Options>(&CAPABILITIES) {
        Ok(options) => program::exit_code(NAME, &serve(&options)),
        Err(status) => status,
    }
}

fn serve(options: &Options) -> anyhow::Result<()> {
    logging::start(options.common.log.as_deref())?;
    // The file of the memory pressure is open from here on; holes need no more than the files that
    // the front-end sends.
    let settings = options.settings()?;
    let config = json!({
        "target_bytes": options.target,
        "deflate_on_oom": settings.offer.deflate_on_oom,
        "reporting": settings.offer.reporting,
        "queue_size": settings.queue_size,
        "auto": options.auto,
        "auto_floor": options.auto_floor,
        "auto_ceiling": options.auto_ceiling,
        "auto_rate": options.auto_rate,
    });
    let sandbox = Sandbox::new(options.common.sandbox);
    let device = BalloonDevice::new(settings);
    let common = patient(&options.common);
    let daemon = Daemon { name: "balloon", options: &common, sandbox, config };
    Ok(server::run(device, daemon)?)
}

/// Nobody waits for a balloon: unless the user wants it, no CPU is spent on looking for more work.
fn patient(common: &CommonOptions) -> CommonOptions {
    let mut common = common.clone();
    if common.poll_us == PollTime::Auto {
        common.poll_us = PollTime::Fixed(Duration::ZERO);
    }
    common
}
