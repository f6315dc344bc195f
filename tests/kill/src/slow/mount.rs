//! Mounting, where nobody else sees it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Error, Result};

/// Mounts a file system whose root is a file over a new file at `path`; returns the kernel's side of
/// it. The calling thread gets mounts of its own, so that nothing is left behind by a killed test.
pub(super) fn mount(path: &Path) -> Result<File> {
    File::create(path).map_err(Error::system("make the file that the slow disk is mounted on"))?;
    let refused = |error: nix::Error| missing(&error.into());
    unshare(CloneFlags::CLONE_NEWNS).map_err(refused)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount_at(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(refused)?;
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device = device.map_err(|error| missing(&error))?;
    let options = format!("fd={},rootmode=100600,user_id=0,group_id=0", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(Some("slow"), path, Some("fuse"), flags, Some(options.as_str())).map_err(refused)?;
    Ok(device)
}

fn missing(error: &io::Error) -> Error {
    let what = format!("the right to mount a FUSE file system ({error})");
    e2e::Error::Missing { what, how: "run as root, with /dev/fuse".into() }.into()
}

pub(super) fn unmount(path: &Path) {
    // Nobody is left to be told; the mount ends with the last process that sees it.
    let _ = umount2(path, MntFlags::MNT_DETACH);
}
