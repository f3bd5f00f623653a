/// Why no clients could be built, by what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No region is configured anywhere.
    #[error(
        "no AWS region is configured; set `region` in the file, AWS_REGION in the environment (empty, it counts as \
         none), or a region in the AWS profile"
    )]
    NoRegion,
    /// The region cannot be one.
    #[error(
        "the AWS region cannot be {0:?}: it is 1 to 63 of `a-z 0-9 -`, such as eu-west-1; mend `region` in the file, \
         AWS_REGION in the environment, or the AWS profile"
    )]
    Region(String),
    /// An endpoint cannot be an address.
    #[error(
        "the endpoint of {service} cannot be {url:?}: {why}; write it as http://127.0.0.1:4567, in AWS_ENDPOINT_URL, \
         AWS_ENDPOINT_URL_<SERVICE> or the AWS profile's endpoint_url"
    )]
    Endpoint {
        /// Such as Kinesis.
        service: String,
        /// What stands there, without a password.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The certificates that are to be trusted cannot be used.
    #[error("cannot use the certificates of AWS_CA_BUNDLE, {}: {why}; name a file of certificates in PEM, or unset it", path.display())]
    CaBundle {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The credential chain gave none.
    #[error(
        "cannot get AWS credentials: {0}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose a profile with \
         AWS_PROFILE, or give this machine a role"
    )]
    NoCredentials(String),
}
