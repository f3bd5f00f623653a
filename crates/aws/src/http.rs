//! The HTTP client of all SDK clients: the SDK's own, which names where it could not get, and trusts `AWS_CA_BUNDLE`.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use http::Uri;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::Error;

/// Certificates that are trusted instead of the system's, as every AWS SDK takes it.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// The client, with proxies from the environment as in the SDK's.
pub(crate) fn client() -> Result<SharedHttpClient, Error> {
    let tls = TlsContext::builder().with_trust_store(trust_store()?).build();
    let tls = tls.map_err(|error| Error::CaBundle { path: ca_bundle().unwrap_or_default(), why: error.to_string() })?;
    let plain = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector =
            Connector::builder().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    Ok(SharedHttpClient::new(NamingClient(plain)))
}

fn ca_bundle() -> Option<PathBuf> {
    std::env::var_os(CA_BUNDLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn trust_store() -> Result<TrustStore, Error> {
    let Some(path) = ca_bundle() else { return Ok(TrustStore::default()) };
    let refuse = |why: String| Error::CaBundle { path: path.clone(), why };
    let pem = std::fs::read(&path).map_err(|error| refuse(error.to_string()))?;
    // The SDK would panic over what it cannot use.
    let mut usable = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refuse(format!("it is not PEM: {error}")))?;
        usable.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if usable.is_empty() {
        return Err(refuse("it holds no certificate in PEM".into()));
    }
    Ok(TrustStore::empty().with_pem_certificate(pem))
}

/// Says in each failure which address was asked.
#[derive(Debug)]
struct NamingClient(SharedHttpClient);

impl HttpClient for NamingClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(NamingConnector(self.0.http_connector(settings, components)))
    }
}

#[derive(Debug)]
struct NamingConnector(SharedHttpConnector);

impl HttpConnector for NamingConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let place = origin(request.uri());
        let reply = self.0.call(request);
        HttpConnectorFuture::new(async move { reply.await.map_err(|error| named(error, place)) })
    }
}

/// Scheme, host and port: what stands behind them is the request's.
fn origin(uri: &str) -> String {
    let parsed = uri.parse::<Uri>().ok();
    let parts = parsed.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    parts.map_or_else(|| "an address that is none".into(), |(scheme, authority)| format!("{scheme}://{authority}"))
}

fn named(error: ConnectorError, place: String) -> ConnectorError {
    let (is_timeout, is_io, is_user) = (error.is_timeout(), error.is_io(), error.is_user());
    let kind = error.as_other();
    let source: BoxError = Box::new(NoAnswer { place, source: error.into_source() });
    match () {
        () if is_timeout => ConnectorError::timeout(source),
        () if is_io => ConnectorError::io(source),
        () if is_user => ConnectorError::user(source),
        () => ConnectorError::other(source, kind),
    }
}

/// No reply came from there.
#[derive(Debug)]
struct NoAnswer {
    place: String,
    source: BoxError,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer from {}", self.place)
    }
}

impl StdError for NoAnswer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_request_leaves_its_path_out() {
        assert_eq!(origin("https://host:1/a/b?c"), "https://host:1");
        assert_eq!(origin("http://[::1]:9"), "http://[::1]:9");
    }
}
