//! Somebody at the console of a guest of Outrigger's.

use crate::console::Results;
use crate::error::Result;
use crate::job::Job;
use crate::site::Site;
use crate::vm::VmSetup;

/// What the guest does (`guest/console.sh`), and what its user does (`guest/visit.sh`).
const JOB: &str = "devices; desk";
const SCRIPT: &str = include_str!("../guest/visit.sh");

impl Site {
    /// Boots a guest with a console whose other ports are added while it runs. Somebody logs in on `hvc0`
    /// with `outrigger console`, has something computed, makes the terminal larger, asks the agent on a
    /// port, and leaves; and all of that once more, when the driver was unbound and bound.
    ///
    /// # Errors
    /// At the first thing that goes wrong.
    pub fn play_console(&self, name: &str) -> Result<Results> {
        self.put("visit.sh", SCRIPT.as_bytes())?;
        let setup = VmSetup::new(name, Job::of_shell(JOB))
            .with("--console backend=null,name=con,history=64,max-ports=3");
        let limit = setup.limit;
        let vm = self.boot(&setup)?;
        let visit = format!("exec sh visit.sh {name}.control");
        let mut visitor = self.start(&format!("{name}-visitor"), &visit, limit)?;
        visitor.wait_for("visited")?;
        let mut results = visitor.finish()?;
        results.extend(vm.finish()?);
        Ok(results)
    }
}
