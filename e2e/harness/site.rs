//! Site: a web site with the pages that scrapers meet.

use super::{HttpServer, Reply, Request};

/// The title of `/hostile`, as a reader of the page sees it.
pub const HOSTILE_TITLE: &str = "</script><script>alert('x')</script> \u{202E}gnp.exe";

/// A running site; see [`page`] for its pages.
pub struct Site {
    server: HttpServer,
}

impl Site {
    /// Starts one on a free port.
    pub fn start() -> Self {
        Self { server: HttpServer::start(page) }
    }

    /// The address of a page.
    pub fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// The requests for a page so far.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.server.requests().into_iter().filter(|request| request.path == path).collect()
    }
}

/// The pages. `earlier` counts the requests that came for the same path before.
fn page(request: &Request, earlier: usize) -> Reply {
    match request.path.as_str() {
        "/utf8" => html(
            "text/html; charset=utf-8",
            "<!doctype html><html><head><title> Grüße \n aus Köln ☃ </title>\
             <meta name=\"description\" content=\"Ein Test\"></head>\
             <body><h1>Eins</h1><h1>Zwei</h1><a href=\"/a\">a</a><a href=\"/b\">b</a><a>kein Ziel</a>\
             <img src=\"x.png\"></body></html>"
                .as_bytes(),
        ),
        // Declared in the header only.
        "/windows-1252" => html("text/html; charset=windows-1252", b"<html><title>Caf\xE9 \x80 5</title></html>"),
        // Declared in the page only.
        "/shift-jis" => {
            let text = "<html><head><meta charset=\"Shift_JIS\"><title>日本語のページ</title></head></html>";
            html("text/html", &encoding_rs::SHIFT_JIS.encode(text).0)
        }
        "/redirect" => redirect(301, "/utf8"),
        "/loop" => redirect(302, "/loop"),
        "/to-private" => redirect(302, "http://10.0.0.1/"),
        "/404" => Reply::Whole(404, vec![], b"<title>not here</title>".to_vec()),
        "/500-twice" if earlier < 2 => Reply::Whole(500, vec![], b"broken".to_vec()),
        "/500-twice" => html("text/html", b"<title>whole again</title>"),
        "/500" => Reply::Whole(500, vec![], b"broken".to_vec()),
        "/429-once" if earlier == 0 => Reply::Whole(429, vec![("retry-after", "4".to_owned())], Vec::new()),
        "/429-once" => html("text/html", b"<title>welcome back</title>"),
        "/slow" => Reply::Silence,
        "/large" => html("text/html", &vec![b'x'; 40 * 1024 * 1024]),
        "/json" => Reply::Whole(200, vec![("content-type", "application/json".to_owned())], b"{\"a\":1}".to_vec()),
        "/no-title" => html("text/html", b"<html><body><h1>only this</h1></body></html>"),
        "/broken" => {
            html("text/html", b"<html><head><title>Half a page</title><body><h1>a<h1>b<a href=x><img <p></div>")
        }
        "/empty" => html("text/html", b""),
        "/hostile" => html(
            "text/html; charset=utf-8",
            "<title>&lt;/script&gt;&lt;script&gt;alert('x')&lt;/script&gt; \u{202E}gnp.exe</title>".as_bytes(),
        ),
        // A title with U+0000, which PostgreSQL refuses.
        "/nul" => html("text/html; charset=utf-8", b"<title>a\0b</title>"),
        _ => Reply::Whole(404, vec![], b"no such page".to_vec()),
    }
}

fn html(content_type: &str, body: &[u8]) -> Reply {
    Reply::Whole(200, vec![("content-type", content_type.to_owned())], body.to_vec())
}

fn redirect(status: u16, to: &str) -> Reply {
    Reply::Whole(status, vec![("location", to.to_owned())], Vec::new())
}
