//! Metrics in Prometheus' text format (version 0.0.4).

use std::fmt::{self, Write};

/// How a metric behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up while the process lives; by convention the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// The value of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A count; never rounded.
    Integer(u64),
    /// A measure, such as seconds.
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Real(value) if value.is_nan() => f.write_str("NaN"),
            Self::Real(value) if value.is_infinite() && value > 0.0 => f.write_str("+Inf"),
            Self::Real(value) if value.is_infinite() => f.write_str("-Inf"),
            Self::Real(value) => write!(f, "{value}"),
        }
    }
}

/// One sample: a metric's name, its labels and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// The metric's name: letters, digits, `_` and `:`, no digit first.
    pub name: String,
    /// What it measures; the same in all samples of one name.
    pub help: &'static str,
    /// The same in all samples of one name.
    pub kind: Kind,
    /// What tells this sample from others of its name. Values may hold any text.
    pub labels: Vec<(&'static str, String)>,
    /// The value now.
    pub value: Number,
}

/// Renders metrics. Samples of one name come out together, as the format wants it, under one `HELP` and
/// one `TYPE` line; names keep the order in which they first appear.
#[must_use]
pub fn render(metrics: &[Metric]) -> String {
    let mut text = String::new();
    let mut names: Vec<&str> = Vec::new();
    for metric in metrics {
        if !names.contains(&metric.name.as_str()) {
            names.push(&metric.name);
        }
    }
    for name in names {
        let mut samples = metrics.iter().filter(|metric| metric.name == name).peekable();
        if let Some(first) = samples.peek() {
            render_head(&mut text, first);
        }
        for sample in samples {
            render_sample(&mut text, sample);
        }
    }
    text
}

fn render_head(text: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let name = &metric.name;
    let help = metric.help.replace('\\', r"\\").replace('\n', r"\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn render_sample(text: &mut String, metric: &Metric) {
    text.push_str(&metric.name);
    for (position, (label, value)) in metric.labels.iter().enumerate() {
        text.push(if position == 0 { '{' } else { ',' });
        let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        // Writing to a String cannot fail.
        let _ = write!(text, "{label}=\"{value}\"");
    }
    if !metric.labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {}", metric.value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, labels: Vec<(&'static str, String)>, value: impl Into<Number>) -> Metric {
        Metric {
            name: name.into(),
            help: "Some help.",
            kind: Kind::Counter,
            labels,
            value: value.into(),
        }
    }

    #[test]
    fn samples_of_one_name_come_together_under_one_head() {
        let metrics = [
            sample("kicks_total", vec![("queue", "0".into())], 1),
            sample("calls_total", vec![("queue", "0".into())], 2),
            sample("kicks_total", vec![("queue", "1".into())], 3),
        ];
        assert_eq!(
            render(&metrics),
            "# HELP kicks_total Some help.\n\
             # TYPE kicks_total counter\n\
             kicks_total{queue=\"0\"} 1\n\
             kicks_total{queue=\"1\"} 3\n\
             # HELP calls_total Some help.\n\
             # TYPE calls_total counter\n\
             calls_total{queue=\"0\"} 2\n"
        );
    }

    #[test]
    fn label_values_cannot_break_out() {
        let labels = vec![("device", "a\"b\\c\nd".to_owned()), ("queue", "0".to_owned())];
        let text = render(&[sample("m", labels, 0)]);
        assert!(text.ends_with("m{device=\"a\\\"b\\\\c\\nd\",queue=\"0\"} 0\n"), "{text}");
    }

    #[test]
    fn numbers_are_exact_and_special_ones_are_spelt_as_the_format_wants() {
        for (value, text) in [
            (Number::Integer(u64::MAX), "18446744073709551615"),
            (Number::Real(0.25), "0.25"),
            (Number::Real(f64::NAN), "NaN"),
            (Number::Real(f64::INFINITY), "+Inf"),
            (Number::Real(f64::NEG_INFINITY), "-Inf"),
        ] {
            assert_eq!(value.to_string(), text);
        }
        assert!(render(&[sample("up", vec![], 1)]).ends_with("\nup 1\n"));
    }
}
