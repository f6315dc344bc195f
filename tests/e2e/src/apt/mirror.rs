//! Which Debian mirror this machine uses, read from its own apt sources.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Overrides the mirror where the machine's sources name none (a derivative of Debian).
const OVERRIDE: &str = "OUTRIGGER_DEBIAN_MIRROR";

/// The URI of the main Debian archive, as the machine's sources name it.
///
/// # Errors
/// When there is none; the message says how to name one.
pub(super) fn uri() -> Result<String> {
    if let Ok(uri) = std::env::var(OVERRIDE) {
        return Ok(uri);
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is_debian = release.lines().any(|line| line.trim() == "ID=debian");
    let found = source_files().iter().find_map(|path| main_archive(path));
    found.filter(|_| is_debian).ok_or_else(|| Error::Missing {
        what: "a Debian mirror in this machine's apt sources".into(),
        how: format!("name one: {OVERRIDE}=URI cargo xtask ..."),
    })
}

fn source_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let mut parts: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
    parts.sort();
    files.extend(parts);
    files
}

fn main_archive(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    match path.extension()?.to_str()? {
        "list" => text.lines().find_map(one_line),
        "sources" => text.split("\n\n").find_map(stanza),
        _ => None,
    }
}

/// `deb [options] URI SUITE COMPONENT...` (sources.list(5)).
fn one_line(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb ")?.trim();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    (is_release(suite) && words.any(|word| word == "main")).then(|| uri.to_owned())
}

/// A deb822 stanza (sources.list(5)).
fn stanza(text: &str) -> Option<String> {
    let field = |name: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let has = |name: &str, word: &str| field(name)?.split_whitespace().find(|one| *one == word);
    has("Types", "deb")?;
    has("Components", "main")?;
    if field("Enabled") == Some("no") {
        return None;
    }
    field("Suites")?.split_whitespace().find(|suite| is_release(suite))?;
    field("URIs")?.split_whitespace().next().map(str::to_owned)
}

/// A release, as against its `-updates`, its `-security` or a flat repository's `./`.
fn is_release(suite: &str) -> bool {
    !suite.contains(['-', '/'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_sources() {
        let plain = "deb http://mirror.example/debian bookworm main contrib";
        assert_eq!(one_line(plain).unwrap(), "http://mirror.example/debian");
        let signed = "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/d sid main";
        assert_eq!(one_line(signed).unwrap(), "http://mirror.example/d");
        assert_eq!(one_line("deb-src http://mirror.example/debian sid main"), None);
        assert_eq!(one_line("deb http://mirror.example/s bookworm-security main"), None);
        assert_eq!(one_line("# deb http://mirror.example/debian sid main"), None);
    }

    #[test]
    fn deb822_sources() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\n\
                    Suites: trixie trixie-updates\nComponents: main\n";
        assert_eq!(stanza(text).unwrap(), "http://mirror.example/debian");
        assert_eq!(stanza(&text.replace("trixie trixie-updates", "trixie-security")), None);
        assert_eq!(stanza(&format!("{text}Enabled: no\n")), None);
        assert_eq!(stanza(&text.replace("main", "contrib")), None);
    }
}
