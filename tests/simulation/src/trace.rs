//! The story of a run, for people.

use std::fmt;

/// Who does something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    Driver,
    FrontEnd,
    BackEnd,
    Worker(u16),
    World,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Who::Driver => "driver",
            Who::FrontEnd => "front-end",
            Who::BackEnd => "back-end",
            Who::World => "world",
            Who::Worker(number) => return f.pad(&format!("worker {number}")),
        };
        f.pad(name)
    }
}

/// Lines that tell what happens, if anybody wants to know.
#[derive(Debug)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
    step: u32,
}

impl Trace {
    pub(crate) fn new(wanted: bool) -> Self {
        Trace { lines: wanted.then(Vec::new), step: 0 }
    }

    /// The step that is being taken.
    pub(crate) fn step(&self) -> u32 {
        self.step
    }

    /// Whether anybody wants to know.
    pub(crate) fn is_wanted(&self) -> bool {
        self.lines.is_some()
    }

    /// A new step begins.
    pub(crate) fn begin(&mut self, step: u32) {
        self.step = step;
    }

    /// Tells something. What is said is made only if somebody listens.
    pub(crate) fn say(&mut self, who: Who, what: impl FnOnce() -> String) {
        let step = self.step;
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{step:>5}  {who:<10} {}", what()));
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
