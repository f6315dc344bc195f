//! Mistakes on the command line, and what is said of them.

use crate::process::{Daemon, run};

#[test]
fn mistakes_say_what_to_do() {
    for (arguments, complaint) in [
        (&["--port", "name=a"][..], "backend= is missing"),
        (&["--port", "backend=serial"], "is no back end"),
        (&["--port", "name=a b,backend=null"], "is no name for a port"),
        (&["--port", "name=a,backend=null", "--port", "name=a,backend=null"], "already"),
        (&["--port", "backend=stdio", "--port", "backend=stdio"], "only one port"),
        (&["--max-ports=1", "--port", "backend=null", "--port", "backend=null"], "--max-ports"),
        (&["--max-ports=32"], "1..=31"),
        (&["--port", "backend=tcp:host"], "no address"),
        (&["--port", "backend=tcp:0.0.0.0:0"], "remote=on"),
        (&["--port", "backend=tcp:192.0.2.1:0"], "remote=on"),
        (&["--port", "backend=unix:/a,readers=2,overflow=block"], "overflow=block"),
        (&["--port", "backend=file:/no/such/place"], "cannot open"),
    ] {
        let output = run(&[&["--socket-path=/tmp/never-made.sock"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(complaint), "{arguments:?}: {text}");
    }
}

#[test]
fn capabilities_are_printed() {
    let output = run(&["--print-capabilities"]);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains(r#""type": "console""#)
            || String::from_utf8_lossy(&output.stdout).contains(r#""type":"console""#)
    );
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_no_files() {
    let daemon = Daemon::start(&["--port=backend=pty:@/link", "--port=backend=unix:@/b.sock"]);
    daemon.connect("console.sock");
    assert!(daemon.path("link").is_symlink());
    let link = daemon.path("link");
    assert_eq!(daemon.terminate(), Some(0));
    assert!(!link.is_symlink());
}
