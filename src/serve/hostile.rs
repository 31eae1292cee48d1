//! Hostile: properties of everything here that reads a header, a parameter or a cursor: whatever comes, it answers.

use actix_web::{
    http::header::{HeaderName, HeaderValue},
    test::TestRequest,
};
use proptest::prelude::*;

use super::{cursor::Cursor, idempotency, query::Query, same_site, session, wait::Wait};
use crate::core::{
    credential::{Credential, CredentialKind},
    model::TaskId,
};

/// What is in such headers, and what is not.
const PIECES: &[&str] = &[
    "wait",
    "=",
    "30",
    "\"",
    "\\",
    ";",
    ",",
    " ",
    "*",
    "W/",
    "lrk_",
    "lrs_",
    "0123456789abcdef",
    "longrun_session",
    "Bearer",
    "http://",
    "127.0.0.1",
    ":8001",
    "[::1]",
    ".",
    "localhost",
    "null",
    "-1",
    "99999999999999999999",
    "é",
    "\u{7f}",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\\x20-\\x7e]{0,80}",
        prop::collection::vec(prop::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat()),
    ]
}

fn request(name: &'static str, value: &str, uri: &str) -> Option<actix_web::HttpRequest> {
    let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    let uri: actix_web::http::Uri = uri.parse().ok()?;
    Some(
        TestRequest::post()
            .uri(&uri.to_string())
            .insert_header((HeaderName::from_static(name), value))
            .to_http_request(),
    )
}

proptest! {
    #[test]
    fn no_header_makes_its_reader_panic(value in text(), query in text()) {
        let uri = format!("/tasks?{}", query.replace(['#', ' ', '"', '\\'], ""));
        for name in ["prefer", "cookie", "host", "origin", "sec-fetch-site", "idempotency-key", "authorization"] {
            let Some(request) = request(name, &value, &uri) else { continue };
            let _ = (session::shown(&request).is_some(), same_site::check(&request), same_site::check_host(&request));
            if let Ok(Some(key)) = idempotency::key_of(&request) {
                prop_assert!((1..=255).contains(&key.len()));
            }
            if let Ok(query) = Query::of(&request, &["wait", "limit", "cursor"], Some("metadata."))
                && let Ok(Some(wait)) = Wait::of(&request, &query)
            {
                prop_assert!(wait.seconds <= 50);
            }
        }
    }

    #[test]
    fn only_a_cursor_of_ours_is_one(value in text(), id: u128, at in 0_usize..40, other in "[0-9a-f]") {
        prop_assert!(value.parse::<Cursor>().is_err());
        let cursor = Cursor(TaskId::from_bytes(id.to_be_bytes()));
        prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        let mut forged = cursor.to_string();
        if !forged[at..].starts_with(&other) {
            forged.replace_range(at..=at, &other);
            // One of four thousand million forgeries would pass, and would give no right.
            prop_assert!(forged.parse::<Cursor>().is_err());
        }
    }

    #[test]
    fn only_a_key_of_ours_is_one(value in text()) {
        for kind in [CredentialKind::Key, CredentialKind::Session] {
            prop_assert!(Credential::parse(kind, &value).is_none());
            let good = Credential::new(kind).spell();
            let longer = format!("{}{value}", good.expose());
            prop_assert!(value.is_empty() || Credential::parse(kind, &longer).is_none());
        }
    }
}
