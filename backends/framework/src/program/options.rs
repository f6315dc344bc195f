//! The command-line options that all back-ends share. The doc comments below are the help text.

use std::{
    ffi::OsString, fmt, io::Write, num::NonZeroU16, os::fd::RawFd, path::PathBuf,
    process::ExitCode, str::FromStr, time::Duration,
};

use clap::{Args, Parser, ValueEnum};

use crate::{capabilities::Capabilities, cpus::CpuList};

const CONNECTION: &str = "Connection";
const SPEED: &str = "Speed";
const FEATURES: &str = "Features offered to the driver";
const SERVICE: &str = "Service";

// No doc comment: clap would show it as the program's description.
#[expect(missing_docs, reason = "a doc comment here would replace the program's own description")]
#[derive(Debug, Clone, Args)]
pub struct CommonOptions {
    /// Listen on this Unix socket for the front-end
    ///
    /// A socket file that nobody listens on any more is replaced; one that is in use is an error. Given
    /// several times where a program serves several front-ends.
    #[arg(long, value_name = "PATH", group = "endpoint", help_heading = CONNECTION)]
    pub socket_path: Vec<PathBuf>,

    /// Use this inherited socket, listening or connected
    #[arg(long, value_name = "FDNUM", group = "endpoint", help_heading = CONNECTION)]
    pub fd: Option<RawFd>,

    /// Connect to this Unix socket, on which the front-end listens
    ///
    /// Tries again until the front-end is there, and after each loss of the connection.
    #[arg(long, value_name = "PATH", group = "endpoint", help_heading = CONNECTION)]
    pub connect: Option<PathBuf>,

    /// Permissions of the file of --socket-path, such as 660
    #[arg(
        long,
        value_name = "OCTAL",
        value_parser = parse_mode,
        requires = "socket_path",
        conflicts_with_all = ["fd", "connect"],
        help_heading = CONNECTION
    )]
    pub socket_mode: Option<u32>,

    /// Group that the file of --socket-path belongs to, by name or number
    #[arg(
        long,
        value_name = "NAME",
        requires = "socket_path",
        conflicts_with_all = ["fd", "connect"],
        help_heading = CONNECTION
    )]
    pub socket_group: Option<String>,

    /// Print what this back-end can do as JSON and exit; all else is ignored
    #[arg(long, help_heading = CONNECTION)]
    pub print_capabilities: bool,

    /// How to do I/O
    #[arg(long, value_enum, default_value_t, help_heading = SPEED)]
    pub engine: EngineChoice,

    /// How long to look for more work before sleeping: microseconds, or auto to adapt; 0 sleeps at once
    #[arg(long, value_name = "N|auto", default_value_t, help_heading = SPEED)]
    pub poll_us: PollTime,

    /// Pin the workers to these CPUs, one each in this order, such as 0,2-3
    #[arg(long, value_name = "LIST", help_heading = SPEED)]
    pub cpus: Option<CpuList>,

    /// Start at most this many worker threads
    ///
    /// One for each queue if not given; with fewer, a worker serves several queues.
    #[arg(long, value_name = "N", help_heading = SPEED)]
    pub workers: Option<NonZeroU16>,

    /// Offer packed virtqueues
    #[arg(long, help_heading = FEATURES)]
    pub packed: bool,

    /// Offer to complete requests in the order in which they came
    #[arg(long, help_heading = FEATURES)]
    pub in_order: bool,

    /// Offer kicks and calls as messages on the socket, for front-ends that simulate time
    #[arg(long, help_heading = FEATURES)]
    pub inband: bool,

    /// Listen on this Unix socket for JSON commands
    #[arg(long, value_name = "PATH", help_heading = SERVICE)]
    pub control_path: Option<PathBuf>,

    /// Take JSON commands from this inherited, connected socket too
    ///
    /// The VMM that starts a back-end commands it in this way.
    #[arg(long, value_name = "FDNUM", help_heading = SERVICE)]
    pub control_fd: Option<RawFd>,

    /// Keep in this file what the driver has set, so that a restarted back-end still knows it
    #[arg(long, value_name = "PATH", group = "state", help_heading = SERVICE)]
    pub state_path: Option<PathBuf>,

    /// Like --state-path, in this inherited file or memfd
    #[arg(long, value_name = "FDNUM", group = "state", help_heading = SERVICE)]
    pub state_fd: Option<RawFd>,

    /// Give up all rights that are not needed once the devices are open
    #[arg(long, value_enum, default_value_t, value_name = "on|off", help_heading = SERVICE)]
    pub sandbox: SandboxMode,

    /// How much to log: error, warn, info, debug, trace, or a filter such as info,framework=debug
    ///
    /// The environment variable RUST_LOG says the same if this is not given.
    #[arg(long, value_name = "LEVEL", help_heading = SERVICE)]
    pub log: Option<String>,
}

