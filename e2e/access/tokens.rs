//! Tokens: JWTs of an identity provider, good and forged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use crate::harness::{Client, Deployment, HttpServer, LONG, Reply, until};

const ISSUER: &str = "https://id.example";

/// A provider's key for ES256.
struct Signer {
    pair: EcdsaKeyPair,
    kid: &'static str,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap();
        Self { pair, kid }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "alg": "ES256", "x": x, "y": y})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", base64url(signature.as_ref()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "typ": "JWT", "kid": self.kid}), claims)
    }
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |number, at| number << 8 | u32::from(piece.get(at).copied().unwrap_or(0)));
        for digit in 0..=piece.len() {
            text.push(char::from(DIGITS[(number >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// Claims as they should be, with some of them changed; null leaves one out.
fn claims(changes: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": "longrun", "sub": "alice", "exp": now() + 600});
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn status(client: &Client, token: &str, path: &str) -> u16 {
    client.with_key(token).status("GET", path, None)
}

/// A deployment that takes the tokens of the provider whose keys are published there.
fn deployment(jwks: &str) -> Deployment<'static> {
    Deployment::new()
        .set("APP_JWT_ISSUER", ISSUER)
        .set("APP_JWT_AUDIENCE", "longrun")
        .set("APP_JWT_JWKS", jwks)
        .set("APP_JWT_ROLE_CLAIM", "roles")
}

#[test]
fn good_tokens_come_in_with_their_role_and_forged_ones_do_not() {
    let signer = Signer::new("one");
    let file = crate::harness::new_folder("jwks").join("jwks.json");
    let secret = json!({"kty": "oct", "kid": "shared", "k": base64url(b"not so secret"), "alg": "HS256"});
    std::fs::write(&file, json!({"keys": [signer.jwk(), secret, {"kty": "strange"}]}).to_string()).unwrap();
    let deployment = deployment(file.to_str().unwrap());
    let mut serve = deployment.serve();
    let client = serve.client();

    for (roles, list, pause) in [
        (Value::Null, 200, 403),
        (json!("user"), 200, 403),
        (json!("admin"), 200, 200),
        (json!(["nonsense", "monitor", "admin"]), 200, 200),
        (json!("monitor"), 403, 403),
        (json!("worker"), 403, 403),
        (json!("root"), 401, 401),
        (json!(["root"]), 401, 401),
        (json!([]), 401, 401),
        (json!(7), 401, 401),
    ] {
        let token = signer.token(&claims(json!({"roles": roles})));
        assert_eq!(status(&client, &token, "/tasks"), list, "{roles}");
        assert_eq!(client.with_key(&token).status("POST", "/queues/default/pause", None), pause, "{roles}");
    }
    let alice = client.with_key(&signer.token(&claims(json!({}))));
    let bob = client.with_key(&signer.token(&claims(json!({"sub": "bob", "aud": ["other", "longrun"]}))));
    let id = alice.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    assert_eq!(bob.status("GET", &format!("/tasks/{id}"), None), 404);
    assert_eq!(deployment.sql().value::<String>("SELECT owner FROM tasks", &[]), "jwt:alice");

    let good = signer.token(&claims(json!({})));
    let [header, body, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let stranger = Signer::new("one");
    let hs256 = |key: &[u8], kid: &str| {
        let message = message(&json!({"alg": "HS256", "kid": kid}), &claims(json!({})));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        format!("{message}.{}", base64url(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
    };
    let with_header = |header: Value| signer.sign(&header, &claims(json!({})));
    let forged = [
        ("alg none", format!("{}.", message(&json!({"alg": "none"}), &claims(json!({}))))),
        ("alg None", format!("{}.", message(&json!({"alg": "None", "kid": "one"}), &claims(json!({}))))),
        (
            "alg none with a signature",
            format!("{}.{signature}", message(&json!({"alg": "none", "kid": "one"}), &claims(json!({})))),
        ),
        ("the public key as a secret", hs256(signer.pair.public_key().as_ref(), "one")),
        ("the public key's text as a secret", hs256(signer.jwk().to_string().as_bytes(), "one")),
        ("a published secret", hs256(b"not so secret", "shared")),
        ("an empty secret", hs256(b"", "shared")),
        ("another algorithm for the key", with_header(json!({"alg": "ES384", "kid": "one"}))),
        ("RSA with a curve's key", with_header(json!({"alg": "RS256", "kid": "one"}))),
        ("EdDSA with another curve's key", with_header(json!({"alg": "EdDSA", "kid": "one"}))),
        ("an unknown key id", with_header(json!({"alg": "ES256", "kid": "two"}))),
        ("no key id", with_header(json!({"alg": "ES256"}))),
        ("a key of its own in the header", with_header(json!({"alg": "ES256", "jwk": signer.jwk()}))),
        ("somebody else's key", stranger.token(&claims(json!({})))),
        (
            "its own key by header",
            stranger.sign(&json!({"alg": "ES256", "kid": "one", "jwk": stranger.jwk()}), &claims(json!({}))),
        ),
        ("a key to be fetched", with_header(json!({"alg": "ES256", "jku": "http://127.0.0.1:1/", "kid": "x"}))),
        ("an unknown critical header", with_header(json!({"alg": "ES256", "kid": "one", "crit": ["exp2"], "exp2": 1}))),
        ("a known critical header", with_header(json!({"alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false}))),
        ("an empty critical header", with_header(json!({"alg": "ES256", "kid": "one", "crit": []}))),
        ("a critical header that is no list", with_header(json!({"alg": "ES256", "kid": "one", "crit": "b64"}))),
        ("no algorithm", with_header(json!({"kid": "one"}))),
        ("an array for a header", with_header(json!([]))),
        (
            "a changed body",
            format!("{header}.{}.{signature}", base64url(claims(json!({"sub": "root"})).to_string().as_bytes())),
        ),
        ("no signature", format!("{header}.{body}.")),
        ("a cut signature", format!("{header}.{body}.{}", &signature[..signature.len() - 4])),
        ("two parts", format!("{header}.{body}")),
        ("four parts", format!("{good}.x")),
        ("five parts, as an encrypted token has", format!("{header}.{body}.{signature}.x.y")),
        ("points alone", "..".to_owned()),
        ("another issuer", signer.token(&claims(json!({"iss": "https://evil.example"})))),
        ("an issuer that begins alike", signer.token(&claims(json!({"iss": format!("{ISSUER}.evil.example")})))),
        ("no issuer", signer.token(&claims(json!({"iss": null})))),
        ("another audience", signer.token(&claims(json!({"aud": "other"})))),
        ("other audiences", signer.token(&claims(json!({"aud": ["a", "b"]})))),
        ("no audience", signer.token(&claims(json!({"aud": null})))),
        ("expired", signer.token(&claims(json!({"exp": now() - 120})))),
        ("no end", signer.token(&claims(json!({"exp": null})))),
        ("an end in words", signer.token(&claims(json!({"exp": "never"})))),
        ("an end below zero", signer.token(&claims(json!({"exp": -1})))),
        ("not yet", signer.token(&claims(json!({"nbf": now() + 600})))),
        ("not yet, in words", signer.token(&claims(json!({"nbf": "later"})))),
        ("no subject", signer.token(&claims(json!({"sub": null})))),
        ("an empty subject", signer.token(&claims(json!({"sub": ""})))),
        ("a subject that is a number", signer.token(&claims(json!({"sub": 7})))),
        ("a subject with U+0000", signer.token(&claims(json!({"sub": "a\u{0}b"})))),
        ("a subject of a page", signer.token(&claims(json!({"sub": "x".repeat(300)})))),
    ];
    for (what, token) in &forged {
        assert_eq!(status(&client, token, "/tasks"), 401, "{what}");
    }
    // A browser signs in with one too, and only until it ends.
    let answer = client.post("/session", json!({"key": good}).to_string(), &[]).expect(200);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(client.request("GET", "/session", &[("cookie", &cookie)]).expect(200).json()["name"], "jwt:alice");
    let left: f64 =
        deployment.sql().value("SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM sessions", &[]);
    assert!((500.0..700.0).contains(&left), "the session lasts {left} s");
    // Without tokens nobody comes in: an issuer closes the server as a key does.
    assert_eq!(client.status("GET", "/tasks", None), 401);
    println!("{} forged tokens refused", forged.len());
}

#[test]
fn keys_are_fetched_by_url_and_a_new_one_is_found() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let sets = [json!({"keys": [old.jwk()]}), json!({"keys": [old.jwk(), new.jwk()]})].map(|set| set.to_string());
    let provider = HttpServer::start(move |_, earlier| {
        Reply::Whole(
            200,
            vec![("content-type", "application/json".to_owned())],
            sets[earlier.min(1)].clone().into_bytes(),
        )
    });
    let deployment = deployment(&provider.url("/jwks"));
    let mut serve = deployment.serve();
    let client = serve.client();
    assert_eq!(status(&client, &old.token(&claims(json!({}))), "/tasks"), 200);
    assert_eq!(provider.requests().len(), 1);
    until("the new key is found", LONG, || {
        (status(&client, &new.token(&claims(json!({}))), "/tasks") == 200).then_some(())
    });
    // Unknown ids do not make it ask again and again.
    for _ in 0..20 {
        assert_eq!(status(&client, &Signer::new("none").token(&claims(json!({}))), "/tasks"), 401);
    }
    assert!(provider.requests().len() <= 3, "{} requests", provider.requests().len());
    // The end of a stream is the end of the token.
    let short = client.with_key(&new.token(&claims(json!({"exp": now() - 15}))));
    let id = short.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    drop(short.stream(&id, None).rest());
    until("a poll is held, and ends with its token", LONG, || {
        let short = client.with_key(&new.token(&claims(json!({"exp": now() - 24}))));
        // On a busy machine the token may be over before the poll begins, which is told in other words.
        let ended = short.fetch(&format!("/tasks/{id}?wait=50")).expect(401);
        (ended.json()["detail"] == "The key was revoked or has expired.").then_some(())
    });
}

/// 401 would tell the holders of tokens that are signed with a new key to give up.
#[test]
fn a_new_key_is_not_judged_while_the_provider_gives_none() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let [first, later] =
        [json!({"keys": [old.jwk()]}), json!({"keys": [old.jwk(), new.jwk()]})].map(|set| set.to_string());
    let is_back = Arc::new(AtomicBool::new(false));
    let answers = is_back.clone();
    let provider = HttpServer::start(move |_, earlier| {
        let whole = |status, text: &str| Reply::Whole(status, Vec::new(), text.as_bytes().to_vec());
        match (earlier, answers.load(Ordering::Relaxed)) {
            (0, _) => whole(200, &first),
            (_, true) => whole(200, &later),
            (1, false) => Reply::Silence,
            (_, false) => whole(500, "not now"),
        }
    });
    let deployment = deployment(&provider.url("/jwks"));
    let mut serve = deployment.serve();
    let client = serve.client();
    let shown = |signer: &Signer| status(&client, &signer.token(&claims(json!({}))), "/tasks");
    // The keys have just been read, and are not read again for a moment.
    until("the provider is asked, and says nothing", LONG, || (shown(&new) == 503).then_some(()));
    for asked in [2, 3] {
        until("the provider is asked once more", LONG, || {
            assert_eq!(shown(&new), 503, "after {} readings", provider.asked());
            (provider.asked() >= asked).then_some(())
        });
        assert_eq!((shown(&new), shown(&old)), (503, 200));
    }
    is_back.store(true, Ordering::Relaxed);
    until("the new key is found", LONG, || (shown(&new) == 200).then_some(()));
    assert_eq!(shown(&Signer::new("none")), 401, "from here on an unknown key is one");
}

#[test]
fn settings_that_cannot_work() {
    let finished = Deployment::new().set("APP_JWT_ISSUER", ISSUER).run(&["serve"]);
    assert!(finished.code == Some(2) && finished.stderr.contains("APP_JWT_AUDIENCE"), "{}", finished.output());
    for jwks in ["/no/such/file", "ftp://id.example/jwks"] {
        let finished = deployment(jwks).run(&["serve"]);
        assert!(finished.code == Some(2) && finished.stderr.contains("APP_JWT_JWKS"), "{}", finished.output());
    }
}
