//! Auth: finds out who asks: by an API key, by a browser's session, or by a token of an identity provider.

mod keyring;
mod signatures;
pub mod tokens;

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
};
use anyhow::bail;
use tokio::time::Instant;

use super::{
    caller::{Caller, Ends, SignIn},
    problem::{Code, Problem},
    same_site, session,
};
use crate::{
    config,
    core::{
        credential::{Credential, CredentialKind},
        store::Store,
    },
};
use keyring::{Keyring, Keys};
use tokens::{Refusal, Tokens};

/// No token or key is longer.
const LONGEST_BEARER: usize = 8 * 1024;
/// How often the keys are read before a server that others can reach counts as one without keys.
const FIRST_READINGS: usize = 3;

/// Who may come in.
pub struct Auth {
    keyring: Arc<Keyring>,
    tokens: Option<Arc<Tokens>>,
    /// What happens while there is no key at all.
    without_keys: WithoutKeys,
}

/// What a server does that has no key and no tokens to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutKeys {
    /// Everybody is an administrator, as long as they reach it by a name of this machine.
    OpenHere,
    /// Everybody is an administrator: the operator has said so.
    Open,
    /// Nobody comes in.
    Closed,
}

impl Auth {
    /// Reads the keys, and refuses to open a server to others that has none.
    pub async fn new(store: &Store, http: &config::Http, tokens: Option<Arc<Tokens>>) -> anyhow::Result<Self> {
        let keyring = Arc::new(Keyring::new(store)?);
        let without_keys = match (http.allow_anonymous, http.bind.ip().is_loopback()) {
            (true, _) => WithoutKeys::Open,
            (false, true) => WithoutKeys::OpenHere,
            (false, false) => WithoutKeys::Closed,
        };
        let mut has_keys = keyring.refresh().await.map(|keys| keys.is_configured);
        for _ in 1..FIRST_READINGS {
            // A machine that is just starting is slow, and "there is no key" must not be said for that.
            if has_keys.is_err() {
                has_keys = keyring.refresh().await.map(|keys| keys.is_configured);
            }
        }
        if without_keys == WithoutKeys::Closed && tokens.is_none() && !matches!(has_keys, Ok(true)) {
            bail!(
                "APP_BIND is {}, which others can reach, and there is no key yet: every caller would be an \
                 administrator. Run app migrate and make a key with app keys create, or bind to 127.0.0.1, or accept \
                 that with --allow-anonymous (APP_ALLOW_ANONYMOUS=true)",
                http.bind
            );
        }
        Ok(Self { keyring, tokens, without_keys })
    }

    /// Keeps the keys fresh until the future is dropped.
    pub fn keep_fresh(&self) -> impl Future<Output = ()> + use<> {
        let (keyring, tokens) = (self.keyring.clone(), self.tokens.clone());
        async move {
            match tokens {
                None => keyring.keep_fresh().await,
                Some(tokens) => drop(tokio::join!(keyring.keep_fresh(), tokens.keep_fresh())),
            }
        }
    }

    /// Who sends this request, or why it may not come in.
    pub async fn identify(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        if self.may_be_open() {
            let mut keys = self.keyring.last().await?;
            if self.lets_everybody_in(&keys) && shows_key(request) {
                // Somebody has a key that we have not seen: the server may be closed by now.
                keys = self.keyring.newer_than(Instant::now()).await?;
            }
            if self.lets_everybody_in(&keys) {
                same_site::check(request)?;
                if self.without_keys == WithoutKeys::OpenHere {
                    same_site::check_host(request)?;
                }
                return Ok(Caller::anonymous(Ends::with(keys.anonymous.clone())));
            }
        }
        if let Some(bearer) = bearer(request)? {
            return self.recognise(bearer).await;
        }
        if !session::is_shown(request) {
            return Err(unauthorized("Send a key: Authorization: Bearer lrk_…."));
        }
        same_site::check(request)?;
        let ended = || unauthorized("The session has ended: sign in again.");
        let credential = session::shown(request).ok_or_else(ended)?;
        let holder = self.keyring.find(&credential, CredentialKind::Session).await?.ok_or_else(ended)?;
        let sign_in = SignIn::Session(credential.id());
        Ok(Caller::new(holder.owner, holder.role, sign_in, Ends::with(holder.ends)))
    }

    /// Whether this session is good.
    pub async fn knows(&self, session: &Credential) -> Result<bool, Problem> {
        Ok(self.keyring.find(session, CredentialKind::Session).await?.is_some())
    }

    /// The holder of a key or a token.
    pub async fn recognise(&self, bearer: &str) -> Result<Caller, Problem> {
        let wrong = || invalid_token("The key is unknown, revoked or expired.");
        let Some(credential) = Credential::parse(CredentialKind::Key, bearer) else {
            let tokens = self.tokens.as_ref().filter(|_| bearer.contains('.')).ok_or_else(wrong)?;
            let holder = tokens.holder(bearer).await.map_err(|refusal| match refusal {
                // Not an answer about the token: its holder is to come again.
                Refusal::NotNow => Problem::new(Code::Unavailable, refusal.to_string()),
                refusal => invalid_token(&refusal.to_string()),
            })?;
            return Ok(Caller::new(holder.owner, holder.role, SignIn::Token, Ends::at(holder.ends)));
        };
        let holder = self.keyring.find(&credential, CredentialKind::Key).await?.ok_or_else(wrong)?;
        let sign_in = SignIn::Key(credential.id());
        Ok(Caller::new(holder.owner, holder.role, sign_in, Ends::with(holder.ends)))
    }

    /// Whether anybody can sign in at all.
    pub async fn is_open(&self) -> Result<bool, Problem> {
        Ok(self.may_be_open() && self.lets_everybody_in(&*self.keyring.last().await?))
    }

    fn lets_everybody_in(&self, keys: &Keys) -> bool {
        !keys.is_configured && self.may_be_open()
    }

    /// Whether it depends on the keys that there are. Where it does not, a token is judged without PostgreSQL.
    fn may_be_open(&self) -> bool {
        self.tokens.is_none() && self.without_keys != WithoutKeys::Closed
    }
}

/// Whether the request brings something that looks like a key of ours.
fn shows_key(request: &HttpRequest) -> bool {
    let key = bearer(request).ok().flatten().and_then(|bearer| Credential::parse(CredentialKind::Key, bearer));
    key.is_some() || session::shown(request).is_some()
}

/// The token of the `Authorization` header (RFC 6750, 2.1), where there is one.
fn bearer(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let (value, more) = (values.next(), values.next());
    let Some(value) = value else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| more.is_none());
    let token = text.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = token.map(|(_, token)| token.trim()).filter(|token| (1..=LONGEST_BEARER).contains(&token.len()));
    token.map(Some).ok_or_else(|| invalid_token("The header must read: Authorization: Bearer and one key."))
}

/// What somebody showed was good, and is no more.
pub fn no_longer() -> Problem {
    invalid_token("The key was revoked or has expired.")
}

/// Nobody has said who they are.
fn unauthorized(detail: &str) -> Problem {
    challenge(detail, "Bearer realm=\"longrun\"")
}

/// What was shown is not good.
fn invalid_token(detail: &str) -> Problem {
    challenge(detail, "Bearer realm=\"longrun\", error=\"invalid_token\"")
}

fn challenge(detail: &str, challenge: &'static str) -> Problem {
    Problem::new(Code::Unauthorized, detail).with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
