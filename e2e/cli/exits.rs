//! Exit codes: the table, one by one.

use nix::sys::signal::Signal;

use super::{House, ending, run_at};
use crate::harness::{HttpServer, LONG, Reply};

#[test]
fn what_became_of_the_task() {
    let house = House::open();
    let long = house.submit(&["test_sleep", "ms=60000", "steps=60"]);
    let done = house.run(&["get", &long, "--wait=200ms"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(10), ""));
    assert!(done.stderr.contains("The wait is over. The task goes on"), "{}", done.stderr);
    assert_eq!(house.run(&["cancel", &long]).code, Some(0));
    assert_eq!(house.run(&["follow", &long]).code, Some(4));
    assert_eq!(house.run(&["get", &long, "--wait"]).code, Some(4));
    let failed = house.failed();
    let done = house.run(&["follow", ending(&failed)]);
    assert_eq!(done.code, Some(3));
    assert!(done.stdout.lines().last().unwrap().contains(" final FAILED ") && done.stdout.contains("http_status"));
    let done = house.run(&["get", &failed, "--wait"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""));
    assert!(done.stderr.starts_with("FAILED http_status"), "{}", done.stderr);
    // Only waiting makes an exit code of a task's end.
    assert_eq!(house.run(&["get", &failed]).code, Some(0));
    assert_eq!(house.run(&["submit", "vector_processing", "vector_data=[1]", "duration=0", "--wait"]).code, Some(0));
}

