//! Web scrape: a built-in type that fetches one page and tells what is on it.
//!
//! Fetching goes through the guarded client, so only public addresses are reached. Fetching and parsing happen in
//! one blocking closure. What another attempt could change (network errors, 5xx, 408, 425, 429) is retried, where the
//! server asks for it not before its Retry-After; any other status than 2xx is final, code `http_status`.
//!
//! A page that is not HTML is a success whose `title` and `description` are null and whose counts are 0: the address
//! was reached, and `content_type` and `bytes` say what is there.

mod charset;
mod html;

use std::time::Instant;

use schemars::JsonSchema;
use select::{
    document::Document,
    node::{Data, Node},
    predicate::{Attr, Name, Predicate},
};
use serde::{Deserialize, Serialize};

use super::{
    Context, Failure, Finding, TaskKind,
    outbound::{Abort, OutboundError, Request, Response, guard},
};

/// Many sites answer robots and libraries with an empty page.
const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const ACCEPT: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
/// Longer titles and descriptions are cut, with an ellipsis.
const MAX_TEXT_CHARS: usize = 1000;

/// The `web_scrape` type.
#[derive(Debug, Clone, Copy, Default)]
pub struct WebScrape;

/// Which page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScrapeInput {
    /// The page's address, http or https
    #[schemars(length(min = 1, max = 8192), extend("format" = "uri"), example = "https://example.com")]
    pub url: String,
    /// Accepted for old clients and ignored
    #[serde(default)]
    #[allow(dead_code, reason = "accepted and ignored")]
    duration: Option<f64>,
}

/// What is on it.
#[derive(Debug, Serialize)]
pub struct ScrapeOutput {
    /// The address that was asked for.
    pub url: String,
    /// The address that answered, after redirects.
    pub final_url: String,
    /// Its status, 200 to 299.
    pub http_status: u16,
    /// The text of the first `<title>`, its white space collapsed; null when there is none.
    pub title: Option<String>,
    /// The `description` of the page, or its `og:description`; null when there is neither.
    pub description: Option<String>,
    /// What was counted.
    pub stats: Stats,
    /// The `Content-Type` header as it came.
    pub content_type: Option<String>,
    /// Bytes of the body, decompressed.
    pub bytes: usize,
    /// Fetching and parsing, in milliseconds.
    pub elapsed_ms: u64,
}

/// Elements of a page.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// `<h1>`.
    pub h1_tags: usize,
    /// `<a href>`.
    pub links: usize,
    /// `<img>`.
    pub images: usize,
}

impl TaskKind for WebScrape {
    const NAME: &'static str = "web_scrape";
    const DESCRIPTION: &'static str = "Fetches a web page and tells its title, description and what is on it";
    type Input = ScrapeInput;
    type Output = ScrapeOutput;

    fn check(&self, input: &ScrapeInput) -> Vec<Finding> {
        let refusal = guard::parse_url(&input.url).err();
        refusal.map(|why| Finding { pointer: "/url".to_owned(), detail: why.to_string() }).into_iter().collect()
    }

    async fn run(&self, input: ScrapeInput, ctx: Context) -> Result<ScrapeOutput, Failure> {
        let abort = Abort::default();
        // Whether the attempt is asked to stop or its future dropped: the thread must not wait on for a slow server.
        let _cut_off_with_this_future = abort.on_drop();
        tokio::select! {
            () = ctx.stopped() => Err(Failure::Stopped),
            outcome = ctx.blocking(move |ctx| scrape(ctx, input.url, &abort)) => outcome,
        }
    }
}

