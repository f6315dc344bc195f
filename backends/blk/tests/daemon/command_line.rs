//! The command line: exit status 2 for its mistakes and 1 for everything else, each in words.

use std::fs::File;

use crate::process::{Daemon, Driver, complaint, run};

#[test]
fn a_wrong_command_line_is_exit_status_2() {
    for arguments in [
        &[][..],
        &["--blk-file=disk.img", "--cache=sometimes"],
        &["--null=1G", "--queue-size=100"],
        &["--null=1G", "--serial=012345678901234567890"],
        &["--null=1G"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", complaint(&output));
    }
}

#[test]
fn an_image_that_cannot_be_served_is_exit_status_1() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("--socket-path={}", directory.path().join("s").display());
    let (empty, odd) = (directory.path().join("empty"), directory.path().join("odd"));
    File::create(&empty).unwrap();
    File::create(&odd).unwrap().set_len(1000).unwrap();
    for (path, words) in [
        (directory.path().join("missing"), "no image"),
        (directory.path().to_owned(), "is a directory"),
        (empty, "is empty"),
        (odd, "not a multiple of its block size of 512"),
    ] {
        let output = run(&[&socket, "--blk-file", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let text = complaint(&output);
        assert!(text.contains(words) && text.contains("outrigger-blk: error:"), "{text}");
    }
}

#[test]
fn sockets_that_cannot_be_had_are_explained() {
    let daemon = Daemon::start(["--null=1M"]);
    drop(Driver::connect(&daemon.socket()));
    let in_use = format!("--socket-path={}", daemon.socket().display());
    let output = run(&["--null=1M", &in_use]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("in use"), "{}", complaint(&output));
    let too_long = format!("--socket-path=/tmp/{}", "x".repeat(120));
    let output = run(&["--null=1M", &too_long]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("107"), "{}", complaint(&output));
}

#[test]
fn capabilities_are_those_of_the_conventions() {
    let output = run(&["--print-capabilities"]);
    assert_eq!(output.status.code(), Some(0));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value, serde_json::json!({"type": "block", "features": ["read-only", "blk-file"]}));
}
