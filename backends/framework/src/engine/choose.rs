//! Which engine a worker gets.

use std::io;
use std::sync::Once;

use rustix::io::Errno;

use super::{Config, ReservedRing, Threads, Uring};

/// Which engine is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// io_uring, or threads where it is not to be had.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// Threads, though io_uring may be there.
    Threads,
}

/// Sets a ring aside for a worker with `queues` queues, while the process may still make one. None:
/// threads will do its I/O. The first time that they have to take the place of io_uring, the log says
/// so and why.
///
/// # Errors
/// When io_uring was asked for and is not to be had.
pub fn reserve(choice: Choice, queues: u16, restricted: bool) -> io::Result<Option<ReservedRing>> {
    if choice == Choice::Threads {
        return Ok(None);
    }
    match ReservedRing::make(queues, Config::OPERATIONS, restricted) {
        Ok(ring) => Ok(Some(ring)),
        Err(error) if choice == Choice::Uring => {
            Err(io::Error::new(error.kind(), format!("{}: {error}", reason(&error))))
        }
        Err(error) => {
            say_once(&error);
            Ok(None)
        }
    }
}

/// The engine that a worker got. A worker is generic over its engine, so that this decision is taken
/// once, when it starts, and not again at each operation.
pub enum Selected<'r> {
    /// io_uring.
    Uring(Box<Uring<'r>>),
    /// Blocking calls on threads.
    Threads(Box<Threads>),
}

/// Makes an engine for the calling thread, on the ring that was set aside for it if there is one.
///
/// # Errors
/// When the engine that was asked for is not to be had.
pub fn open<'r>(
    choice: Choice,
    ring: Option<&'r mut ReservedRing>,
    config: &Config,
) -> io::Result<Selected<'r>> {
    let error = match ring.map(|ring| Uring::new(ring, config)) {
        Some(Ok(engine)) => return Ok(Selected::Uring(Box::new(engine))),
        Some(Err(error)) => Some(error),
        None => None,
    };
    match (choice, error) {
        (Choice::Uring, error) => Err(error.unwrap_or_else(|| io::ErrorKind::Unsupported.into())),
        (_, error) => {
            if let Some(error) = error {
                say_once(&error);
            }
            Ok(Selected::Threads(Box::new(Threads::new(config)?)))
        }
    }
}

fn say_once(error: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let reason = reason(error);
        tracing::warn!(%error, "{reason}; threads do the I/O instead, which is slower");
    });
}

/// What an error of [`ReservedRing::make`] means, and what to do about it.
fn reason(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOSYS) => "this kernel has no io_uring, or a seccomp filter hides it",
        Some(Errno::PERM | Errno::ACCESS) => {
            "io_uring is forbidden here (see the sysctl kernel.io_uring_disabled, and the seccomp \
             filter of the container)"
        }
        Some(Errno::INVAL) => "this kernel's io_uring is too old (Linux 6.1 is needed)",
        Some(Errno::NOMEM) => "there is no memory for an io_uring (see ulimit -l)",
        Some(Errno::MFILE | Errno::NFILE) => {
            "there are no file descriptors left for an io_uring (see ulimit -n)"
        }
        _ => "io_uring cannot be used",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustix::event::EventfdFlags;

    use super::*;

    #[test]
    fn threads_can_be_asked_for() {
        let commands = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let config = Config::new(1, Arc::new(commands));
        assert!(reserve(Choice::Threads, 1, true).unwrap().is_none());
        assert!(matches!(open(Choice::Threads, None, &config), Ok(Selected::Threads(_))));
        let mut ring = reserve(Choice::Auto, 1, true).unwrap();
        assert!(open(Choice::Auto, ring.as_mut(), &config).is_ok());
        assert!(open(Choice::Uring, None, &config).is_err());
    }

    #[test]
    fn reasons_say_what_to_do() {
        let disabled = io::Error::from_raw_os_error(libc::EPERM);
        assert!(reason(&disabled).contains("kernel.io_uring_disabled"));
    }
}
