//! What the serial port is connected to: terminal, pseudoterminal, file or socket.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{SocketFlags, accept_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::connection::End;
use super::error::Error;
use super::terminal::{Raw, make_cable};
use crate::config::serial::SerialPort;
use crate::control::socket_file::SocketFile;

/// A link to the host, open before the guest starts.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) input: Option<End>,
    pub(super) output: Option<End>,
    /// Where the next one connects.
    pub(super) listener: Option<UnixListener>,
    /// What to show to the user: how to get at it.
    pub(super) path: Option<PathBuf>,
    /// What to do at the end.
    pub(super) cleanup: Cleanup,
}

/// Undoes what opening the link did when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Cleanup {
    /// Restores the terminal.
    pub(super) raw: Option<Raw>,
    /// Keeps the pseudoterminal from hanging up when nobody is there.
    #[expect(dead_code, reason = "it is there to be open")]
    slave: Option<OwnedFd>,
    #[expect(dead_code, reason = "it is there to be dropped")]
    socket: Option<SocketFile>,
    #[expect(dead_code, reason = "it is there to be dropped")]
    symlink: Option<Symlink>,
}

/// A symbolic link of ours, until this is dropped.
#[derive(Debug)]
struct Symlink(PathBuf);

impl Drop for Symlink {
    fn drop(&mut self) {
        // A sandbox may not let us; the next start replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

impl Link {
    /// Opens what `to` says.
    pub(super) fn open(to: &SerialPort) -> Result<Self, Error> {
        match to {
            SerialPort::Null => Ok(Self::default()),
            SerialPort::Stdio => Self::stdio(),
            SerialPort::Pty(link) => Self::pty(link.as_deref()),
            SerialPort::File(path) => Self::file(path),
            SerialPort::Socket(path) => Self::socket(path),
        }
    }

    fn stdio() -> Result<Self, Error> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let input = End::shared(stdin.as_fd(), OFlags::RDONLY);
        let output = End::shared(stdout.as_fd(), OFlags::WRONLY);
        Ok(Self {
            // Without standard input there is none; without output nothing is shown.
            input: input.ok(),
            output: output.ok(),
            cleanup: Cleanup { raw: Raw::stdin(), ..Cleanup::default() },
            ..Self::default()
        })
    }

    fn pty(link: Option<&Path>) -> Result<Self, Error> {
        let system = Error::system("make a pseudoterminal");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).map_err(&system)?;
        grantpt(&master).map_err(&system)?;
        unlockpt(&master).map_err(&system)?;
        let name = ptsname(&master, Vec::new()).map_err(&system)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&*name, flags, Mode::empty()).map_err(&system)?;
        make_cable(slave.as_fd()).map_err(&system)?;
        let path = PathBuf::from(String::from_utf8_lossy(name.as_bytes()).into_owned());
        if let Some(link) = link {
            replace_link(&path, link)?;
        }
        Ok(Self {
            input: Some(End::own(copy(&master)?).map_err(&system)?),
            output: Some(End::own(master).map_err(&system)?),
            path: Some(link.map_or(path, Path::to_owned)),
            cleanup: Cleanup {
                slave: Some(slave),
                symlink: link.map(|link| Symlink(link.to_owned())),
                ..Cleanup::default()
            },
            ..Self::default()
        })
    }

    fn file(path: &Path) -> Result<Self, Error> {
        // Non-blocking, should it be a pipe.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, mode)
            .map_err(|source| at(path, "open", source.into()))?;
        let output = End::own(file).map_err(Error::system("set up a file"))?;
        Ok(Self { output: Some(output), ..Self::default() })
    }

    fn socket(path: &Path) -> Result<Self, Error> {
        let (listener, file) = SocketFile::listen(path).map_err(Error::Socket)?;
        Ok(Self {
            listener: Some(listener.into()),
            path: Some(path.to_owned()),
            cleanup: Cleanup { socket: Some(file), ..Cleanup::default() },
            ..Self::default()
        })
    }

    /// Takes the next connection, if one is waiting.
    ///
    /// # Errors
    /// When none is, or it cannot be taken.
    pub(super) fn accept(&mut self) -> rustix::io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = accept_with(listener, flags)?;
        let copied = rustix::io::fcntl_dupfd_cloexec(&socket, 3)?;
        let (input, output) = (End::own(copied)?, End::own(socket)?);
        (self.input, self.output) = (Some(input), Some(output));
        Ok(())
    }
}

fn at(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Path { action, path: path.to_owned(), source }
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(Error::system("copy a descriptor"))
}

/// Makes a symbolic link, in place of one that is there.
fn replace_link(to: &Path, link: &Path) -> Result<(), Error> {
    if let Ok(metadata) = fs::symlink_metadata(link) {
        if !metadata.is_symlink() {
            return Err(Error::Taken { path: link.to_owned(), what: "no symbolic link" });
        }
        fs::remove_file(link).map_err(|source| at(link, "replace", source))?;
    }
    symlink(to, link).map_err(|source| at(link, "make a link at", source))
}
