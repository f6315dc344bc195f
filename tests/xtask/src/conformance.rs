//! `cargo xtask conformance`: the clause index, held against the sources.

use std::path::PathBuf;
use std::process::ExitCode;

use ::conformance::{Index, Report, Sources};
use anyhow::{Context, Result};
use e2e::{target_dir, workspace_dir};

/// Report which clauses of virtio and vhost-user are shown by which tests.
///
/// Fails on a clause with neither test nor reason, on a named test that no longer exists, and on a
/// file or symbol that is gone.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write the whole index as Markdown to this file [default: target/conformance.md]
    #[arg(long, alias = "report", value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = workspace_dir();
    let index = Index::load(&workspace)?;
    let sources = Sources::scan(&workspace)?;
    let report = Report::of(&index, &sources);
    print!("{report}");

    let output = options.output.clone().unwrap_or_else(|| target_dir().join("conformance.md"));
    std::fs::write(&output, report.to_markdown())
        .with_context(|| format!("could not write {}", output.display()))?;
    println!("\nwritten to {}", output.display());
    match report.problems().len() {
        0 => Ok(ExitCode::SUCCESS),
        count => {
            println!("{count} problems");
            Ok(ExitCode::FAILURE)
        }
    }
}
