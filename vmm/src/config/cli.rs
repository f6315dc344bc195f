//! The arguments of `outrigger run`. The doc comments of the fields are the help text.

use std::path::{Path, PathBuf};

use clap::Args;

use super::settings::Settings;
use super::{Config, Error};

// No doc comment: clap would show it as the command's description.
#[expect(missing_docs, reason = "a doc comment here would replace the command's own description")]
#[derive(Debug, Args)]
pub struct Run {
    /// Take the settings from this TOML file too
    ///
    /// It has the same names, such as `kernel = "vmlinuz"` and `[[disk]]` tables. A flag replaces what the
    /// file says, or comes after it where there may be several.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the machine as such a file, with all that was not said filled in, and do nothing else
    #[arg(long)]
    pub dry_run: bool,

    #[expect(missing_docs, reason = "each of them has its own help text")]
    #[command(flatten)]
    pub settings: Settings,
}

impl Run {
    /// Puts the file and the flags together, and checks them.
    ///
    /// # Errors
    /// [`Error`]: what does not fit, and what would.
    pub fn resolve(&self) -> Result<Config, Error> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        Config::new(file.overridden_by(self.settings.clone()))
    }
}

/// Reads a settings file.
fn read(path: &Path) -> Result<Settings, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })
}
