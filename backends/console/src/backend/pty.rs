//! A new pseudo-terminal, with a link that leads to it.
//!
//! Nobody has its other end open at first, and a terminal that is closed again reads as an error
//! until it is opened anew. So that nothing has to be tried over and over, its being opened is
//! watched for by inotify, and an attendant is told by the kernel when whoever has it open gives it another
//! size.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::{Peer, directory_of, new_id};
use crate::attendant::{Attendant, Role};
use crate::error::{Error, Result};

/// A pseudo-terminal's master.
#[derive(Debug)]
pub struct Pty {
    pub(super) id: u64,
    pub(super) opened: Arc<OwnedFd>,
    /// Where the terminal is.
    pub(super) path: PathBuf,
    master: Arc<OwnedFd>,
    link: Option<Link>,
    lookout: Option<Attendant>,
}

impl Pty {
    pub(super) fn open(link: Option<&Path>) -> Result<Self> {
        let failed = || Error::open("make", "a pseudo-terminal");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).map_err(failed())?;
        grantpt(&master).map_err(failed())?;
        unlockpt(&master).map_err(failed())?;
        rustix::io::ioctl_fionbio(&master, true).map_err(failed())?;
        let name = ptsname(&master, Vec::new()).map_err(failed())?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
        make_raw(&path)?;
        let opened = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(failed())?;
        inotify::add_watch(&opened, &path, inotify::WatchFlags::OPEN).map_err(failed())?;
        let link = link.map(|link| Link::make(link, &path)).transpose()?;
        tracing::info!(terminal = %path.display(), "a pseudo-terminal is there");
        let lookout = Attendant::start(Role::Lookout, &master)
            .inspect_err(|error| tracing::warn!(%error, "changes of its size are not seen"))
            .ok();
        let (opened, master) = (Arc::new(opened), Arc::new(master));
        Ok(Pty { id: new_id(), opened, path, master, link, lookout })
    }

    /// The peer, if somebody has opened the terminal since the last time.
    pub(super) fn attached(&self) -> Option<Peer> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut came = false;
        // All that is known is read away: many may have opened it, and one look is enough.
        for _ in 0..16 {
            match rustix::io::read(&*self.opened, &mut buffer) {
                Ok((bytes, _)) if !bytes.is_empty() => came = true,
                _ => break,
            }
        }
        if let (true, Some(lookout)) = (came, &self.lookout) {
            lookout.heed();
        }
        came.then(|| Peer {
            input: Some(Arc::clone(&self.master)),
            output: Some(Arc::clone(&self.master)),
            is_terminal: true,
            ends_with_input: true,
            ..Peer::nothing()
        })
    }

    pub(super) fn resizes(&self) -> Option<(u64, &Arc<OwnedFd>)> {
        self.lookout.as_ref().map(|lookout| (self.id, lookout.socket()))
    }

    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.link.as_ref().map(|link| link.directory_path().to_owned())
    }
}

/// Without echo and line editing, which are the guest's affair.
fn make_raw(path: &Path) -> Result<()> {
    let failed = || Error::open("set up", path.display());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(path, flags, Mode::empty()).map_err(failed())?;
    let mut attributes = tcgetattr(&terminal).map_err(failed())?;
    attributes.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &attributes).map_err(failed())
}

/// A symbolic link that is removed at the end.
#[derive(Debug)]
struct Link {
    path: PathBuf,
    directory: OwnedFd,
    target: PathBuf,
}

impl Link {
    fn make(path: &Path, target: &Path) -> Result<Self> {
        let failed = || Error::open("make the link", path.display());
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.is_symlink() => {
                return Err(Error::NotALink { path: path.to_owned() });
            }
            Ok(_) => std::fs::remove_file(path).map_err(failed())?,
            Err(_) => {}
        }
        std::os::unix::fs::symlink(target, path).map_err(failed())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory_of(path), flags, Mode::empty());
        let directory = directory.map_err(Error::open("open the directory of", path.display()))?;
        Ok(Link { path: path.to_owned(), directory, target: target.to_owned() })
    }

    fn directory_path(&self) -> &Path {
        directory_of(&self.path)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(name) = self.path.file_name() else { return };
        // Another daemon may have replaced it.
        let ours = rustix::fs::readlinkat(&self.directory, name, Vec::new())
            .is_ok_and(|target| target.as_bytes() == self.target.as_os_str().as_bytes());
        if ours {
            let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}
