//! `/session`: a browser signs in with a key, stays signed in by a cookie that scripts cannot read, and signs out.
//!
//! The cookie holds a secret of its own and never the key, ends with the key, and works on every replica.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE},
    web::{Data, Payload},
};
use chrono::Utc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Api, body,
    caller::{Caller, Ends, SignIn},
    json,
    problem::{Code, Problem},
    query::Query,
    task_view::Time,
};
use crate::{
    core::{
        credential::{Credential, CredentialKind},
        model::Role,
        store::NewSession,
    },
    tasks::Finding,
};

/// The cookie of a browser that has signed in.
pub const NAME: &str = "longrun_session";
/// How long a browser stays signed in.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);
/// A body larger than this holds no key.
const LARGEST_BODY: usize = 16 * 1024;

/// What a browser signs in with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SignIn")]
pub struct SignInBody {
    /// An API key, or a token of the identity provider.
    key: String,
}

/// Who is signed in, and to what.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub struct SessionView<'a> {
    /// The owner of the caller's tasks; null where the server is open.
    name: Option<&'a str>,
    role: Role,
    /// The server has no keys: everybody is an administrator, and there is nothing to sign out of.
    anonymous: bool,
    /// Of the server.
    version: &'static str,
    /// By the server's clock.
    server_time: Time,
}

impl<'a> SessionView<'a> {
    fn of(caller: &'a Caller) -> Self {
        Self {
            name: caller.owner.as_deref(),
            role: caller.role,
            anonymous: caller.sign_in == SignIn::Anonymous,
            version: env!("CARGO_PKG_VERSION"),
            server_time: Time(Utc::now()),
        }
    }
}

/// `GET /session`: who asks.
pub async fn show(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(SessionView::of(&caller)))
}

/// `POST /session`: signs in.
pub async fn sign_in(api: Data<Api>, request: HttpRequest, mut payload: Payload) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    let body = body::read_json(&request, &mut payload, LARGEST_BODY).await?;
    // The parser's own words would show the key.
    let wrong = |_| {
        let detail = "the body must be an object with one string, key".to_owned();
        Problem::invalid(Code::InvalidInput, vec![Finding { pointer: String::new(), detail }])
    };
    let body: SignInBody = serde_json::from_str(json::check(&body)?).map_err(wrong)?;
    let recognised = api.auth.recognise(body.key.trim()).await;
    if recognised.is_err() && api.auth.is_open().await? {
        let caller = Caller::anonymous(Ends::with(api.closing.clone()));
        return Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(SessionView::of(&caller)));
    }
    let caller = recognised?;
    let credential = Credential::new(CredentialKind::Session);
    let key_id = match &caller.sign_in {
        SignIn::Key(id) => Some(id.as_str()),
        SignIn::Anonymous | SignIn::Session(_) | SignIn::Token => None,
    };
    let session = NewSession {
        credential: &credential,
        key_id,
        owner: caller.owner.as_deref().unwrap_or_default(),
        role: caller.role,
        expires_in: caller.ends.left().map_or(LASTS, |left| left.min(LASTS)),
    };
    api.core.store.create_session(session).await?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((SET_COOKIE, cookie(&request, credential.spell().expose(), LASTS)))
        .insert_header((CACHE_CONTROL, "no-store"));
    Ok(response.json(SessionView::of(&caller)))
}

/// `DELETE /session`: signs out, and takes the cookie back. To sign out twice is to sign out once.
pub async fn sign_out(api: Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if let Some(session) = shown(&request) {
        // The secret counts, not the id alone.
        if api.auth.knows(&session).await? {
            api.core.store.end_session(&session.id()).await?;
        }
    }
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, cookie(&request, "", Duration::ZERO))).finish())
}

/// Whether the request brings a session, good or not.
pub fn is_shown(request: &HttpRequest) -> bool {
    value(request).is_some()
}

/// The session that the request's cookie holds (RFC 6265, 5.4).
pub fn shown(request: &HttpRequest) -> Option<Credential> {
    Credential::parse(CredentialKind::Session, value(request)?)
}

fn value(request: &HttpRequest) -> Option<&str> {
    let headers = request.headers().get_all(COOKIE).filter_map(|value| value.to_str().ok());
    let mut cookies = headers.flat_map(|text| text.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, _)| *name == NAME).map(|(_, value)| value)
}

/// Only for this host, only over TLS where the browser has TLS, not for scripts, not for requests that other sites make.
fn cookie(request: &HttpRequest, value: &str, lasts: Duration) -> String {
    let forwarded = request.headers().get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let secure = if forwarded || request.app_config().secure() { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", lasts.as_secs())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_cookie_comes_back_as_it_was_given() {
        let session = Credential::new(CredentialKind::Session);
        let given = cookie(&TestRequest::post().to_http_request(), session.spell().expose(), LASTS);
        assert!(given.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200"), "{given}");
        let pair = given.split(';').next().unwrap();
        let shown_by = |header: &str| shown(&TestRequest::get().insert_header((COOKIE, header)).to_http_request());
        assert!(shown_by(&format!("other=1; {pair}; last=")).unwrap().matches(&session.hash()));
        for bad in ["", "longrun_session", "longrun_session=", "xlongrun_session=1", "longrun_session=lrk_0_0"] {
            assert!(shown_by(bad).is_none(), "{bad}");
        }
        let proxied = TestRequest::post().insert_header(("x-forwarded-proto", "https")).to_http_request();
        assert!(cookie(&proxied, "x", LASTS).ends_with("; Secure"));
    }
}
