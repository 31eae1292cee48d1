//! Certificates: an authority of the test's own, and a certificate for `localhost` and no other name, made by openssl.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::watchdog;

/// An authority and a server's certificate.
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes both, good for two days.
    pub fn new() -> Self {
        let folder = watchdog::new_folder("certificates");
        let this = Self { folder };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let authority = ["-x509", "-days", "2", "-subj", "/CN=authority", "-addext", "keyUsage=critical,keyCertSign"];
        this.openssl("req", &[&key[..], &authority, &["-keyout", "ca.key", "-out", "ca.pem"]].concat());
        this.openssl(
            "req",
            &[&key[..], &["-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"]].concat(),
        );
        std::fs::write(this.folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
        let signed = ["-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        this.openssl("x509", &[&signed[..], &["-days", "2", "-extfile", "names", "-out", "server.pem"]].concat());
        this
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// Its private key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// Copies certificate and key to where a server with a user of its own can read them, and names the copies.
    pub fn copy_to(&self, folder: &Path) -> [PathBuf; 2] {
        ["server.pem", "server.key"].map(|name| {
            std::fs::copy(self.folder.join(name), folder.join(name)).unwrap();
            folder.join(name)
        })
    }

    fn openssl(&self, command: &str, arguments: &[&str]) {
        let done = Command::new("openssl").arg(command).args(arguments).current_dir(&self.folder).output();
        let done = done.expect("openssl runs: scripts/deps clients installs it");
        assert!(done.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