/// What does the I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum EngineChoice {
    /// io_uring if the kernel permits it, else threads
    #[default]
    Auto,
    /// io_uring, or fail
    #[value(name = "io_uring")]
    IoUring,
    /// Blocking calls on a pool of threads
    Threads,
}

/// Whether the process is confined after its set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SandboxMode {
    /// Confined as far as the system can do it
    #[default]
    On,
    /// Not confined, for debugging
    Off,
}

/// How long a worker looks for more work before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PollTime {
    /// As long as it pays.
    #[default]
    Auto,
    /// At most this long after work was found; zero sleeps at once.
    Fixed(Duration),
}

impl PollTime {
    /// Beyond this a poll time is a mistake: it would burn a CPU.
    const LONGEST: Duration = Duration::from_secs(1);
}

impl FromStr for PollTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let time = text
            .parse()
            .map(Duration::from_micros)
            .map_err(|_| format!("{text:?} is neither auto nor a number of microseconds"))?;
        if time > Self::LONGEST {
            return Err(format!("at most {}", Self::LONGEST.as_micros()));
        }
        Ok(Self::Fixed(time))
    }
}

impl fmt::Display for PollTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(time) => write!(f, "{}", time.as_micros()),
        }
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("{text:?} is not an octal number up to 777")),
    }
}

/// Parses the command line of a back-end.
///
/// `--print-capabilities`, `--help`, `--version` and errors end the program: they have printed what
/// there is to say, and the exit status is returned as the error (0, or 2 for a wrong command line).
///
/// # Errors
/// The exit status with which the program should end now.
pub fn parse<T: Parser>(capabilities: &Capabilities) -> Result<T, ExitCode> {
    parse_from(std::env::args_os(), capabilities, &mut std::io::stdout())
}

