//! Screens: what a person sees, and what cannot reach the terminal.

use super::{House, ending};
use crate::harness::{LONG, Terminal};

/// Sequences that the program itself writes: colours, clearing below, moving up.
fn only_our_own_sequences(bytes: &[u8]) {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    for (at, _) in text.match_indices('\x1b') {
        let rest = &text[at + 1..];
        let inside = rest.strip_prefix('[').unwrap_or_else(|| panic!("a foreign sequence: {rest:?}"));
        let end = inside.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap();
        assert!(
            matches!(&inside[..end + 1], "J" | "0m" | "1m" | "2m" | "31m" | "32m" | "33m" | "34m")
                || inside[end..].starts_with('A'),
            "a foreign sequence: {rest:?}"
        );
    }
    let foreign = |c: char| {
        c.is_control() && !"\x1b\r\n\t".contains(c) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(foreign), "{text:?}");
}

#[test]
fn tables_are_for_people() {
    let house = House::open();
    let failed = house.failed();
    let (code, screen) = house.on_terminal(&["list"]).finish();
    assert_eq!(code, Some(0));
    let lines: Vec<_> = screen.lines().collect();
    assert!(lines[0].starts_with("STATUS") && lines[0].contains("REASON"), "{screen}");
    assert!(lines[1].starts_with(&format!("✕ FAILED  …{}", ending(&failed))) && lines[1].contains("ago"), "{screen}");
    for (arguments, words) in [
        (&["get", failed.as_str()][..], "✕ FAILED"),
        (&["queues"], "EMPTIES IN"),
        (&["workers"], "alive"),
        (&["types"], "vector_data [duration]"),
        (&["types", "web_scrape"], "4 attempts"),
        (&["logs", failed.as_str()], "INFO    GET "),
        (&["get", failed.as_str(), "--json"], "\"status\":\"FAILED\""),
        (&["retry", failed.as_str()], failed.as_str()),
        (&["completions", "bash"], "complete"),
        (&["list", "--status", "running", "--type", "nothing"], "No task matches."),
    ] {
        let (code, screen) = house.on_terminal(arguments).finish();
        assert_eq!(code, Some(0), "{arguments:?}: {screen}");
        assert!(screen.contains(words), "{arguments:?}: {screen}");
    }
}

#[test]
fn a_bar_moves_and_stays_as_a_summary() {
    let house = House::open();
    let mut terminal = house.on_terminal(&["submit", "test_sleep", "ms=3000", "steps=30", "--follow"]);
    terminal.shows("◐ RUNNING");
    terminal.shows("step 3 of 30");
    terminal.shows("/30");
    terminal.shows("█");
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(0));
    let steps: Vec<_> = screen.lines().filter(|line| line.contains(" INFO    step ")).collect();
    assert_eq!(steps.len(), 30, "log lines scroll above the bar: {screen}");
    let bars: Vec<_> = screen.lines().filter(|line| line.contains('█')).collect();
    assert!(bars.len() == 1 && bars[0].contains("✓ SUCCESS") && bars[0].contains("100%  30/30"), "{screen}");
    assert!(screen.contains("result: app get "), "{screen}");
}

#[test]
fn terminals_that_can_do_less() {
    let house = House::open();
    let id = house.failed();
    let follow = |settings: &[(&str, &str)], more: &[&str]| {
        let mut all = vec![("APP_URL", house.url.as_str())];
        all.extend(settings);
        let arguments: Vec<_> = ["follow", &id].iter().chain(more).copied().collect();
        let mut terminal = Terminal::start(&arguments, &all);
        assert_eq!(terminal.finish().0, Some(3));
        String::from_utf8(terminal.bytes()).unwrap()
    };
    let dumb = follow(&[("TERM", "dumb")], &[]);
    assert!(!dumb.contains('\x1b') && dumb.contains(" final FAILED"), "no bars, no colours: {dumb:?}");
    let plain = follow(&[("NO_COLOR", "1")], &[]);
    assert!(!plain.contains("\x1b[3") && plain.contains("\x1b[J"), "bars without colours: {plain:?}");
    assert!(!follow(&[], &["--color", "never"]).contains("\x1b[3"));
    assert!(follow(&[("NO_COLOR", "1")], &["--color", "always"]).contains("\x1b[31m"));
    let ascii = follow(&[("LANG", "C")], &[]);
    assert!(ascii.is_ascii() && ascii.contains("x FAILED"), "{ascii:?}");
    let utc = follow(&[("TZ", "Asia/Tokyo"), ("TERM", "dumb")], &["--utc"]);
    let hour = |text: &str| text.lines().next().unwrap()[..2].parse::<u32>().unwrap();
    let tokyo = follow(&[("TZ", "Asia/Tokyo"), ("TERM", "dumb")], &[]);
    assert_eq!((hour(&utc) + 9) % 24, hour(&tokyo), "{utc:?} {tokyo:?}");
}

#[test]
fn what_a_task_says_cannot_drive_the_terminal() {
    let house = House::with_hostile_types();
    let id = house.submit(&["hostile"]);
    house.api.wait_status(&id, "FAILED", LONG);
    for arguments in [
        &["follow", id.as_str()][..],
        &["logs", &id],
        &["get", &id],
        &["list"],
        &["get", &id, "--json"],
        &["logs", &id, "--json"],
    ] {
        for settings in [&[][..], &[("LANG", "C")], &[("TERM", "dumb")]] {
            let mut all = vec![("APP_URL", house.url.as_str())];
            all.extend(settings);
            let mut terminal = Terminal::start(arguments, &all);
            let (code, screen) = terminal.finish();
            assert!(matches!(code, Some(0 | 3)) && screen.contains("red"), "{screen}");
            only_our_own_sequences(&terminal.bytes());
        }
    }
    let done = house.run(&["logs", &id]);
    assert_eq!(done.stdout.lines().count(), house.api.logs(&id).len(), "a line is a line: {}", done.stdout);
    assert!(done.stdout.contains("red ␛]0;title␇␛[2J␛[H [U+202E]gnp.exe  two␊lines␍one"), "{}", done.stdout);
    let body = house.api.fetch(&format!("/tasks/{id}")).expect(200).body;
    assert_eq!(house.run(&["get", &id, "--json"]).stdout.trim_end().as_bytes(), body, "a pipe gets the body as it is");
}
