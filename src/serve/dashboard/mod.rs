//! The dashboard under `/ui/`: a page for people that speaks the public API and nothing else.
//!
//! Its files are part of the program. What people read and change are the files of this folder; what is served are those
//! of `served/`, made from them by `make dashboard`: the same without comments, indentation and long names, and in fewer
//! files. A test compares them. Everything but the shell and `boot.js` lies under a folder named by the hash of all
//! files, so a browser may keep it for a year and never mixes two versions; another version's folder is a 404 that
//! nobody keeps, which `boot.js` takes for a rollout. What a task contains is shown as text: the policy allows no inline
//! script or style, and no string becomes markup (Trusted Types).

#[cfg(test)]
mod tests;

use std::{io::Write, sync::LazyLock};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
        IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY,
    },
    web::Bytes,
};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use super::{
    compress::accepts_gzip,
    problem::{Code, Problem},
};

/// Beside the policy: nobody frames the page, learns its address, or shares its process.
const HEADERS: [(&str, &str); 4] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("x-frame-options", "DENY"),
];
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// What stands in the shell where the folder of this version belongs, and where the name of the page does.
const FOLDER: &str = "{{assets}}";
const PAGE: &str = "{{page}}";
/// The pages by the first part of their address; a single task's comes from the tasks'.
const PAGES: [&str; 6] = ["tasks", "task", "submit", "queues", "workers", "login"];

/// The name, the media type, the text.
macro_rules! files {
    ($($name:literal $media_type:expr),* $(,)?) => {
        &[$(($name, $media_type, include_str!(concat!("served/", $name)))),*]
    };
}

const SHELL: &str = include_str!("index.html");
const BOOT: &str = include_str!("served/boot.js");
const FILES: &[(&str, &str, &str)] = files! {
    "style.css" "text/css; charset=utf-8",
    "icon.svg" "image/svg+xml",
    "app.js" SCRIPT,
    "login.js" SCRIPT,
    "queues.js" SCRIPT,
    "submit.js" SCRIPT,
    "task.js" SCRIPT,
    "tasks.js" SCRIPT,
    "workers.js" SCRIPT,
};

static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::new);

/// The files as they go out, compressed once.
struct Assets {
    /// Tells this version's files from others.
    hash: String,
    /// By page: each has its script loaded beside the one of all.
    shells: Vec<(&'static str, File)>,
    boot: File,
    files: Vec<(&'static str, File)>,
}

struct File {
    media_type: &'static str,
    plain: Bytes,
    zipped: Bytes,
    hash: String,
}

impl Assets {
    fn new() -> Self {
        let all: String = FILES.iter().flat_map(|(name, _, text)| [*name, "\0", *text, "\0"]).collect();
        let hash = hash_of(&all);
        // No line of it is text that would miss its indentation.
        let shell: String = SHELL.lines().flat_map(|line| [line.trim_start(), "\n"]).collect();
        let shell = shell.replace(FOLDER, &format!("/ui/assets/{hash}"));
        Self {
            shells: PAGES.iter().map(|page| (*page, File::new(HTML, shell.replace(PAGE, page)))).collect(),
            boot: File::new(SCRIPT, BOOT.to_owned()),
            files: FILES.iter().map(|(name, media, text)| (*name, File::new(media, (*text).to_owned()))).collect(),
            hash,
        }
    }
}

impl File {
    fn new(media_type: &'static str, text: String) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory cannot fail.
        let zipped = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).unwrap_or_default();
        Self { media_type, hash: hash_of(&text), plain: Bytes::from(text), zipped: Bytes::from(zipped) }
    }

    /// 200, or 304 when the client has it.
    fn answer(&self, request: &HttpRequest, cache: &'static str) -> HttpResponse {
        let is_zipped = accepts_gzip(request);
        // The two encodings are two representations, and a strong tag names one (RFC 9110, 8.8.3).
        let etag = format!("\"{}{}\"", self.hash, if is_zipped { "-gzip" } else { "" });
        let mut known = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
        let is_known = known.any(|value| value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
        let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response.insert_header((ETAG, etag)).insert_header((CACHE_CONTROL, cache));
        response.insert_header((VARY, "Accept-Encoding"));
        if self.media_type == HTML {
            response.insert_header((CONTENT_SECURITY_POLICY, POLICY)).insert_header((REFERRER_POLICY, "no-referrer"));
            for (name, value) in HEADERS {
                response.insert_header((HeaderName::from_static(name), HeaderValue::from_static(value)));
            }
        }
        if is_known {
            return response.finish();
        }
        response.insert_header((CONTENT_TYPE, self.media_type));
        match is_zipped {
            true => response.insert_header((CONTENT_ENCODING, "gzip")).body(self.zipped.clone()),
            false => response.body(self.plain.clone()),
        }
    }
}

fn hash_of(text: &str) -> String {
    Sha256::digest(text)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `GET /` and `GET /ui`: to the list of tasks.
pub async fn home() -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/ui/tasks")).finish())
}

/// `GET /ui/{page}`: the shell. Which page it becomes, its script reads from the address.
pub async fn page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let path = request.match_info().get("page").unwrap_or_default().trim_matches('/');
    let name = match path.split_once('/') {
        _ if path.is_empty() => return home().await,
        Some(("tasks", _)) => "task",
        Some((name, _)) => name,
        None => path,
    };
    // An address that is no page gets the list's: its script says so, whichever else is loaded.
    let shell = ASSETS.shells.iter().find(|(page, _)| *page == name).or(ASSETS.shells.first());
    match shell {
        Some((_, shell)) => Ok(shell.answer(&request, "no-cache")),
        None => Err(Problem::new(Code::PathNotFound, "There is no such page.")),
    }
}

/// `GET /ui/boot.js`: loads the rest.
pub async fn boot(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Ok(ASSETS.boot.answer(&request, "no-cache"))
}

/// `GET /ui/assets/{hash}/{file}`.
pub async fn asset(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let part = |name: &str| request.match_info().get(name).unwrap_or_default();
    let file = ASSETS.files.iter().find(|(name, _)| *name == part("file"));
    match file.filter(|_| part("hash") == ASSETS.hash) {
        Some((_, file)) => Ok(file.answer(&request, "public, max-age=31536000, immutable")),
        None => Err(Problem::new(Code::PathNotFound, "This file belongs to another version: load the page again.")
            .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))),
    }
}
