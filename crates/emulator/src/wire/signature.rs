//! The signature of a request: whether it has one, and whether that is whole. It is not verified, as there are no
//! secrets here to verify it with.

use http::{HeaderMap, header};

use super::service_error::ServiceError;

const ALGORITHMS: [&str; 2] = ["AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"];
const PARAMETERS: [&str; 3] = ["Credential", "Signature", "SignedHeaders"];
/// Key, date, region, service, terminator; the other algorithm has no region.
const CREDENTIAL_ELEMENTS_MIN: usize = 4;

/// Refuses a request that is not signed, or not as Signature Version 4 says.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), ServiceError> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        return Err(ServiceError::missing_authentication_token("Missing Authentication Token"));
    };
    let authorization = authorization.to_str().unwrap_or_default().trim();
    let (algorithm, rest) = authorization.split_once(' ').unwrap_or((authorization, ""));
    if !ALGORITHMS.contains(&algorithm) {
        let message = format!("Authorization header requires the algorithm {}.", ALGORITHMS[0]);
        return Err(ServiceError::incomplete_signature(message));
    }
    let parameter = |name: &str| {
        let pairs = rest.split(',').filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value).next()
    };
    let missing = PARAMETERS.iter().filter(|name| parameter(name).is_none());
    let mut mistakes: Vec<String> =
        missing.map(|name| format!("Authorization header requires '{name}' parameter.")).collect();
    if !headers.contains_key("x-amz-date") && !headers.contains_key(header::DATE) {
        let message = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.";
        mistakes.push(message.to_owned());
    }
    let elements = parameter("Credential").map(|credential| credential.split('/').count());
    if elements.is_some_and(|elements| elements < CREDENTIAL_ELEMENTS_MIN) {
        mistakes.push("Credential must have the elements keyid/date/region/service/term.".to_owned());
    }
    if mistakes.is_empty() { Ok(()) } else { Err(ServiceError::incomplete_signature(mistakes.join(" "))) }
}
