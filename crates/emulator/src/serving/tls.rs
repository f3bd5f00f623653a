//! TLS with a certificate that nobody has to make.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::server::TlsStream;

use crate::error::Error;

const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate for `localhost`, 127.0.0.1 and ::1, signed by an authority that was made for it and signs nothing else.
/// The keys never leave the process.
#[derive(Clone)]
pub struct Certificate {
    authority_pem: String,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("authority_pem", &self.authority_pem).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Makes a new authority and a certificate of it.
    ///
    /// # Errors
    /// No keys can be made.
    pub fn self_signed() -> Result<Self, Error> {
        let failed = |source: rcgen::Error| Error::Certificate(Box::new(source));
        let authority_key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kinesink local authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = params.self_signed(&authority_key).map_err(failed)?;
        let issuer = Issuer::new(params, authority_key);

        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(NAMES.map(str::to_owned)).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, "kinesink local");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;

        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key));
        let mut config = config.map_err(|source| Error::Certificate(Box::new(source)))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { authority_pem: authority.pem(), config: Arc::new(config) })
    }

    /// The authority's certificate, which a client has to trust, in PEM.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// The connection, unless the client is none, or does not trust the certificate.
pub(super) async fn shake_hands(
    acceptor: TlsAcceptor,
    connection: TcpStream,
    address: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(connection)).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%address, "a TLS handshake took too long");
            None
        }
    }
}
