//! Commands and answers of the control socket.

use std::os::fd::OwnedFd;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::lines::Line;

/// A command: an object with the name in `cmd` and its arguments beside it.
#[derive(Debug)]
pub struct Command {
    /// What to do.
    pub name: String,
    /// All members of the object but `cmd`.
    pub arguments: Map<String, Value>,
    /// What came with the line (`SCM_RIGHTS`), for commands that open something. Closed if not taken.
    pub fds: Vec<OwnedFd>,
}

/// What a command led to: the members of the answer beside `"ok":true`, or a text for `error` that says
/// what went wrong and what to do.
pub type Answer = Result<Map<String, Value>, String>;

impl Command {
    /// Reads a command from a line.
    ///
    /// # Errors
    /// The text of the answer, if the line is none.
    pub fn parse(line: Line) -> Result<Self, String> {
        const SHAPE: &str = r#"send one JSON object a line, such as {"cmd":"stats"}"#;
        let value: Value = serde_json::from_slice(&line.text)
            .map_err(|error| format!("this is not JSON ({error}): {SHAPE}"))?;
        let Value::Object(mut arguments) = value else {
            return Err(format!("this is not an object: {SHAPE}"));
        };
        match arguments.remove("cmd") {
            Some(Value::String(name)) => Ok(Self { name, arguments, fds: line.fds }),
            Some(_) => Err(format!("\"cmd\" is not a string: {SHAPE}")),
            None => Err(format!("\"cmd\" is missing: {SHAPE}")),
        }
    }

    /// The arguments as a struct of the command's own; with `#[serde(deny_unknown_fields)]` it says which
    /// argument is unknown.
    ///
    /// # Errors
    /// The text of the answer, if they do not fit.
    pub fn arguments_as<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.arguments.clone()))
            .map_err(|error| format!("the arguments of {:?} are wrong: {error}", self.name))
    }

    /// The answer to a command that nobody knows.
    ///
    /// # Errors
    /// Always: the text names the commands that are known.
    pub fn unknown(&self, known: &[&str]) -> Answer {
        let mut known = known.to_vec();
        known.sort_unstable();
        Err(format!("there is no command {:?}: known are {}", self.name, known.join(", ")))
    }
}

/// The line that answers a command; `ok` comes first.
#[must_use]
pub fn encode(answer: Answer) -> Vec<u8> {
    let line = match answer {
        Ok(mut members) => {
            members.remove("ok");
            serde_json::to_vec(&Success { ok: true, members })
        }
        Err(error) => serde_json::to_vec(&Failure { ok: false, error }),
    };
    // Strings and JSON values always serialise; newlines in them are escaped, so this is one line.
    let mut line = line.unwrap_or_default();
    line.push(b'\n');
    line
}

#[derive(Serialize)]
struct Success {
    ok: bool,
    #[serde(flatten)]
    members: Map<String, Value>,
}

#[derive(Serialize)]
struct Failure {
    ok: bool,
    error: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Command, String> {
        Command::parse(Line { text: text.into(), fds: vec![] })
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Rate {
        queue: u16,
        iops: Option<u64>,
    }

    #[test]
    fn a_command_has_a_name_and_arguments() {
        let command = parse(r#"{"cmd":"rate","queue":1}"#).unwrap();
        assert_eq!(command.name, "rate");
        assert_eq!(command.arguments_as::<Rate>(), Ok(Rate { queue: 1, iops: None }));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (text, complaint) in [
            ("stats", "not JSON"),
            ("\"stats\"", "not an object"),
            ("{}", "\"cmd\" is missing"),
            (r#"{"cmd":7}"#, "\"cmd\" is not a string"),
            ("\u{0}", "not JSON"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(complaint) && error.contains(r#"{"cmd":"stats"}"#), "{error}");
        }
        let deep = "[".repeat(10_000);
        assert!(parse(&deep).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let error = |text: &str| parse(text).unwrap().arguments_as::<Rate>().unwrap_err();
        assert!(error(r#"{"cmd":"rate"}"#).contains("missing field `queue`"));
        assert!(error(r#"{"cmd":"rate","queue":-1}"#).contains("arguments of \"rate\""));
        assert!(error(r#"{"cmd":"rate","queue":1,"iop":1}"#).contains("unknown field `iop`"));
    }

    #[test]
    fn an_unknown_command_lists_the_known_ones() {
        let error = parse(r#"{"cmd":"resise"}"#).unwrap().unknown(&["stats", "resize"]);
        assert_eq!(error.unwrap_err(), "there is no command \"resise\": known are resize, stats");
    }

    #[test]
    fn an_answer_is_one_line_that_begins_with_ok() {
        let good = Map::from_iter([("size".to_owned(), json!(512)), ("ok".to_owned(), json!(3))]);
        let line = String::from_utf8(encode(Ok(good))).unwrap();
        assert!(line.starts_with(r#"{"ok":true,"#) && line.ends_with("}\n"));
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json!({"ok": true, "size": 512}));
        let line = encode(Err("two\nlines".into()));
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }

    proptest! {
        #[test]
        fn any_line_is_judged_without_a_panic(text: Vec<u8>, name in ".*") {
            let _ = Command::parse(Line { text, fds: vec![] });
            let line = json!({"cmd": name}).to_string();
            prop_assert_eq!(parse(&line).unwrap().name, name);
        }
    }
}
