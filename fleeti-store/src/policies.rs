//! Appraisal policies of fleets.

use crate::{Pool, StoreError, Tx, sql};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::FleetId;
use std::collections::HashMap;

/// The policies of all fleets that differ from the default.
pub async fn all(pool: &Pool) -> Result<HashMap<FleetId, Policy>, StoreError> {
    let rows: Vec<(String, String)> =
        sql::query_as("SELECT fleet, policy FROM attestation_policies").fetch_all(pool).await?;
    rows.into_iter()
        .map(|(fleet, text)| {
            Ok((fleet.parse().map_err(StoreError::value)?, serde_json::from_str(&text)?))
        })
        .collect()
}

/// Stores the policy of a fleet.
pub async fn set(tx: &mut Tx<'_>, fleet: &FleetId, policy: &Policy) -> Result<(), StoreError> {
    let sql = "INSERT INTO attestation_policies (fleet, policy) VALUES ($1, $2) ON CONFLICT (fleet) DO UPDATE SET policy = excluded.policy";
    sql::query(sql)
        .bind(fleet.as_str())
        .bind(serde_json::to_string(policy)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
