//! Tokens: JWTs (RFC 7519) of the operator's identity provider, checked against its published keys (JWKS, RFC 7517).
//!
//! Which algorithm a key may be used with is decided by the key, never by the token's header (RFC 8725, 3.1): so there is
//! no `none`, no shared secret, and no public key that is taken for one. A header with `crit` is refused, since none of
//! the extensions it may name is understood here (RFC 7515, 4.1.11).

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::signatures;
use crate::{
    config::{self, SettingError},
    core::model::Role,
    tasks::outbound::{Endpoint, Limits, Request},
};

/// How often the keys are read.
const PERIOD: Duration = Duration::from_secs(300);
/// Between two readings for the sake of an unknown key id.
const PAUSE: Duration = Duration::from_secs(10);
/// How far the clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(30);
/// No token waits longer for a reading, and so many do at a time: a provider that hangs holds up nobody else.
const LOOK_UP: Duration = Duration::from_secs(2);
const WAITING: usize = 100;
/// A set of keys is a few kilobytes.
const LARGEST_SET: usize = 256 * 1024;
/// A subject longer than this is not one.
const LONGEST_SUBJECT: usize = 256;

/// See the module.
pub struct Tokens {
    issuer: String,
    audience: String,
    role_claim: String,
    source: Source,
    keys: RwLock<Arc<KeySet>>,
    /// One reading at a time; the last one.
    turn: tokio::sync::Mutex<Option<Reading>>,
    waiting: Semaphore,
}

/// A reading of the keys.
struct Reading {
    began: Instant,
    /// False as long as it goes on, too.
    has_succeeded: Arc<AtomicBool>,
}

/// Where the keys are published.
enum Source {
    File(String),
    Url(Box<Endpoint>),
}

#[derive(Default)]
struct KeySet {
    by_id: HashMap<String, Vec<Key>>,
}

/// A public key, and what it may be used with.
struct Key {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// Whom a token speaks for.
#[derive(Debug)]
pub struct Holder {
    /// `jwt:` and the subject, so that it is never the name of an API key.
    pub owner: String,
    /// What the token's role claim says; `user` where it says nothing.
    pub role: Role,
    /// When the token ends.
    pub ends: Instant,
}

/// Why a token is not taken. For the caller: it tells nothing that is not in the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not three parts, or not readable.
    #[error("The token cannot be read.")]
    Malformed,
    /// A header that asks for what is not understood here.
    #[error("The token's header asks for an extension that is not understood here.")]
    Critical,
    /// Its key id names no key of the issuer, or no key for its algorithm.
    #[error("The token is signed with a key or an algorithm that the issuer does not publish.")]
    UnknownKey,
    /// Signature, issuer, audience or time.
    #[error("The token is expired, meant for somebody else, or not signed by the issuer.")]
    Invalid,
    /// It names a key that may be new, and the issuer does not answer.
    #[error("The issuer's keys cannot be looked up just now. Try again after Retry-After seconds.")]
    NotNow,
    /// Its role claim names no role.
    #[error("The token's role is none of user, admin, monitor, worker.")]
    Role,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds, and perhaps a fraction (RFC 7519, 2).
    exp: f64,
    #[serde(flatten)]
    others: HashMap<String, serde_json::Value>,
}

