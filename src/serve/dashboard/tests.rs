//! The files of the dashboard: how large they are, what they must not say, and the contrast of their colours.

use std::collections::BTreeMap;

use actix_web::{
    App,
    http::{StatusCode, header::HeaderMap},
    test as http_test, web,
};

use super::*;
use crate::serve::routes;

/// Bytes of all scripts, of the style sheet, and of what one page loads over the wire the first time.
const SCRIPTS: usize = 60 * 1024;
const STYLES: usize = 15 * 1024;
const WIRE: usize = 25 * 1024;

fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    let files = FILES.iter().map(|(name, _, text)| (*name, *text)).chain([("boot.js", BOOT)]);
    files.filter(|(name, _)| name.ends_with(".js"))
}

#[test]
fn everything_is_small() {
    let raw = |end: &str| -> usize {
        let files = FILES.iter().filter(|(name, ..)| name.ends_with(end)).map(|(_, _, text)| text.len());
        files.sum::<usize>() + if end == ".js" { BOOT.len() } else { 0 }
    };
    assert!(raw(".js") <= SCRIPTS, "{} bytes of scripts", raw(".js"));
    assert!(raw(".css") <= STYLES, "{} bytes of styles", raw(".css"));
    let zipped = |wanted: &str| ASSETS.files.iter().find(|(name, _)| *name == wanted).unwrap().1.zipped.len();
    let shared = ASSETS.boot.zipped.len() + ["app.js", "style.css", "icon.svg"].map(zipped).iter().sum::<usize>();
    for (page, shell) in &ASSETS.shells {
        let wire = shared + shell.zipped.len() + zipped(&format!("{page}.js"));
        assert!(wire <= WIRE, "{page}: {wire} bytes over the wire");
    }
}

/// Text becomes text: no script turns a string into markup or code, and the page has no inline script or style.
#[test]
fn no_text_can_become_markup_or_code() {
    for (name, text) in scripts() {
        for banned in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"]
        {
            assert!(!text.contains(banned), "{name}: {banned}");
        }
    }
    for banned in
        [" style=", "<style", "<script>", " onclick", " onload", " onerror", "javascript:", "http://", "https://"]
    {
        assert!(!SHELL.contains(banned), "index.html: {banned}");
    }
}

#[test]
fn every_module_that_is_imported_is_there() {
    for (name, text) in scripts() {
        for part in text.split("from\"./").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(FILES.iter().any(|(file, ..)| *file == part), "{name} imports {part}");
        }
    }
    let shells: Vec<String> = PAGES.iter().map(|page| SHELL.replace(PAGE, page)).collect();
    for file in shells.concat().split(&format!("{FOLDER}/")).skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(FILES.iter().any(|(name, ..)| *name == file), "index.html names {file}");
    }
}

type Rgb = [f64; 3];

/// The custom properties that are colours, light and dark.
fn colours() -> BTreeMap<String, [Rgb; 2]> {
    let css = FILES.iter().find(|(name, ..)| *name == "style.css").unwrap().2;
    let rgb = |text: &str| -> Rgb {
        let part = |at: usize| f64::from(u8::from_str_radix(&text[at..at + 2], 16).unwrap()) / 255.0;
        [part(1), part(3), part(5)]
    };
    let declared = css.split("--").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once(": light-dark(")?;
        let (light, dark) = rest.split_once(')')?.0.split_once(", ")?;
        Some((name.to_owned(), [rgb(light), rgb(dark)]))
    });
    declared.collect()
}

