//! The house rules that a program can check.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use e2e::workspace_dir;

/// A file holds one idea and is read in one sitting.
const MOST_LINES: usize = 600;
/// Names that say nothing of what is inside.
const VAGUE: [&str; 8] =
    ["utils", "util", "common", "helpers", "helper", "misc", "shared", "stuff"];

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter_map(|path| {
        let lines = read(&path).lines().count();
        (lines > MOST_LINES).then(|| format!("{} has {lines} lines", path.display()))
    });
    none(long, &format!("files have at most {MOST_LINES} lines; split along an idea"));
}

#[test]
fn modules_are_named_for_what_they_hold() {
    let vague = sources().into_iter().filter(|path| {
        let parts = path.iter().filter_map(|part| part.to_str());
        parts.map(|part| part.trim_end_matches(".rs")).any(|part| VAGUE.contains(&part))
    });
    none(vague.map(|path| path.display().to_string()), "a module is named for what it holds");
}

#[test]
fn lints_are_expected_with_a_reason() {
    let bare = sources().into_iter().flat_map(|path| {
        let text = read(&path);
        let lines = text.lines().enumerate().filter(|(_, line)| {
            ["#[allow(", "#![allow("].iter().any(|attribute| line.trim().starts_with(attribute))
        });
        lines.map(|(number, _)| format!("{}:{}", path.display(), number + 1)).collect::<Vec<_>>()
    });
    none(bare, "use #[expect(..., reason = \"...\")], which says when it is no longer needed");
}

fn none(found: impl Iterator<Item = String>, rule: &str) {
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// The Rust files of the workspace, by their paths in it.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(Path::new(""), &mut files);
    assert!(files.len() > 10, "this test does not find the sources");
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(workspace_dir().join(folder)).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (name, path) = (entry.file_name(), folder.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            let made = name == "target" || name.to_string_lossy().starts_with('.');
            if !made {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(workspace_dir().join(path)).unwrap()
}
