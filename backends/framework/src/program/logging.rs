//! The log: one line a message on stderr, plain where no person reads it, with the priority that
//! journald understands under systemd.

use std::{env, fmt, io, io::IsTerminal};

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    registry::LookupSpan,
};

use crate::error::{Error, Result};

/// Starts logging to stderr, by the filter of `--log`, else of `RUST_LOG`, else `info`.
///
/// # Errors
/// [`Error::LogFilter`] if the filter cannot be understood.
pub fn start(filter: Option<&str>) -> Result<()> {
    let filter = parse_filter(filter, env::var("RUST_LOG").ok().as_deref())?;
    let terminal = io::stderr().is_terminal();
    let colours = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let format = Format::default().with_target(false).with_ansi(colours);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours);
    // A second start changes nothing: the first log goes on.
    if goes_to_journal(env::var("JOURNAL_STREAM").ok().as_deref()) {
        let _ = builder.event_format(JournalFormat(format.without_time())).try_init();
    } else {
        let _ = builder.event_format(format).try_init();
    }
    Ok(())
}

fn parse_filter(option: Option<&str>, variable: Option<&str>) -> Result<EnvFilter> {
    let text = option.or(variable.filter(|text| !text.is_empty())).unwrap_or("info");
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| Error::LogFilter { filter: text.to_owned(), reason: error.to_string() })
}

/// Whether stderr is the stream that `JOURNAL_STREAM` names by device and inode (systemd.exec(5)).
fn goes_to_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    fstat(io::stderr())
        .is_ok_and(|found| device.parse() == Ok(found.st_dev) && inode.parse() == Ok(found.st_ino))
}

/// Begins each line with its priority, as sd-daemon(3) describes; journald adds the time.
struct JournalFormat(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// The syslog priority of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn the_journal_gets_the_priority_and_no_time() {
        let lines = Lines::default();
        let format = Format::default().with_target(false).with_ansi(false);
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(parse_filter(Some("debug"), None).unwrap())
            .with_writer(lines.clone())
            .with_ansi(false)
            .event_format(JournalFormat(format.without_time()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(queue = 3, "the ring failed");
            tracing::debug!("detail");
            tracing::trace!("not shown");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "<4> WARN the ring failed queue=3\n<7>DEBUG detail\n");
    }

    #[test]
    fn the_option_comes_before_the_variable() {
        let shown = |option, variable| parse_filter(option, variable).unwrap().to_string();
        assert_eq!(shown(None, None), "info");
        assert_eq!(shown(None, Some("")), "info");
        assert_eq!(shown(None, Some("warn")), "warn");
        assert_eq!(shown(Some("debug"), Some("warn")), "debug");
    }

    #[test]
    fn a_wrong_filter_is_a_usage_error() {
        let error = parse_filter(Some("framework=loud"), None).unwrap_err();
        assert!(error.is_usage());
        assert!(error.to_string().contains("framework=loud"), "{error}");
    }

    #[test]
    fn only_the_stream_itself_is_the_journal() {
        let own = fstat(io::stderr()).unwrap();
        let stream = format!("{}:{}", own.st_dev, own.st_ino);
        assert!(goes_to_journal(Some(&stream)));
        assert!(!goes_to_journal(Some(&format!("{}:{}", own.st_dev, own.st_ino + 1))));
        assert!(!goes_to_journal(Some("nonsense")));
        assert!(!goes_to_journal(None));
    }
}
