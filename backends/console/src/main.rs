//! `outrigger-console`: a virtio console with several ports as a vhost-user back-end.

use std::process::ExitCode;

use framework::program::{self, logging, options};
use framework::sandbox::{FileAccess, Sandbox};
use framework::server::{self, Daemon};
use outrigger_console::attendant;
use outrigger_console::backend::{IOCTLS, LogFile};
use outrigger_console::board::{Board, Shared};
use outrigger_console::device::ConsoleDevice;
use outrigger_console::options::{CAPABILITIES, Options};
use serde_json::json;

const NAME: &str = "outrigger-console";

fn main() -> ExitCode {
    if let Some(status) = attendant::run_if_asked() {
        return status;
    }
    match options::parse::<Options>(&CAPABILITIES) {
        Ok(options) => program::exit_code(NAME, &serve(&options)),
        Err(status) => status,
    }
}

fn serve(options: &Options) -> anyhow::Result<()> {
    logging::start(options.common.log.as_deref())?;
    let board = options.open()?;
    let sandbox = sandbox(options, &board);
    let config = json!({
        "ports": board.describe(),
        "max_ports": board.table.most(),
        "queue_size": options.queue_size,
    });
    tracing::info!(ports = board.table.entries().count(), "serving");
    // Held to the end, whichever way that comes: what back ends have to undo, they undo when dropped.
    let shared = Shared::new(board);
    let device = ConsoleDevice::new(shared.clone(), options.settings());
    let daemon = Daemon { name: "console", options: &options.common, sandbox, config };
    let outcome = server::run(device, daemon);
    drop(shared);
    Ok(outcome?)
}

/// What ports need once everything is open: terminals' modes and sizes, removing links and sockets at
/// the end, connecting again, rotating, files that are named later, and the signal by which the escape key
/// ends the daemon.
fn sandbox(options: &Options, board: &Board) -> Sandbox {
    let mut sandbox =
        Sandbox::new(options.common.sandbox).ioctls(&IOCTLS).syscalls(&[libc::SYS_readlinkat]);
    if board.has_stdio() {
        sandbox = sandbox.syscalls(&[libc::SYS_kill]);
    }
    for line in board.lines() {
        if let Some(directory) = line.backend.removes_in() {
            sandbox = sandbox.directory(directory, FileAccess::Remove);
        }
        if let Some(directory) = line.backend.connects_in() {
            sandbox = sandbox.directory(directory, FileAccess::Connect);
        }
        if let Some(directory) = line.record.as_ref().and_then(LogFile::rotated_in) {
            sandbox = sandbox
                .directory(directory, FileAccess::Write)
                .directory(directory, FileAccess::Remove)
                .syscalls(&[libc::SYS_renameat, libc::SYS_renameat2]);
        }
    }
    for directory in &options.port_directory {
        sandbox = sandbox.directory(directory, FileAccess::Write).syscalls(&[libc::SYS_openat2]);
    }
    sandbox
}
