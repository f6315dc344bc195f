//! Following a target's modules from file to file, and collecting its tests on the way.
//!
//! It reads lines as rustfmt lays them out, which is all that this project's sources need: a module
//! declared by `mod name;`, with `#[path]` or without; an inline module from `mod name {` to the
//! brace that closes it in the same column; a test by its attribute on a line of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::sources::read;

/// A walk over one target's modules.
pub(crate) struct Walk<'a> {
    tests: &'a mut BTreeSet<String>,
}

/// A file on the way.
struct File {
    /// The folder that the file is in.
    folder: PathBuf,
    /// The folder of modules declared in it.
    children: PathBuf,
    /// Package, program, and modules down to here.
    path: Vec<String>,
}

/// Attributes that stand before an item.
#[derive(Default)]
struct Attributes {
    test: bool,
    ignored: bool,
    path: Option<String>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(tests: &'a mut BTreeSet<String>) -> Self {
        Walk { tests }
    }

    /// Walks from a target's root file; names of its tests begin with `prefix`.
    pub(crate) fn root(&mut self, root: &Path, prefix: &[&str]) -> Result<()> {
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        let path = prefix.iter().map(|part| (*part).to_owned()).collect();
        self.file(root, &File { children: folder.clone(), folder, path })
    }

    fn file(&mut self, file: &Path, at: &File) -> Result<()> {
        let mut attributes = Attributes::default();
        // Inline modules around the current line, with the columns of their closing braces.
        let mut inline: Vec<(usize, String)> = Vec::new();
        for line in read(file)?.lines() {
            let (code, column) = (line.trim(), line.len() - line.trim_start().len());
            if code == "}" && inline.last().is_some_and(|(begins, _)| *begins == column) {
                inline.pop();
            }
            if attributes.take_in(code) {
                continue;
            }
            let found = std::mem::take(&mut attributes);
            if let Some(name) = inline_module(code) {
                inline.push((column, name.to_owned()));
            } else if let Some(name) = module(code) {
                self.module(at, &inline, name, found.path)?;
            } else if found.test
                && !found.ignored
                && let Some(name) = function(code)
            {
                let mut path = at.path.clone();
                path.extend(inline.iter().map(|(_, module)| module.clone()));
                path.push(name.to_owned());
                self.tests.insert(path.join("::"));
            }
        }
        Ok(())
    }

    /// Goes on in the file of a module.
    fn module(
        &mut self,
        at: &File,
        inline: &[(usize, String)],
        name: &str,
        path: Option<String>,
    ) -> Result<()> {
        let within = |folder: &Path| {
            inline.iter().fold(folder.to_owned(), |folder, (_, module)| folder.join(module))
        };
        let folder = within(&at.children);
        let beside = folder.join(format!("{name}.rs"));
        let below = folder.join(name).join("mod.rs");
        let (file, children) = match path {
            Some(path) => {
                let file = if inline.is_empty() { at.folder.join(path) } else { folder.join(path) };
                let children = file.parent().unwrap_or(Path::new("")).to_owned();
                (file, children)
            }
            None if beside.is_file() => (beside, folder.join(name)),
            None => (below, folder.join(name)),
        };
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let mut path = at.path.clone();
        path.extend(inline.iter().map(|(_, module)| module.clone()));
        path.push(name.to_owned());
        self.file(&file, &File { folder, children, path })
    }
}

impl Attributes {
    /// Takes note of an attribute or a comment. False: the line is neither.
    fn take_in(&mut self, code: &str) -> bool {
        self.test |= code == "#[test]";
        self.ignored |= code.starts_with("#[ignore");
        if let Some(path) = code.strip_prefix("#[path = \"") {
            self.path = path.strip_suffix("\"]").map(str::to_owned);
        }
        code.starts_with("#[") || code.starts_with("//")
    }
}

/// The name that follows `keyword`, whatever the visibility before it, and what comes after it.
fn named<'c>(code: &'c str, keyword: &str) -> Option<(&'c str, &'c str)> {
    let code = code.strip_prefix("pub(crate) ").or(code.strip_prefix("pub ")).unwrap_or(code);
    let rest = code.strip_prefix(keyword)?.strip_prefix(' ')?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    rest.split_at_checked(end)
}

fn module(code: &str) -> Option<&str> {
    named(code, "mod").filter(|(_, rest)| *rest == ";").map(|(name, _)| name)
}

fn inline_module(code: &str) -> Option<&str> {
    named(code, "mod").filter(|(_, rest)| *rest == " {").map(|(name, _)| name)
}

fn function(code: &str) -> Option<&str> {
    named(code, "fn").filter(|(_, rest)| rest.starts_with('(')).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Writes files, and walks from the first.
    fn walk(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut tests = BTreeSet::new();
        let root = folder.path().join(files.first().unwrap().0);
        Walk::new(&mut tests).root(&root, &["package"]).unwrap();
        tests.into_iter().collect()
    }

    #[test]
    fn modules_are_followed_wherever_they_stand() {
        let tests = walk(&[
            (
                "src/lib.rs",
                "mod a;\npub(crate) mod b;\n#[cfg(test)]\n#[path = \"c_test.rs\"]\nmod tests;",
            ),
            ("src/a.rs", "mod deep;\n"),
            ("src/a/deep.rs", "#[test]\nfn in_a() {\n}\n"),
            ("src/b/mod.rs", "mod deep;\n"),
            ("src/b/deep.rs", "#[test]\n#[should_panic]\nfn in_b() {\n}\n"),
            ("src/c_test.rs", "#[test]\nfn in_c() {\n}\n"),
            ("src/orphan.rs", "#[test]\nfn nowhere() {\n}\n"),
        ]);
        let expected = ["package::a::deep::in_a", "package::b::deep::in_b", "package::tests::in_c"];
        assert_eq!(tests, expected);
    }

    #[test]
    fn inline_modules_end_where_they_end() {
        let text = "#[test]\nfn one() {}\nmod tests {\n    proptest! {\n        #[test]\n        \
                    fn two(x: u8) {\n        }\n    }\n}\n#[test]\nfn three() {}\n";
        let tests = walk(&[("lib.rs", text)]);
        assert_eq!(tests, ["package::one", "package::tests::two", "package::three"]);
    }

    #[test]
    fn ignored_tests_and_other_functions_show_nothing() {
        let text = "#[test]\n#[ignore = \"slow\"]\nfn ignored() {}\nfn other() {}\n";
        assert!(walk(&[("lib.rs", text)]).is_empty());
    }
}
