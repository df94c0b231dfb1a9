//! A build with everything that is known of it.

use super::logs::{self, Excerpt};
use super::{approvals, get, is_moving, log_path};
use crate::context::Context;
use crate::error::Error;
use crate::releases;
use fleeti_build::build::BuildRecord;
use fleeti_core::wire::api::{Build, SignatureStatus};
use std::path::Path;

/// A build with all details.
pub struct Details {
    /// The build.
    pub build: Build,
    /// Its record.
    pub record: Option<BuildRecord>,
    /// Whether its release is published.
    pub is_published: bool,
    /// The approvals: how many it needs, who may give them, and who did.
    pub signature: SignatureStatus,
    /// Excerpt of its log.
    pub log: Excerpt,
}

/// A build with all details.
///
/// # Errors
/// [`Code::NotFound`](fleeti_core::wire::problem::Code::NotFound).
pub async fn details(cx: &Context, id: &str) -> Result<Details, Error> {
    let build = get(cx, id).await?;
    let log = logs::excerpt(log_path(cx, id), is_moving(build.phase)).await;
    let record = build.directory.as_ref().and_then(|d| BuildRecord::read(Path::new(d)).ok());
    let is_published = match &record {
        Some(record) => releases::is_of(cx, &build.release, record).await?,
        None => false,
    };
    Ok(Details { build, record, is_published, signature: approvals::status(cx, id).await?, log })
}
