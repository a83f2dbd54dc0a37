//! Where a subscriber's deliveries go: what of it is the same for every attempt, and the way there.
//!
//! The guard sees every address before it is connected to. Addresses are tried as browsers do it: those of the family
//! that the resolver prefers in turn, and those of the other beside them when that takes long.

use super::connection::{Connection, Post, Stream, is_tls};
use super::guard::Guard;
use super::idle::Idle;
use super::outcome::Fault;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long the family of addresses that the resolver prefers is tried alone.
const ALONE: Duration = Duration::from_millis(300);

/// Why a URL leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it names no host that can be connected to")]
pub struct NoHost;

/// The receiver of one subscriber.
pub struct Receiver {
    host: Host,
    port: u16,
    guard: Guard,
    /// For https.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The request's target.
    path: Uri,
    /// What every request says.
    headers: HeaderMap,
    pub(super) idle: Idle,
}

/// Whom to connect to.
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Receiver {
    /// The receiver at `url`, over TLS if it says so; keeps up to `idle` connections.
    pub(super) fn new(url: &Uri, guard: Guard, tls: Option<TlsConnector>, idle: usize) -> Result<Self, NoHost> {
        let host = url.host().filter(|host| !host.is_empty()).ok_or(NoHost)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let usual = if tls.is_some() { 443 } else { 80 };
        let port = url.port_u16().unwrap_or(usual);
        let named = if port == usual { host.to_owned() } else { format!("{host}:{port}") };
        let tls = match tls {
            Some(connector) => Some((connector, ServerName::try_from(bare.to_owned()).map_err(|_| NoHost)?)),
            None => None,
        };
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("birdwire/", env!("CARGO_PKG_VERSION"))));
        headers.insert(HOST, HeaderValue::from_str(&named).map_err(|_| NoHost)?);
        Ok(Self {
            host: bare.parse().map_or_else(|_| Host::Name(bare.to_owned()), Host::Address),
            port,
            guard,
            tls,
            path: url.path_and_query().cloned().map(Uri::from).unwrap_or_default(),
            headers,
            idle: Idle::new(idle),
        })
    }

    /// A request without what is said of the single delivery.
    pub(super) fn post(&self, body: Bytes) -> Post {
        let mut request = Post::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Closes idle connections that are of no more use; to be called now and then.
    pub fn tend(&self) {
        self.idle.tend();
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Connection, Fault> {
        let tcp = connect(&self.addresses().await?).await.map_err(|_| Fault::Connect)?;
        // A request is written at once; nothing is gained by waiting for more.
        tcp.set_nodelay(true).ok();
        let stream = match &self.tls {
            Some((connector, name)) => {
                let secured = connector.connect(name.clone(), tcp).await;
                let secured = secured.map_err(|error| if is_tls(&error) { Fault::Tls } else { Fault::Connect })?;
                Stream::Right(Box::new(secured))
            }
            None => Stream::Left(tcp),
        };
        Connection::new(stream).await
    }

    /// The addresses that the guard allows.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Fault> {
        let mut addresses = match &self.host {
            Host::Address(address) => vec![SocketAddr::new(*address, self.port)],
            Host::Name(name) => match tokio::net::lookup_host((name.as_str(), self.port)).await {
                Ok(found) => found.collect(),
                Err(_) => return Err(Fault::Unresolved),
            },
        };
        addresses.retain(|address| self.guard.allows(address.ip()));
        if addresses.is_empty() { Err(Fault::Forbidden) } else { Ok(addresses) }
    }
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let is_first = |address: &SocketAddr| addresses.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4());
    let (preferred, others): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses.iter().partition(|a| is_first(a));
    if others.is_empty() {
        return TcpStream::connect(&*preferred).await;
    }
    let mut preferred = pin!(TcpStream::connect(&*preferred));
    match tokio::time::timeout(ALONE, &mut preferred).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(_)) => TcpStream::connect(&*others).await,
        Err(_) => {
            let mut others = pin!(TcpStream::connect(&*others));
            tokio::select! {
                first = &mut preferred => match first {
                    Ok(stream) => Ok(stream),
                    Err(_) => others.await,
                },
                first = &mut others => match first {
                    Ok(stream) => Ok(stream),
                    Err(_) => preferred.await,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn receiver(url: &str) -> Result<Receiver, NoHost> {
        Receiver::new(&url.parse().unwrap(), Guard::plain(&[]), None, 1)
    }

    #[test]
    fn requests_name_the_host_and_the_path_as_the_url_does() {
        for (url, host, path) in [
            ("http://crm.example", "crm.example", "/"),
            ("http://crm.example:80/", "crm.example", "/"),
            ("http://crm.example:8080/hook?a=b", "crm.example:8080", "/hook?a=b"),
            ("http://user:word@10.0.0.1/x/", "10.0.0.1", "/x/"),
            ("http://[::1]:81/", "[::1]:81", "/"),
        ] {
            let request = receiver(url).unwrap().post(Bytes::new());
            assert_eq!(request.headers()[HOST], host, "{url}");
            assert_eq!(request.uri(), path, "{url}");
        }
        assert_eq!(receiver("/nowhere").err(), Some(NoHost));
    }

    #[tokio::test]
    async fn the_other_family_is_tried_when_the_first_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let nobody = SocketAddr::new("::1".parse().unwrap(), 1);
        assert_eq!(connect(&[nobody, here]).await.unwrap().peer_addr().unwrap(), here);
        assert!(connect(&[nobody]).await.is_err());
    }

    type Certificate = rcgen::CertifiedKey<rcgen::KeyPair>;

    fn certificate() -> Certificate {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    /// Answers every request over TLS, and says on which connection it came.
    async fn answering(certificate: &Certificate) -> (u16, tokio::sync::mpsc::UnboundedReceiver<u16>) {
        use hyper::service::service_fn;
        let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (came, seen) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((tcp, peer)) = listener.accept().await {
                let (acceptor, came) = (acceptor.clone(), came.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let answer = service_fn(move |_| {
                        came.send(peer.port()).ok();
                        std::future::ready(Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(
                            Bytes::from_static(b"taken"),
                        ))))
                    });
                    let io = hyper_util::rt::TokioIo::new(tls);
                    hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await.ok();
                });
            }
        });
        (port, seen)
    }

    /// A receiver over TLS at `host`, by whoever trusts these certificates.
    fn secure(host: &str, port: u16, trusted: &[&Certificate]) -> Receiver {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in trusted {
            roots.add(certificate.cert.der().clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let guard = Guard::secure(&["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let url = format!("https://{host}:{port}/hook").parse().unwrap();
        Receiver::new(&url, guard, Some(TlsConnector::from(Arc::new(config))), 1).unwrap()
    }

    #[tokio::test]
    async fn a_connection_over_tls_takes_one_request_after_the_other() {
        let certificate = certificate();
        let (port, mut seen) = answering(&certificate).await;
        let receiver = secure("localhost", port, &[&certificate]);
        let mut connection = receiver.connect().await.unwrap();
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        for _ in 0..3 {
            let sent = connection.send(receiver.post(Bytes::from_static(b"{}")), end).await;
            let Ok(answer) = sent else { panic!("no answer") };
            assert_eq!(answer.status(), 200);
            assert!(connection.drain(answer.into_body(), end).await, "it can be used again");
        }
        let first = seen.recv().await.unwrap();
        assert_eq!((seen.recv().await, seen.recv().await), (Some(first), Some(first)));
    }

    #[tokio::test]
    async fn whoever_cannot_prove_its_name_gets_nothing() {
        let (mine, other) = (certificate(), certificate());
        let (port, mut seen) = answering(&mine).await;
        // Unknown, known but another, and under a name that is not in it.
        for (host, trusted) in [("localhost", &[][..]), ("localhost", &[&other]), ("127.0.0.1", &[&mine])] {
            assert_eq!(secure(host, port, trusted).connect().await.err(), Some(Fault::Tls), "{host}");
        }
        assert!(seen.try_recv().is_err());
    }
}
