//! Secure: TLS on a connection to PostgreSQL, as `sslmode` and `sslrootcert` in its URL ask for (libpq, 34.19).

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Config, Socket,
    config::SslMode,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::{TlsConnector, client, rustls::pki_types::ServerName};
use url::Url;

use crate::{
    config::SettingError,
    tls::{self, Check, Roots},
};

/// How connections are made, and what of the server is checked.
#[derive(Clone)]
pub(super) struct Secure {
    connector: TlsConnector,
}

/// Takes what is about TLS out of a URL, which tokio-postgres knows a part of only, and leaves the rest to it.
pub(super) fn parse(url: &str) -> Result<(Config, Secure), SettingError> {
    let (rest, mode, roots) = split(url);
    let (mode, check) = match mode.as_deref() {
        Some("disable") => (SslMode::Disable, Check::Nothing),
        None | Some("prefer" | "allow") => (SslMode::Prefer, Check::Nothing),
        // As libpq has it: with a file of authorities, it is used.
        Some("require") if roots.is_some() => (SslMode::Require, Check::Authority),
        Some("require") => (SslMode::Require, Check::Nothing),
        Some("verify-ca") => (SslMode::Require, Check::Authority),
        Some("verify-full") => (SslMode::Require, Check::AuthorityAndName),
        // Not repeated: in a URL that is written wrongly it may be a part of the password.
        Some(_) => {
            return Err(SettingError::new(
                "DATABASE_URL has an sslmode that is not known: write disable, prefer, require, verify-ca or verify-full",
            ));
        }
    };
    let mut config: Config = rest.parse().map_err(|_| match wrong_parameter(&rest) {
        Some(name) => SettingError::new(format!("DATABASE_URL has a parameter that cannot be: {name}. Leave it out")),
        None => SettingError::new(
            "DATABASE_URL is not a PostgreSQL URL: write postgresql://user:password@host:port/database",
        ),
    })?;
    config.ssl_mode(mode);
    let roots = match roots.as_deref() {
        None => Roots::Web,
        Some(path) if path == Path::new("system") => Roots::Web,
        Some(path) => Roots::File(path),
    };
    let settings =
        tls::client(check, roots).map_err(|why| SettingError::new(format!("sslrootcert of DATABASE_URL: {why:#}")))?;
    Ok((config, Secure { connector: TlsConnector::from(settings) }))
}

/// The URL without `sslmode` and `sslrootcert`, and these. What is no URL is left as it is.
fn split(url: &str) -> (String, Option<String>, Option<PathBuf>) {
    let Ok(mut parsed) = Url::parse(url) else { return (url.to_owned(), None, None) };
    let (mut mode, mut roots, mut others) = (None, None, Vec::new());
    for (name, value) in parsed.query_pairs() {
        match &*name {
            "sslmode" => mode = Some(value.into_owned()),
            "sslrootcert" => roots = Some(PathBuf::from(value.into_owned())),
            _ => others.push((name.into_owned(), value.into_owned())),
        }
    }
    if mode.is_none() && roots.is_none() {
        return (url.to_owned(), None, None);
    }
    parsed.set_query(None);
    if !others.is_empty() {
        // Spaces as %20: PostgreSQL's URLs know no plus sign.
        let query: Vec<String> =
            others.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
        parsed.set_query(Some(&query.join("&")));
    }
    (parsed.into(), mode, roots)
}

/// The first parameter of a URL without which it could be used. Its name, which holds no secret; `None` when something
/// else is wrong.
fn wrong_parameter(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    // A password with a question mark in it, which is read as the beginning of the parameters.
    if url.split_once('?').is_none_or(|(_, query)| query.contains(['@', '%'])) {
        return None;
    }
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let alone = |name: &str, value: &str| {
        let mut with_one = parsed.clone();
        with_one.set_query(Some(&format!("{name}={}", escaped(value))));
        with_one.as_str().parse::<Config>().is_ok()
    };
    let mut without = parsed.clone();
    without.set_query(None);
    without.as_str().parse::<Config>().ok()?;
    let mut wrong = parsed.query_pairs().filter(|(name, value)| plain(name) && !alone(name, value));
    wrong.next().map(|(name, _)| name.into_owned())
}

fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

impl MakeTlsConnect<Socket> for Secure {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        // A socket of this machine has no name, and no TLS.
        Ok(Handshake { connector: self.connector.clone(), name: ServerName::try_from(host.to_owned()).ok() })
    }
}

/// One handshake to be made.
pub(super) struct Handshake {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Encrypted>>;

    fn connect(self, socket: Socket) -> Self::Future {
        async move {
            let name =
                self.name.ok_or_else(|| io::Error::other("the host has no name that a certificate could be for"))?;
            self.connector.connect(name, socket).await.map(|stream| Encrypted(Box::new(stream)))
        }
        .boxed()
    }
}

/// A connection under TLS.
pub(super) struct Encrypted(Box<client::TlsStream<Socket>>);

impl TlsStream for Encrypted {
    /// None: passwords go by SCRAM-SHA-256 without it, under the certificate that was checked.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_tls_is_taken_out_of_the_url() {
        let plain = "postgresql://u:p%40ss@h:1/d?connect_timeout=3";
        assert_eq!(split(plain), (plain.to_owned(), None, None));
        let (rest, mode, roots) =
            split("postgresql://u:p%40ss@h:1/d?options=-c%20a%3Db&sslmode=verify-full&sslrootcert=/a%20b/ca.pem");
        assert_eq!(rest, "postgresql://u:p%40ss@h:1/d?options=-c%20a%3Db");
        assert_eq!((mode.as_deref(), roots.as_deref()), (Some("verify-full"), Some(Path::new("/a b/ca.pem"))));
        let (config, _) = parse("postgresql://u:p%40ss@h:1/d?sslmode=require").unwrap();
        assert_eq!((config.get_ssl_mode(), config.get_password()), (SslMode::Require, Some(b"p@ss".as_slice())));
        let error = |url: &str| parse(url).err().unwrap().to_string();
        assert!(error("postgresql://u:secret@h/d?sslmode=strict").contains("verify-full"));
        assert!(!error("postgresql://u:secret@h/d?sslmode=require&nonsense=1").contains("secret"));
        assert!(error("postgresql://u:secret@h/d?gssencmode=disable").contains("gssencmode"));
        assert!(error("postgresql://u:secret@h/d?connect_timeout=abc&options=x").contains(": connect_timeout."));
        for url in [
            "postgresql://u:se?cret=@h/d?nope=1",
            "postgresql://u:12?cret=x@h/d?nope=1",
            "postgresql://u:?cret=x@h/d?sslmode=verify-full&nope=1",
            "postgresql://u:12?sslmode=cret@h/d",
        ] {
            assert!(!error(url).contains("cret"), "{}", error(url));
        }
        assert!(parse("postgresql://h/d?sslmode=verify-ca&sslrootcert=/no/such/file").is_err());
    }
}