/// WCAG 2.2, contrast ratio.
fn contrast(one: Rgb, other: Rgb) -> f64 {
    let luminance = |colour: Rgb| {
        let [r, g, b] = colour.map(|c| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    };
    let (a, b) = (luminance(one), luminance(other));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_text_can_be_read() {
    let colours = colours();
    let mut wrong = Vec::new();
    let mut check = |text: &str, on: &str, least: f64| {
        for (theme, n) in [("light", 0), ("dark", 1)] {
            let ratio = contrast(colours[text][n], colours[on][n]);
            if ratio < least {
                wrong.push(format!("{theme}: {text} on {on} is {ratio:.2}, not {least}"));
            }
        }
    };
    for status in ["pending", "running", "success", "failed", "cancelled"] {
        let tint = format!("{status}-tint");
        for ground in ["paper", "surface", &tint] {
            check(status, ground, 4.5);
        }
        check(status, "line", 3.9);
        check("ink", &tint, 4.5);
        check("muted", &tint, 5.2);
    }
    for ground in ["paper", "surface", "cancelled-tint"] {
        for text in ["ink", "muted", "link"] {
            check(text, ground, 4.5);
        }
    }
    check("paper", "link", 4.5);
    check("edge", "paper", 3.0);
    check("link", "surface", 3.0);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

async fn ask(path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, web::Bytes) {
    let app = http_test::init_service(App::new().configure(routes::all)).await;
    let mut request = http_test::TestRequest::get().uri(path);
    for header in headers {
        request = request.insert_header(*header);
    }
    let response = http_test::call_service(&app, request.to_request()).await;
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, http_test::read_body(response).await)
}

#[actix_web::test]
async fn the_shell_names_its_folder_and_forbids_everything_else() {
    let (status, headers, body) = ask("/ui/tasks", &[]).await;
    assert_eq!(status, 200);
    let policy = headers.get("content-security-policy").unwrap().to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains("trusted-types 'none'"), "{policy}");
    assert_eq!(headers.get("cross-origin-opener-policy").unwrap(), "same-origin");
    assert_eq!(headers.get("cache-control").unwrap(), "no-cache");
    let page = String::from_utf8(body.to_vec()).unwrap();
    assert!(page.contains(&format!("/ui/assets/{}/style.css", ASSETS.hash)) && !page.contains(FOLDER));
    let etag = headers.get("etag").unwrap().to_str().unwrap();
    assert_eq!(ask("/ui/tasks?status=FAILED", &[("if-none-match", etag)]).await.0, 304);
    for (path, script) in
        [("/ui/tasks/01J00000000000000000000000", "task"), ("/ui/workers/", "workers"), ("/ui/x", "tasks")]
    {
        let page = String::from_utf8(ask(path, &[]).await.2.to_vec()).unwrap();
        assert!(page.contains(&format!("/ui/assets/{}/{script}.js", ASSETS.hash)) && !page.contains(PAGE), "{path}");
    }
    for path in ["/", "/ui", "/ui/"] {
        let (status, headers, _) = ask(path, &[]).await;
        assert_eq!((status.as_u16(), headers.get("location").unwrap().to_str().unwrap()), (303, "/ui/tasks"), "{path}");
    }
}

#[actix_web::test]
async fn assets_are_kept_and_those_of_another_version_are_not() {
    let path = format!("/ui/assets/{}/app.js", ASSETS.hash);
    let (status, headers, plain) = ask(&path, &[]).await;
    assert_eq!(status, 200);
    assert_eq!(headers.get("cache-control").unwrap(), "public, max-age=31536000, immutable");
    let (_, zipped_headers, zipped) = ask(&path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(zipped_headers.get("content-encoding").unwrap(), "gzip");
    assert_ne!(headers.get("etag").unwrap(), zipped_headers.get("etag").unwrap());
    assert!(zipped.len() < plain.len());
    for path in ["/ui/assets/0000000000000000/app.js".to_owned(), path.replace("app.js", "other.js")] {
        let (status, headers, _) = ask(&path, &[]).await;
        assert_eq!((status.as_u16(), headers.get("cache-control").unwrap().to_str().unwrap()), (404, "no-store"));
    }
    assert_eq!(ask("/ui/boot.js", &[]).await.1.get("cache-control").unwrap(), "no-cache");
}
