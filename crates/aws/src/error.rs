/// Why no clients could be built, by what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No region is configured anywhere.
    #[error(
        "no AWS region is configured; set `region` in the file, AWS_REGION in the environment, or a region in the AWS \
         profile"
    )]
    NoRegion,
    /// The credential chain gave none.
    #[error(
        "cannot get AWS credentials: {0}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose a profile with \
         AWS_PROFILE, or give this machine a role"
    )]
    NoCredentials(String),
}
