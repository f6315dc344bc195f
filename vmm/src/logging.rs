//! The log: one line a message on stderr.

use std::{env, io, io::IsTerminal};

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// A filter that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log {filter}: {reason}; say error, warn, info, debug or trace, or a filter such as info,outrigger=debug"
)]
pub struct FilterError {
    filter: String,
    reason: String,
}

/// Starts logging by this filter, else by `RUST_LOG`, else from `info` up.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start(filter: Option<&str>) -> Result<(), FilterError> {
    let filter = parse(filter, env::var("RUST_LOG").ok().as_deref())?;
    let terminal = io::stderr().is_terminal();
    let colours = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().with_target(false).with_ansi(colours).with_writer(io::stderr);
    // A second start changes nothing: the first log goes on.
    let _ = registry().with(lines.with_filter(filter)).try_init();
    Ok(())
}

fn parse(option: Option<&str>, variable: Option<&str>) -> Result<Targets, FilterError> {
    match option.or(variable.filter(|text| !text.is_empty())) {
        None => Ok(Targets::new().with_default(LevelFilter::from_level(Level::INFO))),
        Some(text) => text.parse().map_err(|error: tracing_subscriber::filter::ParseError| {
            FilterError { filter: text.to_owned(), reason: error.to_string() }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_comes_before_the_variable() {
        let debugs = |option, variable| {
            let filter = parse(option, variable).unwrap();
            filter.would_enable("outrigger::run", &Level::DEBUG)
        };
        assert!(debugs(Some("info,outrigger=debug"), Some("warn")));
        assert!(debugs(None, Some("debug")));
        assert!(!debugs(None, Some("")) && !debugs(None, None));
        assert!(parse(Some("loud=x"), None).unwrap_err().to_string().contains("--log loud"));
    }
}
