//! The page at `/docs`: reads `/openapi.json` in the browser, shows it, and sends requests.
//!
//! Three files that are part of the program: nothing is fetched from anywhere else, and the content security policy
//! says so. What the document contains is shown as text, never as markup.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS},
};

use super::problem::{Code, Problem};

/// No script but ours, no inline script or style, no other host, and no page around this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The name under `/docs/`, the media type, the text.
const FILES: [(&str, &str, &str); 2] = [
    ("docs.js", "text/javascript; charset=utf-8", include_str!("docs.js")),
    ("docs.css", "text/css; charset=utf-8", include_str!("docs.css")),
];

/// `GET /docs`.
pub async fn page() -> Result<HttpResponse, Problem> {
    Ok(answer("text/html; charset=utf-8", include_str!("docs.html")))
}

/// `GET /docs/{file}`: what the page is made of.
pub async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let wanted = request.match_info().get("file").unwrap_or_default();
    match FILES.iter().find(|(name, _, _)| *name == wanted) {
        Some((_, media_type, text)) => Ok(answer(media_type, text)),
        None => Err(Problem::new(Code::PathNotFound, "Nothing is at this path: the page is at /docs.")),
    }
}

fn answer(media_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        // The three files belong together: after a rollout a browser must not mix old and new.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_obeys_its_own_policy() {
        let page = include_str!("docs.html");
        for forbidden in ["<style", " style=", " onclick=", " onload=", "javascript:", "http://", "https://", "//cdn"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(page.matches("<script").count(), page.matches("<script src=\"docs/docs.js\"").count());
        let script = include_str!("docs.js");
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "https://"]
        {
            assert!(!script.contains(forbidden), "{forbidden}");
        }
        for (name, _, text) in FILES {
            assert!(page.contains(&format!("\"docs/{name}\"")) && !text.is_empty(), "{name}");
        }
    }
}
