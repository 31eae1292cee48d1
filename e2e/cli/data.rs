//! Data in a pipe: one record a line, uncut, times in UTC; with `--json` the API's own.

use serde_json::Value;

use super::{House, ending};
use crate::harness::LONG;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn json_is_the_body_of_the_api() {
    let house = House::open();
    let id = house.submit(&["vector_processing", "vector_data=[1]", "duration=0", "--meta", "a=b c"]);
    house.api.wait_final(&id, LONG);
    let bodies = [
        (vec!["get", &id, "--json"], format!("/tasks/{id}")),
        (vec!["--json", "list", "--status", "success,failed", "--meta", "a=b c"], "/tasks".to_owned()),
        (vec!["logs", ending(&id), "--json"], format!("/tasks/{id}/logs")),
        (vec!["types", "--json"], "/task-types".to_owned()),
    ];
    for (arguments, path) in bodies {
        let done = house.run(&arguments);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert_eq!(json(&done.stdout), house.api.fetch(&path).expect(200).json(), "{arguments:?}");
    }
    let body = house.api.fetch(&format!("/tasks/{id}")).expect(200).body;
    assert_eq!(house.run(&["get", &id, "--json"]).stdout.trim_end().as_bytes(), body, "to the byte");
    assert_eq!(json(&house.run(&["queues", "--json"]).stdout)[0]["queue"], "default");
    assert_eq!(json(&house.run(&["workers", "--json"]).stdout)[0]["state"], "alive");
    let accepted = house.run(&["submit", "vector_processing", "vector_data=[1]", "--json"]);
    assert_eq!(json(&accepted.stdout)["status"], "PENDING");
    assert_eq!(json(&house.run(&["types", "web_scrape", "--json"]).stdout)["task_type"], "web_scrape");
}

#[test]
fn lists_are_filtered_and_paged() {
    let house = House::open();
    let failed = house.failed();
    let others: Vec<String> =
        (0..3).map(|_| house.submit(&["vector_processing", "vector_data=[1]", "duration=0"])).collect();
    others.iter().for_each(|id| drop(house.api.wait_final(id, LONG)));
    let done = house.run(&["list", "--status", "failed", "--since", "1h", "--error", "http_status"]);
    let cells: Vec<_> = done.stdout.trim_end().split('\t').collect();
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    assert_eq!(
        (cells[0], cells[1], cells[2], cells[3], cells[4]),
        ("FAILED", failed.as_str(), "web_scrape", "default", "1/4")
    );
    assert!(cells[6].ends_with('Z') && cells[7].starts_with("http_status: "), "{cells:?}");
    assert_eq!(house.run(&["list", "--until", "1h"]).stdout, "");
    assert_eq!(house.run(&["list", "--type", "web_scrape", "--queue", "bulk"]).stdout, "");

    let mut terminal = house.on_terminal(&["list", "--limit", "2"]);
    terminal.shows("2 of 4 shown. Next page: --cursor ");
    let (_, screen) = terminal.finish();
    let cursor = screen.split("--cursor ").nth(1).unwrap().split_whitespace().next().unwrap();
    let first = house.run(&["list", "--limit", "2"]).stdout;
    let second = house.run(&["list", "--limit", "2", "--cursor", cursor]).stdout;
    let ids: Vec<_> = first.lines().chain(second.lines()).map(|line| line.split('\t').nth(1).unwrap()).collect();
    let expected: Vec<_> = others.iter().rev().chain([&failed]).map(String::as_str).collect();
    assert_eq!(ids, expected, "newest first, each once");
}

#[test]
fn logs_are_read_to_their_last_page() {
    let house = House::open();
    let id = house.submit(&["test_sleep", "ms=0", "steps=1200"]);
    house.api.wait_final(&id, LONG);
    let all = house.run(&["logs", &id]).stdout;
    assert_eq!(all.lines().count(), 1_200, "more than one page");
    assert!(all.lines().next().unwrap().ends_with("INFO    step 1 of 1200"));
    assert_eq!(json(&house.run(&["logs", &id, "--json"]).stdout).as_array().unwrap().len(), 1_200);
    let tail = house.run(&["logs", &id, "--tail", "2"]).stdout;
    assert_eq!(tail, all.lines().skip(1_198).map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(json(&house.run(&["logs", &id, "--json", "--tail", "3"]).stdout).as_array().unwrap().len(), 3);
    assert_eq!(house.run(&["logs", &id, "--level", "error"]).stdout, "");
}

#[test]
fn get_tells_all_in_lines() {
    let house = House::open();
    let id = house.failed();
    let done = house.run(&["get", &ending(&id).to_lowercase()]);
    let value = |name: &str| {
        let line = done.stdout.lines().find_map(|line| line.strip_prefix(&format!("{name}\t")));
        line.unwrap_or_else(|| panic!("no {name}: {}", done.stdout)).to_owned()
    };
    assert_eq!((value("id"), value("status"), value("try")), (id, "FAILED".to_owned(), "1/4".to_owned()));
    assert!(value("error").starts_with("http_status: ") && value("created").ends_with('Z'));
    let types = house.run(&["types"]).stdout;
    assert!(types.lines().any(|line| line.starts_with("web_scrape\turl [duration]\t")), "{types}");
    assert!(house.run(&["types", "web_scrape"]).stdout.contains("\"url\""));
    let queues = house.run(&["queues"]).stdout;
    assert!(queues.starts_with("default\tactive\t0\t0\t"), "{queues}");
    let workers = house.run(&["workers"]).stdout;
    assert!(workers.contains("\talive\t") && workers.trim_end().contains("default="), "{workers}");
}

#[test]
fn quiet_is_quiet_and_verbose_names_the_requests() {
    let house = House::open();
    let id = house.failed();
    let done = house.run(&["retry", "--status", "failed", "--dry-run", "-q"]);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1\n", ""));
    let done = house.run(&["get", &id, "-v"]);
    assert!(done.stderr.starts_with(&format!("GET /tasks/{id} 200 ")), "{}", done.stderr);
}

#[test]
fn completions_and_manual_pages_are_made() {
    let house = House::open();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = house.run(&["completions", shell]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert!(done.stdout.contains("submit") && done.stdout.contains("cancel-on-interrupt"), "{shell}");
    }
    let script = crate::harness::new_folder("completions").join("app.bash");
    std::fs::write(&script, house.run(&["completions", "bash"]).stdout).unwrap();
    let check = std::process::Command::new("bash").arg("-n").arg(&script).status().unwrap();
    assert!(check.success());
    let folder = crate::harness::new_folder("man");
    assert_eq!(house.run(&["man", folder.to_str().unwrap()]).code, Some(0));
    for page in ["app.1", "app-submit.1", "app-follow.1", "app-serve.1"] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".TH"), "{page}");
    }
    assert_eq!(house.run(&["man", "/no/such/folder"]).code, Some(2));
}