#[test]
fn what_the_server_says() {
    let house = House::open();
    let nobody = "01M855Z9FNVC7F7BJMWV67JG2H";
    for arguments in
        [&["get", nobody][..], &["logs", nobody], &["follow", nobody], &["cancel", nobody], &["get", "ZZZZ"]]
    {
        let done = house.run(arguments);
        assert_eq!((done.code, done.stdout.as_str()), (Some(5), ""), "{arguments:?}: {}", done.output());
        assert!(done.stderr.starts_with("error: "), "{}", done.stderr);
    }
    let done = house.run(&["submit", "web_scrape", "uri=x"]);
    assert_eq!(done.code, Some(6));
    assert!(done.stderr.contains("/uri") && done.stderr.contains("/url"), "{}", done.stderr);
    let done = house.run(&["submit", "no_such_type"]);
    assert_eq!(done.code, Some(6));
    assert!(done.stderr.contains("no_such_type") && done.stderr.contains("'app types'"), "{}", done.stderr);
    let done = run_at(&house.api.url("/elsewhere"), &["list"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("APP_URL"), "{}", done.stderr);
    assert_eq!(house.run(&["types", "no_such_type"]).code, Some(6));

    let id = house.submit(&["vector_processing", "vector_data=[1]", "duration=0", "--key", "k"]);
    house.api.wait_final(&id, LONG);
    for arguments in [
        &["cancel", &id][..],
        &["retry", &id],
        &["submit", "vector_processing", "vector_data=[2]", "duration=0", "--key", "k"],
    ] {
        assert_eq!(house.run(arguments).code, Some(8), "{arguments:?}");
    }
    let done = house.run(&["cancel", &id, "--json"]);
    let problem: serde_json::Value = serde_json::from_str(&done.stderr).expect("one JSON object on stderr");
    assert_eq!((done.code, &problem["code"]), (Some(8), &serde_json::json!("already_final")));
}

#[test]
fn servers_that_refuse_or_are_away() {
    for (status, code) in [(401, 7), (403, 7), (413, 6), (429, 9), (503, 9), (500, 1), (404, 1), (301, 1)] {
        let server = HttpServer::start(move |_, _| Reply::Whole(status, vec![], b"<html>".to_vec()));
        let done = run_at(&server.url(""), &["list"]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{status}: {}", done.output());
    }
    let done = run_at("http://127.0.0.1:1", &["queues", "--json"]);
    assert_eq!(done.code, Some(9));
    let last: serde_json::Value = serde_json::from_str(done.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(last["code"], "no_connection");
    let busy = HttpServer::start(|_, earlier| match earlier {
        0 => Reply::Whole(503, vec![], b"{}".to_vec()),
        _ => Reply::Whole(200, vec![], b"[]".to_vec()),
    });
    let done = run_at(&busy.url(""), &["workers", "--retry-for", "10s"]);
    assert_eq!(done.code, Some(0), "{}", done.output());
}

#[test]
fn a_wait_that_is_over_tells_the_status_of_now() {
    let task = |status: &str, more: &str| {
        format!(
            r#"{{"task_id":"{ID}","task_type":"t","status":"{status}","queue":"default","priority":"normal","attempt":1,
                "max_attempts":4,"metadata":{{}},"created_at":"2026-01-01T00:00:00Z"{more}}}"#
        )
    };
    const ID: &str = "01M855Z9FNVC7F7BJMWV67JG2H";
    let answers = |now: String| {
        let early = task("PENDING", "");
        HttpServer::start(move |request, _| match request.path.split_once("?wait=") {
            Some((_, "0")) => Reply::Whole(200, vec![], early.clone().into_bytes()),
            // Held for longer than the wait.
            Some(_) => Reply::Silence,
            None => Reply::Whole(200, vec![], now.clone().into_bytes()),
        })
    };
    let server = answers(task("RUNNING", r#","progress":{"current":2,"percent":40.0}"#));
    let done = run_at(&server.url(""), &["get", ID, "--wait=1s"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(10), ""), "{}", done.output());
    assert!(done.stderr.contains("The wait is over. The task goes on (RUNNING 40 %)"), "{}", done.stderr);

    let server = answers(task("SUCCESS", r#","result":{"sum":7}"#));
    let done = run_at(&server.url(""), &["get", ID, "--wait=1s"]);
    assert_eq!(done.code, Some(0), "{}", done.output());
    assert_eq!(done.stdout.trim_end(), r#"{"sum":7}"#);
}

#[test]
fn bad_usage() {
    let house = House::open();
    for arguments in [
        &["submit"][..],
        &["submit", "t", "no-equals-sign"],
        &["submit", "t", "a:={"],
        &["submit", "t", "a=1", "a=2"],
        &["submit", "t", "metadata=x"],
        &["submit", "t", "--input", "/no/such/file"],
        &["submit", "t", "--wait", "--follow"],
        &["submit", "t", "--key", "a\nb"],
        &["submit", "t", "--key", " "],
        &["submit", "t", "--key", "a\"b"],
        &["get"],
        &["get", "abc"],
        &["get", "../../x"],
        &["list", "--status", "done"],
        &["list", "--since", "yesterday"],
        &["list", "--limit", "0"],
        &["list", "--url", "ftp://x"],
        &["list", "--url", "http://user:pw@x"],
        &["list", "-q", "-v"],
        &["cancel"],
        &["cancel", "01M855Z9FNVC7F7BJMWV67JG2H", "--status", "failed"],
        &["completions", "cmd"],
        &["--json", "serve", "--database-url", "x"],
    ] {
        let done = house.run(arguments);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", done.output());
        assert!(done.stderr.contains("error: "), "{arguments:?}: {}", done.stderr);
    }
}

/// Whatever answers 200 there.
#[test]
fn another_program_at_the_address_is_no_success() {
    let html = vec![("content-type", "text/html".to_owned())];
    let server = HttpServer::start(move |_, _| Reply::Whole(200, html.clone(), b"<html>hello</html>".to_vec()));
    let id = "01M855Z9FNVC7F7BJMWV67JG2H";
    for arguments in [
        &["list", "--json"][..],
        &["get", id, "--json"],
        &["retry", id, "--json"],
        &["queues", "--json"],
        &["follow", id],
    ] {
        let done = run_at(&server.url(""), arguments);
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{arguments:?}: {}", done.output());
        assert!(done.stderr.contains("is it a longrun server?"), "{arguments:?}: {}", done.stderr);
    }
}

#[test]
fn a_token_that_no_header_can_carry_is_named() {
    let server = HttpServer::start(|_, _| Reply::Whole(200, vec![], b"[]".to_vec()));
    for token in ["a\nb", "ä", "a b"] {
        let done = run_at(&server.url(""), &["workers", "--token", token]);
        assert_eq!(done.code, Some(2), "{token:?}: {}", done.output());
        assert!(done.stderr.contains("APP_TOKEN"), "{}", done.stderr);
    }
    assert!(server.requests().is_empty());
    let done = run_at(&server.url(""), &["workers", "--token", "key\n"]);
    assert_eq!(done.code, Some(0), "as a file ends: {}", done.output());
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer key"));
}

#[test]
fn an_ending_that_several_tasks_have_is_refused_with_the_candidates() {
    let task = |id: &str| format!(r#"{{"task_id":"{id}","task_type":"t","status":"RUNNING"}}"#);
    let ids = ["01M855Z9FNVC7F7BJMWV67JG2H", "01M855Z9FNVC7F7BJMWV60JG2H"];
    let body = format!("[{},{}]", task(ids[0]), task(ids[1]));
    let server = HttpServer::start(move |_, _| Reply::Whole(200, vec![], body.clone().into_bytes()));
    let done = run_at(&server.url(""), &["get", "jg2h"]);
    assert_eq!(done.code, Some(2));
    assert!(ids.iter().all(|id| done.stderr.contains(id)), "{}", done.stderr);
    assert!(server.requests()[0].path.contains("limit=1000"));
}

#[test]
fn signals_detach_and_the_task_goes_on() {
    let house = House::open();
    let id = house.submit(&["test_sleep", "ms=120000", "steps=1200"]);
    let mut follow = house.start(&["follow", &id]);
    crate::harness::until("it follows", LONG, || follow.stdout().contains("step").then_some(()));
    follow.signal(Signal::SIGTERM);
    assert_eq!(follow.wait_exit(LONG).code(), Some(143));
    assert!(follow.stderr().contains("Detached. The task goes on (RUNNING"), "{}", follow.stderr());

    let mut wait = house.start(&["get", &id, "--wait", "-v"]);
    wait.wait_for_line("GET /tasks/");
    wait.signal(Signal::SIGINT);
    assert_eq!(wait.wait_exit(LONG).code(), Some(130));

    let mut terminal = house.on_terminal(&["follow", &id]);
    terminal.shows("RUNNING");
    terminal.shows("step");
    terminal.press("\x03");
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(130));
    let ending = ending(&id);
    assert!(screen.contains("Detached. The task goes on (RUNNING"), "{screen}");
    assert!(
        screen.contains(&format!("app follow {ending}")) && screen.contains(&format!("app cancel {ending}")),
        "{screen}"
    );
    assert_eq!(house.api.task(&id)["status"], "RUNNING");
}

#[test]
fn who_owns_the_task_takes_it_along() {
    let house = House::open();
    let mut follow =
        house.start(&["submit", "test_sleep", "ms=120000", "steps=1200", "--follow", "--cancel-on-interrupt"]);
    crate::harness::until("it follows", LONG, || follow.stdout().contains("step").then_some(()));
    follow.signal(Signal::SIGINT);
    assert_eq!(follow.wait_exit(LONG).code(), Some(4), "the final frame decides");
    let id = follow.stdout().lines().next().unwrap().to_owned();
    assert_eq!(house.api.task(&id)["status"], "CANCELLED");
    assert!(follow.stdout().lines().last().unwrap().contains(" final CANCELLED"), "{}", follow.stdout());
}
