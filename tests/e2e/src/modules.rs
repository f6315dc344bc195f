//! A kernel's modules, and the order in which to load them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::Root;
use crate::error::{Error, Result, output_of};

/// The modules of one kernel: files, and the names of those that are built in.
#[derive(Debug, Clone)]
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    built_in: Vec<String>,
    version: String,
}

impl Modules {
    /// Reads which modules there are in a folder like `/lib/modules`, which holds one kernel's.
    ///
    /// # Errors
    /// When the folder holds no kernel's modules.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let mut kernels = fs::read_dir(folder).map_err(Error::file("list", folder))?.flatten();
        let kernel = kernels.next().ok_or_else(|| Error::Missing {
            what: format!("a kernel's modules in {}", folder.display()),
            how: "delete target/guests and run the command again".into(),
        })?;
        let files = files_below(&kernel.path())?.into_iter();
        let files = files.filter_map(|path| Some((name_of(&path)?, path))).collect();
        let list = kernel.path().join("modules.builtin");
        let list = fs::read_to_string(&list).map_err(Error::file("read", &list))?;
        let built_in = list.lines().filter_map(|line| name_of(Path::new(line))).collect();
        let version = kernel.file_name().to_string_lossy().into_owned();
        Ok(Self { files, built_in, version })
    }

    /// The kernel's version, as `uname -r` prints it.
    #[must_use]
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The wanted modules, each after what it depends on; what is built in needs no loading.
    ///
    /// # Errors
    /// When one is neither a file nor built in, or a file is not a module.
    pub(crate) fn in_order(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for name in wanted {
            self.add(name, &mut order)?;
        }
        Ok(order)
    }

    fn add(&self, name: &str, order: &mut Vec<PathBuf>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.built_in.contains(&name) {
            return Ok(());
        }
        let file = self.files.get(&name).ok_or_else(|| Error::Missing {
            what: format!("the module {name} of kernel {}", self.version),
            how: "its package has changed; name the module that took its place".into(),
        })?;
        if order.contains(file) {
            return Ok(());
        }
        for dependency in dependencies(file)? {
            self.add(&dependency, order)?;
        }
        order.push(file.clone());
        Ok(())
    }
}

/// Replaces the compressed modules below a folder, which newer kernels come with, by plain ones:
/// their dependencies are read here, and a small guest has nothing to uncompress them with.
pub(crate) fn uncompress(folder: &Path, tools: &Root) -> Result<()> {
    let mut files = files_below(folder)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "xz"));
    if files.is_empty() {
        return Ok(());
    }
    output_of(tools.command("usr/bin/xz")?.arg("--decompress").args(files)).map(drop)
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// `virtio_rng` for `.../virtio-rng.ko`: the kernel treats the two dashes alike.
fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".ko")?.replace('-', "_"))
}

/// The modules that one names in its section `.modinfo`, as `depends=a,b`.
fn dependencies(file: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(file).map_err(Error::file("read", file))?;
    let info = section(&bytes, b".modinfo").ok_or_else(|| Error::Module {
        path: file.to_path_buf(),
        detail: "it has no section .modinfo",
    })?;
    let depends = info.split(|byte| *byte == 0).find_map(|item| item.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(depends.unwrap_or_default());
    Ok(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// A section of a little-endian 64-bit ELF file, by name.
fn section<'file>(file: &'file [u8], name: &[u8]) -> Option<&'file [u8]> {
    let headers = number(file, 0x28, 8)?;
    let (size, count) = (number(file, 0x3a, 2)?, number(file, 0x3c, 2)?);
    let header = |index: usize| file.get(headers + index * size..headers + (index + 1) * size);
    let content = |header: &[u8]| {
        let (offset, length) = (number(header, 0x18, 8)?, number(header, 0x20, 8)?);
        file.get(offset..offset.checked_add(length)?)
    };
    let names = content(header(number(file, 0x3e, 2)?)?)?;
    (0..count).filter_map(header).find_map(|header| {
        let start = names.get(number(header, 0, 4)?..)?;
        (start.strip_prefix(name)?.first() == Some(&0)).then(|| content(header))?
    })
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let digits = bytes.get(at..at + length)?;
    Some(digits.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name_of(Path::new("kernel/a/virtio-rng.ko")).unwrap(), "virtio_rng");
        assert_eq!(name_of(Path::new("modules.dep")), None);
    }

    #[test]
    fn sections_of_this_very_program() {
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(section(&program, b".interp").unwrap().starts_with(b"/"));
        assert_eq!(section(&program, b".modinfo"), None);
        assert_eq!(section(b"not an ELF file", b".interp"), None);
    }
}
