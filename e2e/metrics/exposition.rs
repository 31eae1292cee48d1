//! Exposition: what `/metrics` answers, read as strictly as `promtool check metrics` reads it.
//!
//! The rules are those of the [text format](https://prometheus.io/docs/instrumenting/exposition_formats/) 0.0.4 and of
//! the [naming guide](https://prometheus.io/docs/practices/naming/). Whatever breaks one is a panic that names the line.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::harness::Client;

/// Units that are not base units, and words that say what the type says.
const BAD_WORDS: [&str; 12] = [
    "milliseconds",
    "ms",
    "minutes",
    "hours",
    "days",
    "kilobytes",
    "megabytes",
    "percent",
    "gauge",
    "counter",
    "histogram",
    "summary",
];

/// The metrics of a process at one moment.
pub struct Exposition {
    /// By family: its type and its series.
    families: BTreeMap<String, (String, Vec<Sample>)>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Exposition {
    /// Asks for them and reads them.
    #[track_caller]
    pub fn of(client: &Client) -> Self {
        let answer = client.fetch("/metrics").expect(200);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::read(std::str::from_utf8(&answer.body).expect("UTF-8"))
    }

    /// Reads a text.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut families: BTreeMap<String, (String, Vec<Sample>)> = BTreeMap::new();
        let (mut helped, mut current): (Option<String>, Option<String>) = (None, None);
        let mut series = HashSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(help.len() > 3 && !help.starts_with(' '), "no help: {line}");
                assert!(!families.contains_key(name), "{name} comes twice");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert_eq!(helped.as_deref(), Some(name), "TYPE without HELP: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
                current = Some(name.to_owned());
            } else {
                let sample = sample(line);
                let name = current.as_deref().unwrap_or_else(|| panic!("no TYPE before {line}"));
                let (kind, samples) = families.get_mut(name).unwrap();
                let suffix = sample.name.strip_prefix(name).unwrap_or_else(|| panic!("{line} is not of {name}"));
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line} is not of the {kind} {name}");
                assert!(series.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
                samples.push(sample);
            }
        }
        let exposition = Self { families };
        exposition.families.iter().for_each(|(name, (kind, samples))| lint(name, kind, samples));
        exposition
    }

    /// The names that an expression may use.
    pub fn names(&self) -> BTreeSet<String> {
        self.families.values().flat_map(|(_, samples)| samples).map(|sample| sample.name.clone()).collect()
    }

    /// The names of the families, with their types.
    pub fn families(&self) -> BTreeMap<String, String> {
        self.families.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect()
    }

    /// The names of a family's labels, `le` left out.
    pub fn labels(&self, family: &str) -> BTreeSet<String> {
        let samples = self.families.get(family).into_iter().flat_map(|(_, samples)| samples);
        samples.flat_map(|sample| sample.labels.keys().filter(|name| *name != "le").cloned()).collect()
    }

    /// The value of one series; its labels as `queue="default"`, joined by commas, in any order.
    pub fn value(&self, name: &str, labels: &str) -> Option<f64> {
        let wanted: BTreeMap<String, String> = pairs(labels).into_iter().collect();
        let all = self.families.values().flat_map(|(_, samples)| samples);
        all.filter(|sample| sample.name == name && sample.labels == wanted).map(|sample| sample.value).next()
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no sample: {line:?}"));
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ").unwrap_or_else(|| panic!("no value: {line}")),
        None => ("", &rest[1..]),
    };
    let labels: Vec<_> = pairs(labels);
    let number = labels.len();
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    assert_eq!(labels.len(), number, "a label comes twice: {line}");
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    Sample { name: name.to_owned(), labels, value }
}

/// `a="b",c="d"`, with `\\`, `\"` and `\n` in the values.
fn pairs(mut text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("no label: {text}"));
        assert!(is_name(name) && !name.contains(':') && !name.starts_with("__"), "no label: {text}");
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next().unwrap_or_else(|| panic!("no end: {text}")) {
                (at, '"') => break at,
                (_, '\\') => match letters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, letter @ ('\\' | '"'))) => value.push(letter),
                    other => panic!("no escape: {other:?} in {text}"),
                },
                (_, letter) => value.push(letter),
            }
        };
        pairs.push((name.to_owned(), value));
        text = &rest[end + 1..];
        if let Some(more) = text.strip_prefix(',') {
            assert!(!more.is_empty(), "nothing follows the comma");
            text = more;
        } else {
            assert!(text.is_empty(), "no comma before {text}");
        }
    }
    pairs
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn lint(name: &str, kind: &str, samples: &[Sample]) {
    assert!(name.starts_with("longrun_") || name.starts_with("process_"), "{name} has no prefix of ours");
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
    assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    assert!(!["_count", "_sum", "_bucket"].iter().any(|suffix| name.ends_with(suffix)), "{name}");
    assert!(!name.split('_').any(|word| BAD_WORDS.contains(&word)), "{name} has a word that it should not have");
    assert!(!samples.is_empty(), "{name} has no series");
    let labels = |sample: &Sample| sample.labels.keys().filter(|name| *name != "le").cloned().collect::<Vec<_>>();
    assert!(samples.iter().all(|sample| labels(sample) == labels(&samples[0])), "{name} has mixed labels");
    if kind == "counter" {
        assert!(samples.iter().all(|sample| sample.value >= 0.0), "{name} has fallen");
    }
    if kind == "histogram" {
        assert!(name.ends_with("_seconds"), "{name} has no unit");
        lint_histogram(name, samples);
    }
}

/// Every series of a histogram has rising buckets up to `+Inf`, which counts what `_count` does.
fn lint_histogram(name: &str, samples: &[Sample]) {
    let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le").unwrap_or_else(|| panic!("a bucket of {name} has no bound"));
        let bound = bound.replace("+Inf", "inf").parse().unwrap();
        buckets.entry(labels).or_default().push((bound, sample.value));
    }
    for (labels, of_series) in &buckets {
        assert!(of_series.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1), "{name}: {of_series:?}");
        let last = of_series.last().unwrap();
        let count = samples.iter().find(|sample| sample.name.ends_with("_count") && sample.labels == *labels);
        assert_eq!((last.0, Some(last.1)), (f64::INFINITY, count.map(|count| count.value)), "{name} {labels:?}");
        assert!(samples.iter().any(|sample| sample.name.ends_with("_sum") && sample.labels == *labels), "{name}");
    }
}

#[test]
fn what_promtool_would_complain_about_is_noticed() {
    let good = "# HELP longrun_a_total Things.\n# TYPE longrun_a_total counter\nlongrun_a_total{b=\"c\\\"d\"} 1\n";
    assert_eq!(Exposition::read(good).value("longrun_a_total", "b=\"c\\\"d\""), Some(1.0));
    for (from, to) in [
        ("# HELP longrun_a_total Things.\n", ""),
        ("counter", "gauge"),
        ("longrun_a_total", "longrun_a"),
        ("longrun_a_total", "longrun_a_ms_total"),
        ("longrun_a_total{b=\"c\\\"d\"} 1\n", ""),
        ("longrun_a_total{b=\"c\\\"d\"} 1\n", "longrun_a_total 1\nlongrun_a_total 1\n"),
        ("longrun_a_total{b=\"c\\\"d\"} 1\n", "longrun_a_total{b=\"c\"} 1\nlongrun_a_total 1\n"),
        ("b=\"c", "b=c"),
        (" 1\n", " one\n"),
        (" 1\n", " 1"),
    ] {
        let bad = good.replace(from, to);
        assert!(std::panic::catch_unwind(|| Exposition::read(&bad)).is_err(), "{bad}");
    }
}
