//! A daemon's life outside the data path: its command line, the sockets and descriptors it is started
//! with, signals, the service manager, its log, and the state it keeps across a restart.
//!
//! A back-end's `main` goes through these in order:
//! [`options::parse`] → [`logging::start`] → [`signals::Signals::block`] (before any thread) →
//! [`inherited::ListenFds::from_env`] → [`listener::Endpoint::open`],
//! [`state_file::StateFile::open`], the device's own files → [`crate::sandbox::Sandbox::apply`] →
//! [`notify::Notifier::ready`] → serve → [`notify::Notifier::stopping`] → exit status by
//! [`exit_code`].

pub mod inherited;
pub mod listener;
pub mod logging;
pub mod notify;
pub mod options;
pub mod privileges;
pub mod rate_limit;
pub mod signals;
pub mod socket_file;
pub mod state;
pub mod state_file;

use std::{io::Write, process::ExitCode};

/// The exit status of a program whose command line is at fault.
pub const USAGE: u8 = 2;
/// The exit status of a program that failed otherwise.
pub const FAILURE: u8 = 1;

/// Turns the outcome of a program into its exit status, and tells on stderr why it failed: each
/// error with its causes, in one line.
///
/// 0 is success, [`USAGE`] an error of which [`crate::Error::is_usage`] says that the command line is
/// at fault, [`FAILURE`] any other.
pub fn exit_code(program: &str, outcome: &anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    // Nobody is left to tell that stderr is closed.
    let _ = writeln!(std::io::stderr(), "{program}: error: {}", one_line(error));
    let usage = error.downcast_ref::<crate::Error>().is_some_and(crate::Error::is_usage);
    ExitCode::from(if usage { USAGE } else { FAILURE })
}

/// The error and its causes, without the causes whose text an outer message already shows.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::Error;

    #[test]
    fn a_usage_error_is_told_from_others_through_context() {
        let usage = Err(Error::NoEndpoint).context("starting");
        let other = Err(Error::SocketInUse { path: "/run/a.sock".into() }).context("starting");
        assert_eq!(exit_code("test", &Ok(())), ExitCode::SUCCESS);
        assert_eq!(exit_code("test", &usage), ExitCode::from(USAGE));
        assert_eq!(exit_code("test", &other), ExitCode::from(FAILURE));
    }

    #[test]
    fn causes_are_told_once() {
        let source = std::io::Error::from_raw_os_error(libc::EACCES);
        let inner = Error::Socket { action: "bind", path: "/x".into(), source };
        let error = anyhow::Error::from(inner).context("opening the vhost-user socket");
        assert_eq!(
            one_line(&error),
            "opening the vhost-user socket: cannot bind the socket \"/x\": \
             Permission denied (os error 13)"
        );
    }
}