fn parse_from<T: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
    capabilities: &Capabilities,
    stdout: &mut impl Write,
) -> Result<T, ExitCode> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    if asks_for_capabilities(&arguments) {
        let printed = stdout.write_all(capabilities.to_json().as_bytes());
        return Err(if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    T::try_parse_from(arguments).map_err(|error| {
        // Nobody is left to tell that stderr is closed.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(super::USAGE) } else { ExitCode::SUCCESS }
    })
}

/// The option counts wherever it stands and whatever else is wrong with the command line.
fn asks_for_capabilities(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .skip(1)
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--print-capabilities")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Serves a test
    #[derive(Debug, Parser)]
    #[command(name = "outrigger-test", version)]
    struct Options {
        #[command(flatten)]
        common: CommonOptions,
        /// A required option of the device
        #[arg(long)]
        blk_file: PathBuf,
    }

    const BLOCK: Capabilities = Capabilities { device: "block", features: &["blk-file"] };

    fn parse_words(words: &[&str]) -> (Result<Options, ExitCode>, String) {
        let arguments = std::iter::once(&"outrigger-test").chain(words).map(OsString::from);
        let mut stdout = Vec::new();
        let parsed = parse_from(arguments, &BLOCK, &mut stdout);
        (parsed, String::from_utf8(stdout).unwrap())
    }

    fn good(words: &[&str]) -> CommonOptions {
        parse_words(&[words, &["--blk-file=x"]].concat()).0.unwrap().common
    }

    /// What clap says about a wrong command line.
    fn complaint(words: &[&str]) -> String {
        let words = [&["outrigger-test", "--blk-file=x"], words].concat();
        Options::try_parse_from(words).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let options = good(&[]);
        assert_eq!(options.engine, EngineChoice::Auto);
        assert_eq!(options.poll_us, PollTime::Auto);
        assert_eq!(options.sandbox, SandboxMode::On);
        assert!(!options.packed && !options.in_order && !options.inband);
    }

    #[test]
    fn values_are_understood() {
        let options = good(&[
            "--socket-path=/run/a.sock",
            "--socket-mode=0660",
            "--socket-group=kvm",
            "--engine=io_uring",
            "--poll-us=50",
            "--cpus=0,2-3",
            "--workers=4",
            "--sandbox=off",
            "--log=debug",
        ]);
        assert_eq!(options.socket_mode, Some(0o660));
        assert_eq!(options.engine, EngineChoice::IoUring);
        assert_eq!(options.poll_us, PollTime::Fixed(Duration::from_micros(50)));
        assert_eq!(options.cpus.unwrap().as_slice(), [0, 2, 3]);
        assert_eq!(options.workers.unwrap().get(), 4);
        assert_eq!(options.sandbox, SandboxMode::Off);
        assert_eq!(good(&["--poll-us=0"]).poll_us, PollTime::Fixed(Duration::ZERO));
    }

    #[test]
    fn mistakes_are_explained() {
        for (words, expected) in [
            (&["--socket-path=/a", "--fd=3"][..], "cannot be used with"),
            (&["--fd=3", "--connect=/a"], "cannot be used with"),
            (&["--state-path=/a", "--state-fd=4"], "cannot be used with"),
            (&["--socket-mode=660"], "--socket-path"),
            (&["--fd=3", "--socket-mode=660"], "cannot be used with"),
            (&["--connect=/a", "--socket-group=kvm"], "cannot be used with"),
            (&["--socket-path=/a", "--socket-mode=9"], "octal"),
            (&["--socket-path=/a", "--socket-mode=7777"], "octal"),
            (&["--poll-us=often"], "neither auto nor a number"),
            (&["--poll-us=2000000"], "at most 1000000"),
            (&["--cpus=3-1"], "goes backwards"),
            (&["--workers=0"], "--workers"),
            (&["--engine=fast"], "possible values: auto, io_uring, threads"),
        ] {
            let text = complaint(words);
            assert!(text.contains(expected), "{words:?}: {text}");
        }
    }

    #[test]
    fn capabilities_are_printed_whatever_else_is_wrong() {
        let (parsed, stdout) = parse_words(&["--nonsense", "--print-capabilities", "--fd=x"]);
        assert_eq!(parsed.unwrap_err(), ExitCode::SUCCESS);
        assert_eq!(stdout, BLOCK.to_json());
        assert!(!asks_for_capabilities(&["a", "--", "--print-capabilities"].map(OsString::from)));
    }

    #[test]
    fn the_exit_status_of_a_wrong_command_line_is_2() {
        let (parsed, stdout) = parse_words(&["--nonsense"]);
        assert_eq!(parsed.unwrap_err(), ExitCode::from(2));
        assert_eq!(stdout, "");
    }

    #[test]
    fn the_help_describes_the_program_and_groups_the_options() {
        let help = Options::command().render_help().to_string();
        assert!(help.starts_with("Serves a test\n"), "{help}");
        for heading in [CONNECTION, SPEED, FEATURES, SERVICE] {
            assert!(help.contains(&format!("\n{heading}:\n")), "{heading}: {help}");
        }
    }
}
