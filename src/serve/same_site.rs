//! Same site: a browser must not be made to act here by the page of somebody else.
//!
//! A request that brings a key in a header was made by a program that has the key. Every other one may have been made
//! by a browser, which adds cookies, or just reaches this machine, whoever wrote the page. So methods that change
//! something are refused when the browser itself says that another site asks (Fetch Metadata, W3C; RFC 6454 where it is
//! older). CORS stays off: no answer allows another origin to read it.

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, HOST, ORIGIN},
};

use super::problem::{Code, Problem};

/// Refuses a request that changes something and that another site has made a browser send.
pub fn check(request: &HttpRequest) -> Result<(), Problem> {
    if request.method().is_safe() || request.headers().contains_key(AUTHORIZATION) {
        return Ok(());
    }
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let same = match (header("sec-fetch-site"), header(ORIGIN.as_str())) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => is_origin_of(origin, header(HOST.as_str()).unwrap_or_default()),
        // No browser of the last years sends neither.
        (None, None) => true,
    };
    if same { Ok(()) } else { Err(Problem::new(Code::CrossSite, "A page of another site must not do this.")) }
}

/// Refuses a name that somebody else may have pointed at this machine (DNS rebinding): the browser then takes the page
/// of that name for ours. Names without a dot are nobody else's.
pub fn check_host(request: &HttpRequest) -> Result<(), Problem> {
    let host = request.headers().get(HOST).map(|value| value.to_str().unwrap_or("?.?")).unwrap_or_default();
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(n, _)| n);
    let name = name.trim_end_matches('.');
    let is_address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
    let own = is_address || !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost");
    if own {
        return Ok(());
    }
    let detail = "Without sign-in this server answers to localhost and to addresses only: make a key with app keys \
                  create, or give --allow-anonymous.";
    Err(Problem::new(Code::CrossSite, detail))
}

fn is_origin_of(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use actix_web::{http::Method, test::TestRequest};

    use super::*;

    fn passes(method: Method, headers: &[(&str, &str)]) -> bool {
        let mut request = TestRequest::default().method(method);
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        check(&request.to_http_request()).is_ok()
    }

    #[test]
    fn another_site_changes_nothing() {
        let host = ("host", "127.0.0.1:8001");
        for (headers, expected) in [
            (vec![host], true),
            (vec![host, ("sec-fetch-site", "same-origin")], true),
            (vec![host, ("sec-fetch-site", "none")], true),
            (vec![host, ("sec-fetch-site", "same-site")], false),
            (vec![host, ("sec-fetch-site", "cross-site")], false),
            (vec![host, ("sec-fetch-site", "nonsense")], false),
            (vec![host, ("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8001")], false),
            (vec![host, ("origin", "http://127.0.0.1:8001")], true),
            (vec![host, ("origin", "http://127.0.0.1")], false),
            (vec![host, ("origin", "http://127.0.0.1:8001.evil.example")], false),
            (vec![host, ("origin", "null")], false),
            (vec![("origin", "http://")], false),
            (vec![host, ("sec-fetch-site", "cross-site"), ("authorization", "Bearer x")], true),
        ] {
            assert_eq!(passes(Method::POST, &headers), expected, "{headers:?}");
            assert!(passes(Method::GET, &headers), "reading is not acting");
        }
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for (host, expected) in [
            ("127.0.0.1:8001", true),
            ("[::1]:8001", true),
            ("localhost:8001", true),
            ("LOCALHOST", true),
            ("app.localhost:8001", true),
            ("serve:8001", true),
            ("x", true),
            ("evil.example:8001", false),
            ("evil.example.", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example:80", false),
        ] {
            let request = TestRequest::get().insert_header((HOST, host)).to_http_request();
            assert_eq!(check_host(&request).is_ok(), expected, "{host}");
        }
    }
}
