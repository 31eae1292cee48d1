//! TLS: to PostgreSQL, to Redis, and of `serve` itself, each with a certificate that only its own authority has signed.

use serde_json::json;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::harness::{App, Certificates, Deployment, LONG, Services, until};

/// A URL of PostgreSQL with this host and these words about TLS.
fn database(deployment: &Deployment, host: &str, about: &str) -> String {
    format!("{}?{about}", deployment.database_url().replacen("127.0.0.1", host, 1))
}

#[test]
fn postgresql_and_redis_are_spoken_to_under_tls() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let services = Services::private_with_tls(&certificates);
    let deployment = Deployment::on(&services);
    let [authority, wrong] = [&certificates, &stranger].map(|c| c.authority().display().to_string());
    let secure = database(&deployment, "localhost", &format!("sslmode=verify-full&sslrootcert={authority}"));
    let redis = services.redis.tls_url(services.take_redis_database());
    let settings =
        [("DATABASE_URL", secure.as_str()), ("REDIS_URL", redis.as_str()), ("APP_REDIS_CA", authority.as_str())];
    let (mut serve, mut work) = (deployment.serve_with(&settings), deployment.work_with(&settings));
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&id, "SUCCESS", LONG);
    let encrypted: Vec<bool> = deployment
        .sql()
        .rows(
            "SELECT s.ssl FROM pg_stat_activity a JOIN pg_stat_ssl s ON s.pid = a.pid
             WHERE a.application_name = 'longrun' AND a.datname = current_database()",
            &[],
        )
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(encrypted.len() >= 2 && encrypted.iter().all(|ssl| *ssl), "{encrypted:?}");
    client.fetch("/readyz").expect(200);
    assert_eq!(client.fetch("/readyz").json()["redis"], "ok");
    for app in [&serve, &work] {
        assert!(!app.stderr().contains("Redis is away"), "{}", app.stderr());
    }
    serve.stop();
    work.stop();

    // What each mode lets through: the host, the words, and what goes wrong, if anything.
    let file = |path: &str| format!("&sslrootcert={path}");
    for (host, about, refused) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), None),
        ("127.0.0.1", "sslmode=prefer".to_owned(), None),
        ("127.0.0.1", "sslmode=require".to_owned(), None),
        ("127.0.0.1", format!("sslmode=require{}", file(&authority)), None),
        ("127.0.0.1", format!("sslmode=verify-ca{}", file(&authority)), None),
        ("localhost", format!("sslmode=verify-full{}", file(&authority)), None),
        ("127.0.0.1", format!("sslmode=verify-full{}", file(&authority)), Some("not valid for name")),
        ("localhost", format!("sslmode=verify-full{}", file(&wrong)), Some("certificate")),
        ("127.0.0.1", format!("sslmode=verify-ca{}", file(&wrong)), Some("certificate")),
        ("127.0.0.1", format!("sslmode=require{}", file(&wrong)), Some("certificate")),
        ("localhost", "sslmode=verify-full".to_owned(), Some("certificate")),
        ("localhost", "sslmode=verify-full&sslrootcert=system".to_owned(), Some("certificate")),
        ("localhost", format!("sslmode=verify-full{}", file("/no/such/file")), Some("/no/such/file")),
        ("localhost", "sslmode=strict".to_owned(), Some("verify-full")),
    ] {
        let url = database(&deployment, host, &about);
        // It waits for a server that may still be starting: one look at its log is enough.
        let mut app = deployment.start_with(&["migrate", "--check"], &[("DATABASE_URL", &url)]);
        match refused {
            None => assert_eq!(app.wait_exit(LONG).code(), Some(0), "{about}: {}", app.stderr()),
            Some(words) => until(&format!("{about} is refused"), LONG, || says(&app, words).then_some(())),
        }
    }

    // Redis of another authority is as good as away: everything works, later.
    let settings = [("REDIS_URL", redis.as_str()), ("APP_REDIS_CA", wrong.as_str())];
    let mut serve = deployment.serve_with(&settings);
    assert_eq!(serve.client().fetch("/readyz").expect(200).json()["redis"], "degraded");
}

/// Without TLS on the other side, a mode that asks for it does not go on without.
#[test]
fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let deployment = Deployment::new();
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = database(&deployment, "127.0.0.1", &format!("sslmode={mode}"));
        let app = deployment.start_with(&["migrate", "--check"], &[("DATABASE_URL", &url)]);
        until(&format!("{mode} is refused"), LONG, || says(&app, "TLS").then_some(()));
    }
}

fn says(app: &App, words: &str) -> bool {
    app.stderr().to_lowercase().contains(&words.to_lowercase())
}

#[test]
fn serve_speaks_tls_itself() {
    let certificates = Certificates::new();
    let deployment = Deployment::new()
        .set("APP_TLS_CERT", certificates.certificate().display())
        .set("APP_TLS_KEY", certificates.key().display());
    let mut serve = deployment.serve();
    let address = serve.address();
    let authority = std::fs::read(certificates.authority()).unwrap();
    let roots = RootCerts::Specific(std::sync::Arc::new(vec![Certificate::from_pem(&authority).unwrap()]));
    let agent = ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .proxy(None)
        .build()
        .new_agent();
    let url = format!("https://localhost:{}/livez", address.port());
    let answer = agent.get(&url).call().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(ureq::Agent::config_builder().proxy(None).build().new_agent().get(&url).call().is_err(), "a stranger's");
    assert!(deployment.run(&["health"]).code == Some(1), "health looks at APP_BIND, which is port 0 here");

    let wrong = Deployment::new()
        .set("APP_TLS_CERT", certificates.certificate().display())
        .set("APP_TLS_KEY", Certificates::new().key().display())
        .run(&["serve"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("APP_TLS_CERT"), "{}", wrong.output());
}
