//! Expression: the names of metrics in PromQL, without understanding the rest of it.

use std::collections::BTreeSet;

/// Words of the language that stand where a name could.
const WORDS: [&str; 12] =
    ["and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "inf"];

/// The names of the metrics in an expression.
pub fn metrics_in(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = expression;
    let mut grouping = false;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if first == '{' || first == '[' {
            rest = after(rest, if first == '{' { '}' } else { ']' });
        } else if first == '(' && std::mem::take(&mut grouping) {
            rest = after(rest, ')');
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let word = &rest[..end];
            rest = rest[end..].trim_start();
            grouping = ["by", "without", "on", "ignoring", "group_left", "group_right"].contains(&word);
            if !WORDS.contains(&word) && !rest.starts_with('(') && !is_aggregation(word, rest) {
                names.insert(word.to_owned());
            }
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    names
}

/// `sum by (queue) (…)`: the word before the grouping.
fn is_aggregation(word: &str, rest: &str) -> bool {
    ["sum", "max", "min", "avg", "count"].contains(&word) && (rest.starts_with("by") || rest.starts_with("without"))
}

/// What follows the closing sign; signs within quotes do not close.
fn after(text: &str, closing: char) -> &str {
    let mut quoted = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            _ if letter == closing && !quoted => return &text[at + 1..],
            _ => {}
        }
    }
    panic!("{closing} is missing in {text}")
}

#[test]
fn names_are_found_among_everything_else() {
    let found = |expression| metrics_in(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(found("max by (queue) (a_b{c=\"x}y\"}) > 0 and on (queue) d == 5e3"), ["a_b", "d"]);
    assert_eq!(found("histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m]))) / 1.5"), ["a_bucket"]);
    assert_eq!(found("sum(increase(a_total{b=~\"x|y\"}[$__rate_interval])) or up"), ["a_total", "up"]);
}
