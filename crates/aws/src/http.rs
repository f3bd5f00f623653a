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

/// Refuses what cannot be the address of a service, saying what it is the endpoint of.
///
/// # Errors
/// [`Error::Endpoint`], which shows the address unless it holds a password.
pub fn check_endpoint(service: &str, url: &str) -> Result<(), Error> {
    let refuse =
        |shown: &str, why: &'static str| Err(Error::Endpoint { service: service.into(), url: shown.into(), why });
    if url.contains('@') {
        return refuse("...@...", "credentials do not stand in it");
    }
    match url.parse::<Uri>() {
        Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => {
            refuse(url, "it does not begin with http:// or https://")
        }
        Ok(uri) if uri.host().is_none_or(str::is_empty) => refuse(url, "it names no host"),
        Ok(_) => Ok(()),
        Err(_) => refuse(url, "it is not a URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_with_scheme_and_host_and_no_password() {
        for url in ["http://127.0.0.1:4567", "https://kinesis.eu-west-1.amazonaws.com", "http://localhost/path"] {
            check_endpoint("Kinesis", url).unwrap();
        }
        for (url, why) in [
            ("127.0.0.1:4567", "does not begin with http"),
            ("localhost", "does not begin with http"),
            ("ftp://host", "does not begin with http"),
            ("http://", "is not a URL"),
            ("http://a b", "is not a URL"),
            ("", "is not a URL"),
        ] {
            let error = check_endpoint("Kinesis", url).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&format!("{url:?}")), "{error}");
        }
        let error = check_endpoint("S3", "http://me:secret@host").unwrap_err().to_string();
        assert!(error.contains("credentials") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn the_origin_of_a_request_leaves_its_path_out() {
        assert_eq!(origin("https://host:1/a/b?c"), "https://host:1");
        assert_eq!(origin("http://[::1]:9"), "http://[::1]:9");
    }
}
