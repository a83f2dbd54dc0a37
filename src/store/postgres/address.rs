//! A `postgres://` URL: what of it the driver understands, and how the way to the database is encrypted.
//!
//! `sslmode` means what it means to libpq: `disable`, `prefer` (the default), `require` (encrypted, but with
//! whomever), `verify-ca` (a certificate of somebody we trust) and `verify-full` (and of this host). Whom we trust is
//! in the file `sslrootcert`, or is the system's choice without one.

use crate::store::StoreError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use std::error::Error as _;
use std::sync::Arc;
use tokio_postgres::config::SslMode;

/// Where the database is and how to speak to it.
pub(super) struct Address {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: ClientConfig,
}

/// How sure one has to be of whom one speaks to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Anybody,
    Known,
    KnownByName,
}

/// What is wrong with a URL.
struct Wrong {
    detail: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl From<Wrong> for StoreError {
    fn from(Wrong { detail, source }: Wrong) -> Self {
        Self::Unusable { detail: format!("store.url: {detail}"), source }
    }
}

/// Reads `url`. Errors name what is wrong and never quote the URL, which may hold a password.
pub(super) fn parse(url: &str) -> Result<Address, StoreError> {
    Ok(read(url)?)
}

/// Whether `url` can be read, or what is wrong with it and why, in the same manner.
pub(super) fn check(url: &str) -> Result<(), String> {
    let said = |Wrong { detail, source }: Wrong| source.map_or(detail.clone(), |why| format!("{detail}: {why}"));
    read(url).map(drop).map_err(said)
}

fn read(url: &str) -> Result<Address, Wrong> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut roots, mut rest) = ("prefer", None, Vec::new());
    if query.contains('@') {
        // Part of a password, most likely: as options it would be quoted.
        return Err(wrong(
            "there is an @ behind the ?: write %3F for a ? in a password, %40 for an @ in an option",
            None,
        ));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = value,
            Some(("sslrootcert", value)) => roots = Some(value),
            _ => rest.push(pair),
        }
    }
    let (ssl, trust) = match (mode, roots) {
        ("disable", _) => (SslMode::Disable, Trust::Anybody),
        ("prefer", _) => (SslMode::Prefer, Trust::Anybody),
        // As libpq: naming whom one trusts means to insist on it.
        ("require", None) => (SslMode::Require, Trust::Anybody),
        ("require" | "verify-ca", _) => (SslMode::Require, Trust::Known),
        ("verify-full", _) => (SslMode::Require, Trust::KnownByName),
        _ => return Err(wrong("sslmode must be disable, prefer, require, verify-ca or verify-full", None)),
    };
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    let mut config: tokio_postgres::Config = url.parse().map_err(|e: tokio_postgres::Error| {
        let why = e.source().map(|why| format!(": {why}")).unwrap_or_default();
        wrong(&format!("it is no PostgreSQL URL{why}"), None)
    })?;
    if config.get_hosts().is_empty() {
        return Err(wrong("it names no host", None));
    }
    config.ssl_mode(ssl);
    Ok(Address { config, tls: tls(trust, roots)? })
}

fn wrong(detail: &str, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> Wrong {
    Wrong { detail: detail.to_owned(), source }
}

fn tls(trust: Trust, roots: Option<&str>) -> Result<ClientConfig, Wrong> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let broken = |e: rustls::Error| wrong("TLS cannot be set up", Some(Box::new(e)));
    let verifier: Arc<dyn ServerCertVerifier> = match (trust, roots) {
        (Trust::Anybody, _) => Arc::new(Lenient { inner: None, provider: provider.clone() }),
        (_, None) => {
            let system: Arc<dyn ServerCertVerifier> = Arc::new(Verifier::new(provider.clone()).map_err(broken)?);
            by_name_or_not(trust, system, &provider)
        }
        (_, Some(file)) => {
            let file = percent_decoded(file);
            let unreadable =
                |e: rustls::pki_types::pem::Error| wrong(&format!("sslrootcert {file}"), Some(Box::new(e)));
            let mut store = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(&file).map_err(unreadable)? {
                store.add(certificate.map_err(unreadable)?).map_err(broken)?;
            }
            let ours = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
                .build()
                .map_err(|e| wrong(&format!("sslrootcert {file} holds no certificate"), Some(Box::new(e))))?;
            by_name_or_not(trust, ours, &provider)
        }
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(broken)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn by_name_or_not(
    trust: Trust,
    verifier: Arc<dyn ServerCertVerifier>,
    provider: &Arc<CryptoProvider>,
) -> Arc<dyn ServerCertVerifier> {
    match trust {
        Trust::KnownByName => verifier,
        _ => Arc::new(Lenient { inner: Some(verifier), provider: provider.clone() }),
    }
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let escaped = (byte == b'%').then(|| text.get(text.len() - bytes.len()..text.len() - bytes.len() + 2));
        match escaped.flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                out.push(value);
                bytes.nth(1);
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Takes any certificate, or any that `inner` trusts whatever name it is for. Signatures are checked always.
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<dyn ServerCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        parse(url).err().unwrap().to_string()
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (url, what) in [
            ("postgres://me:hunter2@h/db?sslmode=maybe", "sslmode must be"),
            ("postgres://me:hunter2@h:x/db", "no PostgreSQL URL"),
            ("postgres://me:hunter2@h:99999/db", "port"),
            ("postgres://me:hunter2@h/db?colour=red", "no PostgreSQL URL"),
            ("postgres://me:what?hunter2@h/db", "%3F"),
            ("postgres://me:what?hunter2=1@h/db", "%3F"),
            ("postgres://me:hunter2@h/db?sslmode=verify-ca&sslrootcert=/no/such", "/no/such"),
            ("postgres:///db", "no host"),
        ] {
            let said = refused(url);
            assert!(said.contains(what) && !said.contains("hunter2"), "{url}: {said}");
            let said = check(url).unwrap_err();
            assert!(said.contains(what) && !said.contains("hunter2") && !said.contains("store.url"), "{url}: {said}");
        }
    }

    #[test]
    fn modes_mean_what_they_mean_to_libpq() {
        for (query, mode) in [
            ("", SslMode::Prefer),
            ("?sslmode=disable", SslMode::Disable),
            ("?sslmode=prefer", SslMode::Prefer),
            ("?sslmode=require", SslMode::Require),
            ("?sslmode=verify-full&connect_timeout=3", SslMode::Require),
        ] {
            let address = parse(&format!("postgresql://me@h/db{query}")).unwrap();
            assert_eq!(address.config.get_ssl_mode(), mode, "{query}");
        }
        let address = parse("postgres://me@h/db?options=-csearch_path%3Done&sslmode=disable").unwrap();
        assert_eq!(address.config.get_options(), Some("-csearch_path=one"));
    }

    #[test]
    fn paths_may_be_escaped() {
        assert_eq!(percent_decoded("/a%20b%2"), "/a b%2");
        assert_eq!(percent_decoded("%zz%41"), "%zzA");
    }
}
