//! Tests of web scraping, against a site of their own.

use std::{io::Write, time::Duration};

use serde_json::json;

use super::*;
use crate::tasks::{
    StopReason,
    test_site::{Site, answer, gzip},
    testing::{self, TestRun},
};

async fn scrape_at(site: &Site, path: &str) -> TestRun {
    local(site, path).run().await
}

fn local(site: &Site, path: &str) -> testing::TestTask {
    testing::task(WebScrape, json!({"url": site.url(path)})).allow("127.0.0.0/8".parse().unwrap())
}

fn html(body: &str) -> Vec<u8> {
    answer(200, &[("content-type", "text/html; charset=utf-8")], body)
}

#[track_caller]
fn failure(run: &TestRun) -> (&str, Option<Option<Duration>>) {
    match run.failure() {
        Failure::Retry { code, after, .. } => (code, Some(*after)),
        Failure::Fatal { code, .. } => (code, None),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_page_is_read() {
    let page = "<!DOCTYPE html><title> A\n  <b>bold</b> title &amp; more </title><meta name=Description content=' What \
                it is '><h1>1</h1><h1>2</h1><a href=/a>a</a><a name=b>b</a><a href=''>c</a><img src=x><p>é";
    let site = Site::always(html(page));
    let run = scrape_at(&site, "/page?secret=1").await;
    let mut result = run.result().clone();
    assert!(result["elapsed_ms"].take().is_u64());
    assert_eq!(
        result,
        json!({
            "url": site.url("/page?secret=1"), "final_url": site.url("/page?secret=1"), "http_status": 200,
            "title": "A <b>bold</b> title & more", "description": "What it is",
            "stats": {"h1_tags": 2, "links": 2, "images": 1},
            "content_type": "text/html; charset=utf-8", "bytes": page.len(), "elapsed_ms": null,
        })
    );
    assert_eq!(run.last_progress(), Some((2, Some(2))));
    assert_eq!(run.texts()[0], format!("GET {}?…", site.url("/page")));
    assert_eq!(run.texts()[1], format!("200, {} bytes, text/html; charset=utf-8", page.len()));
    let [asked] = &site.requests()[..] else { panic!("one request") };
    assert!(asked.header("user-agent").unwrap().starts_with("Mozilla/5.0 "));
    assert_eq!(asked.header("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn pages_of_the_real_world_are_read() {
    let site = Site::start(|asked, stream| {
        let response = match asked.path.as_str() {
            "/latin1" => answer(200, &[("content-type", "text/html; charset=iso-8859-1")], b"<title>caf\xe9</title>"),
            "/meta" => answer(200, &[("content-type", "text/html")], b"<meta charset=windows-1251><title>\xcc\xe8\xf0"),
            "/bom" => answer(200, &[("content-type", "text/html")], b"\xff\xfe<\0t\0i\0t\0l\0e\0>\0x\0"),
            "/gzip" => {
                let headers = [("content-type", "text/html"), ("content-encoding", "gzip")];
                answer(200, &headers, gzip(b"<title>packed</title>"))
            }
            "/redirect" => answer(301, &[("location", "/og")], ""),
            "/og" => html("<meta property='og:description' content='from og'><svg><title>icon</title></svg>"),
            "/untitled" => html("<title>  </title><p>text"),
            "/broken" => html("<title>broken</titel><p <a href=x"),
            "/empty" => answer(204, &[], ""),
            "/bare" => answer(200, &[], "  <title>no type</title>"),
            "/image" => answer(200, &[("content-type", "image/png")], b"\x89PNG<title>x</title>"),
            _ => answer(404, &[], ""),
        };
        stream.write_all(&response).unwrap();
    });
    for (path, title, description) in [
        ("/latin1", json!("café"), json!(null)),
        ("/meta", json!("Мир"), json!(null)),
        ("/bom", json!("x"), json!(null)),
        ("/gzip", json!("packed"), json!(null)),
        ("/redirect", json!(null), json!("from og")),
        ("/untitled", json!(null), json!(null)),
        ("/broken", json!("broken</titel><p <a href=x"), json!(null)),
        ("/empty", json!(null), json!(null)),
        ("/bare", json!("no type"), json!(null)),
        ("/image", json!(null), json!(null)),
    ] {
        let run = scrape_at(&site, path).await;
        assert_eq!((&run.result()["title"], &run.result()["description"]), (&title, &description), "{path}");
    }
    let redirected = scrape_at(&site, "/redirect").await;
    assert_eq!(redirected.result()["final_url"], site.url("/og"));
    assert_eq!(redirected.result()["url"], site.url("/redirect"));
}

#[tokio::test]
async fn statuses_are_final_or_worth_another_attempt() {
    let site = Site::start(|asked, stream| {
        let status: u16 = asked.path[1..4].parse().unwrap();
        let headers: &[_] = if asked.path.len() > 4 { &[("retry-after", "7")] } else { &[] };
        stream.write_all(&answer(status, headers, "")).unwrap();
    });
    for (path, again) in [
        ("/404", None),
        ("/410", None),
        ("/403", None),
        ("/400+", None),
        ("/304", None),
        ("/500", Some(None)),
        ("/502+", Some(None)),
        ("/503", Some(None)),
        ("/503+", Some(Some(Duration::from_secs(7)))),
        ("/429", Some(None)),
        ("/429+", Some(Some(Duration::from_secs(7)))),
    ] {
        assert_eq!(failure(&scrape_at(&site, path).await), ("http_status", again), "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_says_why() {
    let site = Site::always(html("secret"));
    let refused = testing::run(WebScrape, json!({"url": site.url("/")})).await;
    assert_eq!(failure(&refused), ("address_not_allowed", None));
    assert_eq!(site.connections(), 0);

    let redirecting = Site::always(answer(302, &[("location", "http://192.168.0.1/")], ""));
    assert_eq!(failure(&scrape_at(&redirecting, "/").await), ("address_not_allowed", None));

    let large = Site::always(html(&"x".repeat(6 * 1024 * 1024)));
    assert_eq!(failure(&scrape_at(&large, "/").await), ("response_too_large", None));

    // A port that nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let nobody = testing::task(WebScrape, json!({"url": format!("http://127.0.0.1:{port}/")}))
        .allow("127.0.0.0/8".parse().unwrap())
        .run()
        .await;
    assert_eq!(failure(&nobody), ("network", Some(None)));
}

#[tokio::test]
async fn wrong_addresses_are_refused_at_submit() {
    for url in ["ftp://x", "x", "", "http://", "http://a b/", "http://user:pw@example.com/", "javascript:alert(1)"] {
        let run = testing::run(WebScrape, json!({"url": url})).await;
        assert_eq!(run.findings()[0].pointer, "/url", "{url}");
    }
    assert_eq!(testing::run(WebScrape, json!({})).await.findings()[0].pointer, "/url");
    assert_eq!(testing::run(WebScrape, json!({"url": 5})).await.findings()[0].pointer, "/url");
    let unknown = testing::run(WebScrape, json!({"url": "http://example.com", "depth": 2})).await;
    assert_eq!(unknown.findings()[0].pointer, "/depth");
}

#[tokio::test]
async fn the_duration_of_old_clients_is_ignored() {
    let site = Site::always(html("<title>x</title>"));
    let input = json!({"url": site.url("/"), "duration": 5});
    let run = testing::task(WebScrape, input).allow("127.0.0.0/8".parse().unwrap()).run().await;
    assert_eq!(run.result()["title"], "x");
}

#[tokio::test]
async fn a_very_deep_page_gives_a_result_and_a_warning() {
    let site = Site::always(html(&format!("<title>deep</title>{}", "<div>".repeat(200_000))));
    let run = scrape_at(&site, "/").await;
    assert_eq!(run.result()["title"], "deep");
    assert!(run.texts().iter().any(|line| line.contains("too deep")), "{:?}", run.texts());
}

#[tokio::test]
async fn a_slow_server_is_not_waited_for_after_a_cancel() {
    let (started, has_started) = tokio::sync::oneshot::channel();
    let started = std::sync::Mutex::new(Some(started));
    let (gone, is_gone) = std::sync::mpsc::channel();
    let site = Site::start(move |_, stream| {
        started.lock().unwrap().take().unwrap().send(()).unwrap();
        let _ = std::io::Read::read(stream, &mut [0; 1]);
        gone.send(()).unwrap();
    });
    let task = local(&site, "/");
    let stop = task.stop();
    let running = tokio::spawn(task.run());
    has_started.await.unwrap();
    stop.ask(StopReason::Cancelled);
    assert!(matches!(running.await.unwrap().failure(), Failure::Stopped));
    // Not only the future ends: the connection does, and with it the thread.
    is_gone.recv_timeout(Duration::from_secs(60)).expect("the connection is closed");
}
