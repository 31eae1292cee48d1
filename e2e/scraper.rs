//! Scraper: `web_scrape` against a site with the pages of the real web.

use serde_json::{Value, json};

use crate::harness::{App, Client, Deployment, HOSTILE_TITLE, LONG, Site};

/// A deployment whose tasks may reach this machine.
fn open_deployment() -> Deployment<'static> {
    Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8")
}

/// Scrapes each page once and returns the final tasks.
fn scrape(site: &Site, paths: &[&str]) -> Vec<Value> {
    let deployment = open_deployment();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let ids: Vec<_> = paths.iter().map(|path| submit(&client, site, path)).collect();
    ids.iter().map(|id| client.wait_final(id, LONG)).collect()
}

fn submit(client: &Client, site: &Site, path: &str) -> String {
    client.submit(&json!({"task_type": "web_scrape", "url": site.url(path), "options": {"max_attempts": 1}}))
}

#[test]
fn pages_in_all_encodings_have_their_titles() {
    let site = Site::start();
    let pages = [
        ("/utf8", json!("Grüße aus Köln ☃")),
        ("/windows-1252", json!("Café € 5")),
        ("/shift-jis", json!("日本語のページ")),
        ("/redirect", json!("Grüße aus Köln ☃")),
        ("/broken", json!("Half a page")),
        ("/no-title", json!(null)),
        ("/empty", json!(null)),
        ("/json", json!(null)),
        ("/hostile", json!(HOSTILE_TITLE)),
    ];
    let paths = pages.each_ref().map(|(path, _)| *path);
    for ((path, title), task) in pages.iter().zip(scrape(&site, &paths)) {
        assert_eq!(task["status"], "SUCCESS", "{path}: {task:#}");
        assert_eq!(&task["result"]["title"], title, "{path}");
        assert_eq!(task["result"]["http_status"], 200, "{path}");
        assert_eq!(task["result"]["url"], site.url(path));
        let landed = if *path == "/redirect" { "/utf8" } else { path };
        assert_eq!(task["result"]["final_url"], site.url(landed));
    }
}

#[test]
fn a_page_is_counted() {
    let site = Site::start();
    let tasks = scrape(&site, &["/utf8", "/json"]);
    let result = &tasks[0]["result"];
    assert_eq!(result["stats"], json!({"h1_tags": 2, "links": 2, "images": 1}));
    assert_eq!(result["description"], "Ein Test");
    assert_eq!(result["content_type"], "text/html; charset=utf-8");
    assert!(result["bytes"].as_u64().unwrap() > 100 && result["elapsed_ms"].is_u64());
    assert_eq!(tasks[1]["result"]["content_type"], "application/json");
    assert_eq!(tasks[1]["result"]["stats"], json!({"h1_tags": 0, "links": 0, "images": 0}));
    let request = &site.requests("/utf8")[0];
    assert_eq!(request.method, "GET");
    assert!(request.header("user-agent").unwrap().starts_with("Mozilla/5.0"));
}

#[test]
fn a_title_with_u0000_does_not_fail_the_task() {
    let site = Site::start();
    let task = &scrape(&site, &["/nul"])[0];
    assert_eq!(task["status"], "SUCCESS", "{task:#}");
    let title = task["result"]["title"].as_str().unwrap();
    assert!(title.starts_with('a') && title.ends_with('b') && !title.contains('\0'), "{title:?}");
}

#[test]
fn what_cannot_be_scraped_says_why() {
    let site = Site::start();
    let pages = [
        ("/404", "http_status", false),
        ("/500", "http_status", true),
        ("/loop", "too_many_redirects", false),
        ("/large", "response_too_large", false),
        ("/to-private", "address_not_allowed", false),
    ];
    let tasks = scrape(&site, &pages.map(|(path, ..)| path));
    for ((path, code, retryable), task) in pages.into_iter().zip(tasks) {
        assert_eq!(task["status"], "FAILED", "{path}: {task:#}");
        assert_eq!(task["error"]["code"], code, "{path}: {task:#}");
        assert_eq!(task["error"]["retryable"], retryable, "{path}");
        assert_eq!(task["result"], json!(null));
    }
    assert!(site.requests("/loop").len() <= 6, "redirects are bounded");
}

#[test]
fn a_slow_page_gives_way_to_a_time_limit_and_to_a_cancel() {
    let site = Site::start();
    let deployment = open_deployment();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let limited =
        json!({"task_type": "web_scrape", "url": site.url("/slow"), "options": {"timeout": "1s", "max_attempts": 1}});
    let limited = client.submit(&limited);
    let cancelled = submit(&client, &site, "/slow");
    client.wait_status(&cancelled, "RUNNING", LONG);
    client.cancel(&cancelled).expect(204);
    let task = client.wait_final(&limited, LONG);
    assert_eq!((&task["status"], &task["error"]["code"]), (&json!("FAILED"), &json!("timeout")), "{task:#}");
    stopped_on_the_worker(&deployment, &cancelled);
}

/// A worker clears `worker_id` of a cancelled task when its attempt has stopped.
fn stopped_on_the_worker(deployment: &Deployment, id: &str) {
    let sql = deployment.sql();
    crate::harness::until("the attempt has stopped", LONG, || {
        sql.value::<bool>("SELECT worker_id IS NULL FROM tasks WHERE id = from_ulid($1)", &[&id]).then_some(())
    });
}

#[test]
fn private_addresses_are_refused_by_default() {
    let site = Site::start();
    let deployment = Deployment::new();
    let (mut serve, _work): (App, App) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let port = site.url("").rsplit(':').next().unwrap().to_owned();
    let mut spellings = vec![site.url("/utf8")];
    spellings.extend(
        ["localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"]
            .map(|host| format!("http://{host}:{port}/utf8")),
    );
    for url in spellings {
        let answer = client.post("/tasks", json!({"task_type": "web_scrape", "url": url}).to_string(), &[]);
        if answer.status == 422 {
            continue; // Refused at the door: as good.
        }
        let task = client.wait_final(answer.expect(202).json()["task_id"].as_str().unwrap(), LONG);
        assert_eq!(task["status"], "FAILED", "{url}: {task:#}");
        assert_eq!(task["attempt"], 1, "{url} is refused for good");
    }
    assert!(site.requests("/utf8").is_empty(), "nothing was asked of the site");
}
