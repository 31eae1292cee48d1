//! Cancel and retry: by id, by filter, asked or not.

use super::{House, ending};
use crate::harness::LONG;

#[test]
fn a_filter_is_counted_before_anything_happens() {
    let house = House::open();
    let failed: Vec<String> = (0..3).map(|_| house.failed()).collect();
    let done = house.run(&["retry", "--status", "failed", "--type", "web_scrape", "--dry-run"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "3\n"));
    let done = house.run(&["retry", "--status", "failed"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(done.stderr.contains("3 tasks") && done.stderr.contains("--yes"), "{}", done.stderr);
    assert!(failed.iter().all(|id| house.api.task(id)["retry_count"] == 1), "nothing was done");
    let done = house.run(&["retry", "--status", "failed", "--error", "http_status", "--since", "1h", "--yes"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "3\n"), "{}", done.output());
    assert!(done.stderr.contains("3 tasks to retry") && done.stderr.contains("3 retried"), "{}", done.stderr);
    failed.iter().for_each(|id| drop(house.api.wait_final(id, LONG)));
    let done = house.run(&["cancel", "--status", "pending", "--yes", "--json"]);
    let outcome: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(outcome["count"], 0);
}

#[test]
fn running_work_is_asked_about_on_a_terminal_only() {
    let house = House::open();
    let id = house.submit(&["test_sleep", "ms=60000", "steps=60"]);
    house.api.wait_status(&id, "RUNNING", LONG);
    let mut terminal = house.on_terminal(&["cancel", ending(&id)]);
    terminal.shows("of work");
    terminal.press("n\n");
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(1), "{screen}");
    assert!(screen.contains("It goes on."), "{screen}");
    assert_eq!(house.api.task(&id)["status"], "RUNNING");
    let mut terminal = house.on_terminal(&["cancel", ending(&id)]);
    terminal.shows("Cancel it?");
    terminal.press("y\n");
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(0));
    assert!(screen.contains("⊘ CANCELLED"), "{screen}");

    let id = house.submit(&["test_sleep", "ms=60000", "steps=60"]);
    house.api.wait_status(&id, "RUNNING", LONG);
    let done = house.run(&["cancel", &id]);
    assert_eq!((done.code, done.stdout), (Some(0), format!("{id}\n")), "a pipe is not asked");
}

#[test]
fn bulk_on_a_terminal_asks_with_the_count() {
    let house = House::open();
    house.failed();
    let mut terminal = house.on_terminal(&["retry", "--status", "failed"]);
    terminal.shows("Retry 1 task?");
    terminal.press("\n");
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(1), "no answer is a no: {screen}");
    let mut terminal = house.on_terminal(&["retry", "--status", "failed"]);
    terminal.shows("Retry 1 task?");
    terminal.press("y\n");
    assert_eq!(terminal.finish().0, Some(0));
}

#[test]
fn one_of_several_ids_does_not_hold_up_the_others() {
    let house = House::open();
    let over = house.submit(&["vector_processing", "vector_data=[1]", "duration=0"]);
    house.api.wait_final(&over, LONG);
    let runs = house.submit(&["test_sleep", "ms=60000", "steps=60"]);
    let done = house.run(&["cancel", &over, &runs]);
    assert_eq!((done.code, done.stdout), (Some(8), format!("{runs}\n")));
    assert_eq!(house.api.task(&runs)["status"], "CANCELLED");
}
