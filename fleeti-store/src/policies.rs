//! Appraisal policies of fleets.

use crate::{Pool, StoreError, Tx, sql};
use fleeti_core::attestation::policy::Policy;
use fleeti_core::id::FleetId;
use fleeti_core::windows::Windows;
use std::collections::HashMap;

/// The policies of all fleets that differ from the default.
pub async fn all(pool: &Pool) -> Result<HashMap<FleetId, Policy>, StoreError> {
    let rows: Vec<(String, String, Option<String>)> =
        sql::query_as("SELECT fleet, policy, windows FROM attestation_policies")
            .fetch_all(pool)
            .await?;
    rows.into_iter()
        .map(|(fleet, text, windows)| {
            let mut policy: Policy = serde_json::from_str(&text)?;
            if let Some(text) = windows {
                policy.windows = serde_json::from_str(&text)?;
            }
            Ok((fleet.parse().map_err(StoreError::value)?, policy))
        })
        .collect()
}

/// Stores the policy of a fleet.
pub async fn set(tx: &mut Tx<'_>, fleet: &FleetId, policy: &Policy) -> Result<(), StoreError> {
    let sql = "INSERT INTO attestation_policies (fleet, policy, windows) VALUES ($1, $2, $3) \
        ON CONFLICT (fleet) DO UPDATE SET policy = excluded.policy, windows = excluded.windows";
    let own = Some(&policy.windows).filter(|windows| !windows.is_empty());
    let rest = Policy { windows: Windows::default(), ..policy.clone() };
    sql::query(sql)
        .bind(fleet.as_str())
        .bind(serde_json::to_string(&rest)?)
        .bind(own.map(serde_json::to_string).transpose()?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