fn scrape(ctx: &Context, url: String, abort: &Abort) -> Result<ScrapeOutput, Failure> {
    let began = Instant::now();
    ctx.progress(0, Some(2), Some("Fetching"));
    ctx.info(format!("GET {}", without_query(&url)));
    let request = Request::get(&url).header("user-agent", USER_AGENT).header("accept", ACCEPT).abort_with(abort);
    let response = accept(ctx.http().send(&request).map_err(failure_of)?)?;
    let content_type =
        response.headers.get("content-type").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let shown_type = content_type.as_deref().unwrap_or("no content type");
    ctx.info(format!("{}, {} bytes, {shown_type}", response.status, grouped(response.body.len())));
    if response.final_url != url {
        ctx.info(format!("answered by {}", without_query(&response.final_url)));
    }
    ctx.progress(1, Some(2), Some("Parsing HTML"));
    ctx.check()?;
    let content = read(ctx, &response, content_type.as_deref())?;
    ctx.progress(2, Some(2), None);
    Ok(ScrapeOutput {
        url,
        final_url: response.final_url,
        http_status: response.status,
        title: content.title,
        description: content.description,
        stats: content.stats,
        content_type,
        bytes: response.body.len(),
        elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn failure_of(error: OutboundError) -> Failure {
    match error {
        OutboundError::Aborted => Failure::Stopped,
        error if error.is_permanent() => Failure::fatal(error.code(), error.to_string()),
        error => Failure::retry(error.code(), error.to_string()),
    }
}

/// Lets 2xx through.
fn accept(response: Response) -> Result<Response, Failure> {
    let status = response.status;
    let message = || format!("the server answered {status}");
    match status {
        200..=299 => Ok(response),
        408 | 425 | 429 | 500..=599 => Err(match response.retry_after().filter(|_| matches!(status, 429 | 503)) {
            Some(after) => Failure::retry_after("http_status", message(), after),
            None => Failure::retry("http_status", message()),
        }),
        _ => Err(Failure::fatal("http_status", message())),
    }
}

#[derive(Default)]
struct Content {
    title: Option<String>,
    description: Option<String>,
    stats: Stats,
}

fn read(ctx: &Context, response: &Response, content_type: Option<&str>) -> Result<Content, Failure> {
    if !is_html(content_type, &response.body) {
        ctx.warn("this is not HTML: there is nothing to parse");
        return Ok(Content::default());
    }
    let (text, charset) = charset::decode(&response.body, content_type);
    let page = html::parse(&text, || ctx.stopping().is_none());
    ctx.check()?;
    if page.end == html::End::CutShort {
        ctx.warn("the markup is too deep or too intricate: only its beginning is counted");
    }
    let content = extract(&page.document);
    ctx.info(format!(
        "read as {charset}: {}, {} links, {} images, {} h1",
        content.title.as_deref().map_or("no title".to_owned(), |title| format!("{title:?}")),
        content.stats.links,
        content.stats.images,
        content.stats.h1_tags
    ));
    Ok(content)
}

/// By its declared type; undeclared, by its first character.
fn is_html(content_type: Option<&str>, body: &[u8]) -> bool {
    let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match essence.as_deref() {
        None | Some("") => body.trim_ascii_start().starts_with(b"<"),
        Some(essence) => matches!(essence, "text/html" | "application/xhtml+xml"),
    }
}

fn extract(document: &Document) -> Content {
    let svg = |node: &Node<'_>| node.parent().is_some_and(|parent| parent.name() == Some("svg"));
    let title = document.find(Name("title")).find(|title| !svg(title)).map(|title| own_text(&title));
    let meta = |attribute: &'static str, wanted: &str| {
        document
            .find(Name("meta").and(Attr(attribute, ())))
            .find(|meta| meta.attr(attribute).is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted)))
            .and_then(|meta| tidy(meta.attr("content")?))
    };
    Content {
        title: title.and_then(|text| tidy(&text)),
        description: meta("name", "description").or_else(|| meta("property", "og:description")),
        stats: Stats {
            h1_tags: document.find(Name("h1")).count(),
            links: document.find(Name("a").and(Attr("href", ()))).count(),
            images: document.find(Name("img")).count(),
        },
    }
}

/// The text right inside a node. Not select's `text`, which recurses.
fn own_text(node: &Node<'_>) -> String {
    node.children()
        .filter_map(|child| match child.data() {
            Data::Text(text) => Some(text.to_string()),
            _ => None,
        })
        .collect()
}

/// One line, not too long; `None` when nothing is left.
fn tidy(text: &str) -> Option<String> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > MAX_TEXT_CHARS {
        line = line.chars().take(MAX_TEXT_CHARS - 1).chain(['…']).collect();
    }
    (!line.is_empty()).then_some(line)
}

/// Query strings hold tokens often enough to stay out of logs.
fn without_query(url: &str) -> String {
    match url.find(['?', '#']) {
        Some(end) => format!("{}{}…", &url[..end], &url[end..=end]),
        None => url.to_owned(),
    }
}

/// 12345 as 12,345.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests;
