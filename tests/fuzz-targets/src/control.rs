//! Bytes as lines of the control socket, in pieces of any size.

use arbitrary::Unstructured;
use framework::control::lines::{LINE_MAX, Line, LineBuffer};
use framework::control::protocol::{Command, encode};
use serde::de::IgnoredAny;
use serde_json::Value;

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
    while let Ok(cut) = input.arbitrary::<u8>() {
        let n = usize::from(cut).min(input.len());
        let Ok(piece) = input.bytes(n) else { break };
        if buffer.push(piece, Vec::new(), &mut lines).is_err() || input.is_empty() {
            break;
        }
    }
    for line in lines {
        serve(line);
    }
}

/// What a daemon does with a line.
fn serve(line: Line) {
    assert!(line.text.len() <= LINE_MAX && !line.text.contains(&b'\n'));
    let text = line.text.clone();
    let answer = Command::parse(line).and_then(|command| {
        let whole: Value = serde_json::from_slice(&text).expect("a command is JSON");
        assert_eq!(whole["cmd"], command.name);
        assert!(!command.arguments.contains_key("cmd"));
        // Whatever it is, it is an answer too: members of any kind.
        if command.name.len().is_multiple_of(2) {
            Ok(command.arguments)
        } else {
            command.unknown(&["stats", "resize"])
        }
    });
    let good = answer.is_ok();
    let encoded = encode(answer);
    let (end, body) = encoded.split_last().expect("an answer is not empty");
    assert!(*end == b'\n' && !body.contains(&b'\n'));
    let _: IgnoredAny = serde_json::from_slice(body).expect("an answer is JSON");
    assert!(body.starts_with(if good { b"{\"ok\":true" } else { b"{\"ok\":false" }));
}
