//! Buckets.

use std::sync::Arc;

use s3s::dto::{
    Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput, Owner,
};
use s3s::{S3Request, S3Response};

use super::{Answer, listings, timestamp};
use crate::emulator::ACCOUNT;
use crate::s3::REGION;
use crate::s3::listing::{self, Entry};
use crate::s3::store::Store;

const BUCKETS_MAX: i32 = 10_000;

/// One that is there already is made again without a word, as us-east-1 does it.
pub(super) async fn create_bucket(
    store: &Arc<Store>,
    request: S3Request<CreateBucketInput>,
) -> Answer<CreateBucketOutput> {
    let bucket = request.input.bucket;
    let location = Some(format!("/{bucket}"));
    store.run(move |store| store.create_bucket(&bucket)).await?;
    Ok(S3Response::new(CreateBucketOutput { location }))
}

pub(super) async fn delete_bucket(
    store: &Arc<Store>,
    request: S3Request<DeleteBucketInput>,
) -> Answer<DeleteBucketOutput> {
    store.run(move |store| store.delete_bucket(&request.input.bucket)).await?;
    Ok(S3Response::with_status(DeleteBucketOutput {}, http::StatusCode::NO_CONTENT))
}

pub(super) async fn head_bucket(store: &Arc<Store>, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
    store.run(move |store| store.read(&request.input.bucket, |_| Ok(()))).await?;
    Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..HeadBucketOutput::default() }))
}

pub(super) async fn list_buckets(
    store: &Arc<Store>,
    request: S3Request<ListBucketsInput>,
) -> Answer<ListBucketsOutput> {
    let input = request.input;
    let query = listing::Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: None,
        after: input.continuation_token.as_deref().map(listings::key_of_token).transpose()?.unwrap_or_default(),
        entries_max: listings::limit(input.max_buckets, BUCKETS_MAX)?,
    };
    let buckets = store.run(|store| Ok(store.buckets())).await?;
    let page = listing::page(buckets.iter().map(|(name, created)| (name.as_str(), *created)), &query);
    let continuation_token = page.next().map(listings::token_of_key);
    let buckets = page.entries.into_iter().filter_map(|entry| match entry {
        Entry::Key(name, created) => {
            Some(Bucket { name: Some(name), creation_date: Some(timestamp(created)), bucket_region: None })
        }
        Entry::Prefix(_) => None,
    });
    let (buckets, owner) = (Some(buckets.collect()), Some(owner()));
    Ok(S3Response::new(ListBucketsOutput { buckets, continuation_token, owner, prefix: input.prefix }))
}

/// Of us-east-1, which S3 says by saying nothing.
pub(super) async fn get_bucket_location(
    store: &Arc<Store>,
    request: S3Request<GetBucketLocationInput>,
) -> Answer<GetBucketLocationOutput> {
    store.run(move |store| store.read(&request.input.bucket, |_| Ok(()))).await?;
    Ok(S3Response::new(GetBucketLocationOutput::default()))
}

/// No bucket has versions.
pub(super) async fn get_bucket_versioning(
    store: &Arc<Store>,
    request: S3Request<GetBucketVersioningInput>,
) -> Answer<GetBucketVersioningOutput> {
    store.run(move |store| store.read(&request.input.bucket, |_| Ok(()))).await?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

/// Whose everything is.
pub(super) fn owner() -> Owner {
    Owner { display_name: Some("local".to_owned()), id: Some(ACCOUNT.to_owned()) }
}
