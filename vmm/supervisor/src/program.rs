//! Where a daemon's program is.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::error::{Error, Result};

/// The program of this name: a path as it is, else beside our own program, else in `$PATH`.
///
/// # Errors
/// [`Error::Program`] if there is none.
pub fn find(name: &str) -> Result<PathBuf> {
    let ours = env::current_exe().ok();
    let beside = ours.as_deref().and_then(Path::parent);
    find_in(name, beside, env::var_os("PATH").as_deref())
}

fn find_in(name: &str, beside: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![name.into()]
    } else {
        let path = path.into_iter().flat_map(env::split_paths);
        beside.map(Path::to_owned).into_iter().chain(path).map(|folder| folder.join(name)).collect()
    };
    let runs = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    candidates.into_iter().find(runs).ok_or_else(|| Error::Program { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_us_comes_before_the_path() {
        let path = OsStr::new("/no/such:/bin");
        assert_eq!(find_in("sh", None, Some(path)).unwrap(), Path::new("/bin/sh"));
        assert_eq!(
            find_in("sh", Some("/usr/bin".as_ref()), None).unwrap(),
            Path::new("/usr/bin/sh")
        );
        assert_eq!(find_in("/bin/sh", None, None).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn what_does_not_run_is_not_a_program() {
        for name in ["no-such-program", "/etc/passwd", "/etc"] {
            let error = find_in(name, None, Some("/bin".as_ref())).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
