//! `outrigger-net`: a virtio network card as a vhost-user back-end.

use std::process::ExitCode;

use framework::program::{self, logging, options};
use framework::sandbox::Sandbox;
use framework::server::{self, Daemon};
use outrigger_net::device::NetDevice;
use outrigger_net::options::{CAPABILITIES, Options};
use outrigger_net::uplink::{Uplink, tap};
use serde_json::json;

const NAME: &str = "outrigger-net";

fn main() -> ExitCode {
    match options::parse::<Options>(&CAPABILITIES) {
        Ok(options) => program::exit_code(NAME, &serve(&options)),
        Err(status) => status,
    }
}

fn serve(options: &Options) -> anyhow::Result<()> {
    logging::start(options.common.log.as_deref())?;
    let uplink = options.open()?;
    let capture = options.open_capture()?;
    let sandbox = Sandbox::new(options.common.sandbox);
    let sandbox = match &uplink {
        Uplink::Tap(_) => sandbox.ioctls(&tap::IOCTLS),
        Uplink::Stream(stream) => stream.keep(sandbox),
        Uplink::Null { .. } | Uplink::Echo => sandbox,
    };
    tracing::info!(uplink = uplink.describe(), "serving");
    let config = json!({
        "uplink": uplink.describe(),
        "mac": options.mac,
        "mtu": options.mtu,
        "queue_pairs": options.queue_pairs,
        "queue_size": options.queue_size,
        "ctrl_vq": options.ctrl_vq,
    });
    let device = NetDevice::new(uplink, options.settings()).captured(capture);
    let daemon = Daemon { name: "net", options: &options.common, sandbox, config };
    Ok(server::run(device, daemon)?)
}