impl Tokens {
    /// Reads the settings and, for the first time, the keys. `None` where no issuer is set.
    pub async fn new(settings: &config::Tokens) -> anyhow::Result<Option<Arc<Self>>> {
        let Some((issuer, audience, jwks)) = settings.required()? else { return Ok(None) };
        signatures::install();
        let jwks = jwks.expose();
        let source = if jwks.starts_with("http://") || jwks.starts_with("https://") {
            let endpoint = Endpoint::new(jwks).map_err(|why| SettingError::new(format!("APP_JWT_JWKS: {why}")))?;
            Source::Url(Box::new(endpoint))
        } else if jwks.contains("://") {
            return Err(SettingError::new("APP_JWT_JWKS: write https://… or the path of a file").into());
        } else {
            Source::File(jwks.to_owned())
        };
        let tokens = Arc::new(Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            role_claim: settings.jwt_role_claim.clone(),
            source,
            keys: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(WAITING),
        });
        let first = tokens.clone().refresh(Instant::now()).await;
        match (&tokens.source, first) {
            // A file that cannot be read is a mistake; a provider may be back in a minute.
            (Source::File(_), Err(error)) => {
                return Err(SettingError::new(format!("APP_JWT_JWKS: {error:#}")).into());
            }
            (Source::Url(_), Err(error)) => tracing::warn!("the keys of APP_JWT_JWKS cannot be read yet: {error:#}"),
            (_, Ok(_)) => {}
        }
        Ok(Some(tokens))
    }

    /// Reads the keys again and again. A reading that fails leaves the last keys in place.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PERIOD.mul_f64(rand::random_range(0.8..1.0))).await;
            if let Err(error) = self.clone().refresh(Instant::now()).await {
                tracing::warn!("the keys of APP_JWT_JWKS cannot be read, the last ones stay: {error:#}");
            }
        }
    }

    /// Whom the token speaks for.
    pub async fn holder(self: &Arc<Self>, token: &str) -> Result<Holder, Refusal> {
        // An algorithm that has no name there, `none` above all, ends here.
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Malformed)?;
        if header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        let (algorithm, kid) = (header.alg, header.kid.unwrap_or_default());
        let came = Instant::now();
        match self.judge(&self.present(), token, &kid, algorithm) {
            // The provider may have a new key since.
            Err(Refusal::UnknownKey) => {
                let _place = self.waiting.try_acquire().map_err(|_| Refusal::NotNow)?;
                match timeout(LOOK_UP, self.clone().refresh(came - PAUSE)).await {
                    Ok(Ok(true)) => self.judge(&self.present(), token, &kid, algorithm),
                    // The key may be one of those that could not be read, and who is told 401 does not come again.
                    Ok(Ok(false)) | Err(_) => Err(Refusal::NotNow),
                    Ok(Err(error)) => {
                        tracing::warn!("the keys of APP_JWT_JWKS cannot be read: {error:#}");
                        Err(Refusal::NotNow)
                    }
                }
            }
            judged => judged,
        }
    }

    fn judge(&self, keys: &KeySet, token: &str, kid: &str, algorithm: Algorithm) -> Result<Holder, Refusal> {
        let named = keys.by_id.get(kid).into_iter().flatten();
        let key = named.into_iter().find(|key| key.algorithms.contains(&algorithm)).ok_or(Refusal::UnknownKey)?;
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &validation).map_err(|_| Refusal::Invalid)?.claims;
        if claims.sub.is_empty() || claims.sub.len() > LONGEST_SUBJECT || claims.sub.chars().any(char::is_control) {
            return Err(Refusal::Invalid);
        }
        let role = match claims.others.get(&self.role_claim) {
            None => Role::User,
            Some(claim) => role_of(claim).ok_or(Refusal::Role)?,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = Duration::try_from_secs_f64(claims.exp.max(0.0)).unwrap_or(Duration::MAX).saturating_add(LEEWAY);
        let left = expires.saturating_sub(now).min(Duration::from_secs(24 * 3_600));
        Ok(Holder { owner: format!("jwt:{}", claims.sub), role, ends: Instant::now() + left })
    }

    fn present(&self) -> Arc<KeySet> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys, unless a reading has begun after `moment`. Whether the last one has succeeded; the error is told
    /// to whoever has read.
    async fn refresh(self: Arc<Self>, moment: Instant) -> anyhow::Result<bool> {
        let mut last = self.turn.lock().await;
        if let Some(reading) = last.as_ref().filter(|reading| reading.began > moment) {
            return Ok(reading.has_succeeded.load(Ordering::Acquire));
        }
        let has_succeeded = Arc::new(AtomicBool::new(false));
        *last = Some(Reading { began: Instant::now(), has_succeeded: has_succeeded.clone() });
        let this = self.clone();
        // Stored by the thread that has read it: whoever waits for it may have gone.
        let read = move || {
            let keys = this.source.read()?;
            *this.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            has_succeeded.store(true, Ordering::Release);
            Ok(true)
        };
        tokio::task::spawn_blocking(read).await?
    }
}

impl Source {
    /// Blocks.
    fn read(&self) -> anyhow::Result<KeySet> {
        let text = match self {
            Source::File(path) => fs::read(path).context("the file cannot be read")?,
            Source::Url(endpoint) => {
                let limits = Limits { total: Duration::from_secs(10), max_bytes: LARGEST_SET, ..Limits::default() };
                let answer = endpoint.client.send(&Request::get(&endpoint.url).limits(limits))?;
                anyhow::ensure!(answer.status == 200, "the provider answered {}", answer.status);
                answer.body
            }
        };
        KeySet::read(&text)
    }
}

impl KeySet {
    /// Keys of a kind that is not used here are left out, one by one: a set may hold some.
    fn read(text: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(text).context("it is no JWKS: an object with an array of keys")?;
        let mut by_id: HashMap<String, Vec<Key>> = HashMap::new();
        for jwk in set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()) {
            if let Some(key) = Key::of(&jwk) {
                by_id.entry(jwk.common.key_id.unwrap_or_default()).or_default().push(key);
            }
        }
        anyhow::ensure!(!by_id.is_empty(), "it has no key for RS, PS, ES or EdDSA signatures");
        Ok(Self { by_id })
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let fitting = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => vec![ES256],
                EllipticCurve::P384 => vec![ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => vec![EdDSA],
            // A shared secret in a published set is nobody's secret.
            _ => return None,
        };
        let algorithms: Vec<_> = match jwk.common.key_algorithm {
            None => fitting,
            Some(only) => fitting.into_iter().filter(|algorithm| KeyAlgorithm::from(*algorithm) == only).collect(),
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        (!algorithms.is_empty()).then_some(Self { key, algorithms })
    }
}

/// One word, or the most powerful of several.
fn role_of(claim: &serde_json::Value) -> Option<Role> {
    let words: Vec<&str> = match claim {
        serde_json::Value::String(word) => vec![word],
        serde_json::Value::Array(words) => words.iter().filter_map(|word| word.as_str()).collect(),
        _ => Vec::new(),
    };
    let strongest_first = [Role::Admin, Role::User, Role::Worker, Role::Monitor];
    strongest_first.into_iter().find(|role| words.contains(&role.as_str()))
}
