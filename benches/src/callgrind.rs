//! Counting instructions with `valgrind --tool=callgrind`.

use std::path::Path;
use std::process::Command;

/// Keeps the C library from filling and copying with one repeated string instruction, of which
/// callgrind counts every iteration, a byte each. Vector instructions do the same, fairly counted.
const NO_REPEATED_INSTRUCTIONS: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.x86_rep_stosb_threshold=1073741824:glibc.cpu.x86_rep_movsb_threshold=1073741824",
);

/// Has a `valgrind` count into a file; the program and its arguments are to follow.
pub(crate) fn prepare(valgrind: &mut Command, counts: &Path) {
    let (variable, value) = NO_REPEATED_INSTRUCTIONS;
    valgrind.env(variable, value);
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counts.display()));
}

/// The instructions of a whole run, from callgrind's output file.
pub(crate) fn total(counts: &str) -> Option<u64> {
    let line = counts.lines().find_map(|line| line.strip_prefix("totals:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_among_the_lines() {
        assert_eq!(total("version: 1\nfn=(1)\n3 4\ntotals: 987654\n"), Some(987_654));
        assert_eq!(total("version: 1\n"), None);
    }
}
