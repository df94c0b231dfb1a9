//! Checks of what the device of a [`World`] proves with its TPM.

use crate::world::World;
use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use fleeti_build::build::BuildRecord;
use fleeti_core::attestation::{Claim, Level, Tier};
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::manifest::PHASE_READY;
use fleeti_core::wire::api::{Device, Event, Provisioned};
use fleeti_core::wire::attestation::Attestation;
use fleeti_core::wire::boot::BootVariable;
use fleeti_pki::measured::predicted;
use fleeti_pki::uefi;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Time limit for evidence after a start.
const PATIENCE: Duration = Duration::from_secs(300);

impl World {
    /// Returns the device's attestation when `wanted` holds.
    fn proved(
        &self,
        device: &DeviceId,
        wanted: impl Fn(&Attestation) -> bool,
    ) -> Result<Attestation> {
        let client = self.client()?;
        let looked = self.runtime.block_on(async {
            let mut events = client.events().await?;
            let look = async {
                loop {
                    let found = client.attestation(device).await?;
                    if wanted(&found) {
                        return anyhow::Ok(found);
                    }
                    events.wait_for(|e| matches!(e, Event::Device { .. })).await?;
                }
            };
            anyhow::Ok(tokio::time::timeout(PATIENCE, look).await)
        })?;
        match looked {
            Ok(found) => found,
            Err(_) => bail!(
                "not in {} s: {}",
                PATIENCE.as_secs(),
                self.fleeti(&["attest", "show", device.as_str(), "--pcrs"])?
            ),
        }
    }

    /// Checks that the device's PCR 11 has the value that the build predicted.
    ///
    /// # Errors
    /// If it has another value.
    pub fn check_pcr11(&self, device: &Device, build: &Path) -> Result<String> {
        let predicted = BuildRecord::read(build)?
            .reference_values
            .pcr11
            .remove(PHASE_READY)
            .context("no prediction")?;
        let found = device
            .boot
            .as_ref()
            .and_then(|b| b.pcr11.clone())
            .context("the device reports no PCR 11")?;
        ensure!(found == predicted, "PCR 11 is {found}, predicted {predicted}");
        Ok(format!("PCR 11 {found} equals the prediction of the build"))
    }

    /// Checks that the device proves to run a release at a level.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_attestation(
        &self,
        device: &DeviceId,
        release: &str,
        level: Level,
    ) -> Result<Vec<String>> {
        let measured = |a: &Attestation| {
            a.result.as_ref().and_then(|r| r.release.as_ref()).map(ToString::to_string)
        };
        self.proved(device, |a| a.level == level && measured(a).as_deref() == Some(release))
            .with_context(|| format!("{device} does not prove {release} at {}", level.code()))?;
        Ok(self.fleeti(&["attest", "show", device.as_str()])?.lines().map(str::to_owned).collect())
    }

    /// Checks that attestation failed for this reason, given as code of the claim.
    ///
    /// # Errors
    /// If it did not fail, or for another reason.
    pub fn check_attestation_failure(&self, device: &DeviceId, code: &str) -> Result<String> {
        let is_wrong = |c: &&Claim| c.tier == Tier::Contraindicated;
        let found = self.proved(device, |a| {
            a.result.as_ref().is_some_and(|r| r.claims.iter().any(|c| is_wrong(&c)))
        })?;
        let claims = found.result.map(|r| r.claims).unwrap_or_default();
        let wrong = claims.iter().find(is_wrong).context("attestation did not fail")?;
        ensure!(
            wrong.code == code && found.level == Level::SelfReported,
            "{} at {}",
            wrong.code,
            found.level.code()
        );
        Ok(format!("{}: {}", found.level.code(), wrong.finding))
    }

    /// The current level of a device, and whether its evidence is still fresh.
    ///
    /// # Errors
    /// If the server does not respond.
    pub fn level(&self, device: &DeviceId) -> Result<(Level, bool)> {
        let found = self.runtime.block_on(self.client()?.attestation(device))?;
        Ok((found.level, found.is_fresh))
    }

    /// Digest of the quote that was appraised last.
    ///
    /// # Errors
    /// If there is none.
    pub fn evidence(&self, device: &DeviceId) -> Result<String> {
        let found = self.runtime.block_on(self.client()?.attestation(device))?;
        Ok(found.result.context("it has proved nothing")?.evidence)
    }

    /// The published releases.
    ///
    /// # Errors
    /// If the server does not respond.
    pub fn releases(&self) -> Result<Vec<ReleaseName>> {
        Ok(self.runtime.block_on(self.client()?.releases())?.into_iter().map(|r| r.name).collect())
    }

    /// Checks that the next evidence after `last` has this level.
    ///
    /// # Errors
    /// If it has another level, or does not arrive in time.
    pub fn proves_anew(&self, device: &DeviceId, last: &str, level: Level) -> Result<String> {
        let found =
            self.proved(device, |a| a.result.as_ref().is_some_and(|r| r.evidence != last))?;
        let release =
            found.result.and_then(|r| r.release).map(|r| r.to_string()).unwrap_or_default();
        ensure!(
            found.level == level,
            "{} proves {release:?} at {}, not {}",
            device,
            found.level.code(),
            level.code()
        );
        Ok(format!("{release} at {}", level.code()))
    }

    /// Checks that the evidence with this quote digest failed this check and no other.
    ///
    /// # Errors
    /// If it is accepted, or failed another check.
    pub fn found_out(&self, device: &DeviceId, evidence: &str, code: &str) -> Result<()> {
        let found =
            self.proved(device, |a| a.result.as_ref().is_some_and(|r| r.evidence == evidence))?;
        let result = found.result.context("no result")?;
        let wrong: Vec<_> = result
            .claims
            .iter()
            .filter(|c| c.tier == Tier::Contraindicated)
            .map(|c| c.code.as_str())
            .collect();
        ensure!(
            wrong == [code] && found.level == Level::SelfReported,
            "{wrong:?} at {}, not {code}",
            found.level.code()
        );
        Ok(())
    }

    /// The variables of the device's own writes, as provisioned.
    fn predicted_pcr_7(&self) -> Result<[u8; 32]> {
        let bundle: Provisioned =
            serde_json::from_slice(&fs::read(self.path("device/bundle.json"))?)?;
        let auth = |variable| -> Result<Vec<u8>> {
            let write = bundle
                .writes
                .iter()
                .find(|w| w.variable == variable)
                .context("a variable is not written")?;
            Ok(uefi::value(&base64::engine::general_purpose::STANDARD.decode(&write.auth)?)?
                .to_vec())
        };
        let (pk, kek, db) =
            (auth(BootVariable::Pk)?, auth(BootVariable::Kek)?, auth(BootVariable::Db)?);
        let [authority] = uefi::certificates(&db)?
            .try_into()
            .map_err(|_| anyhow!("db does not begin with one key"))?;
        let policy = predicted::Policy { pk: &pk, kek: &kek, db: &db, dbx: &[] };
        Ok(predicted::pcr_7(&policy, &[&[&uefi::OWNER.0[..], &authority].concat()]))
    }

    /// Checks that the device's quoted PCRs have the values computed from the build's UKI.
    ///
    /// # Errors
    /// If a PCR has another value.
    pub fn check_predictions(
        &self,
        device: &DeviceId,
        build: &Path,
        release: &Path,
    ) -> Result<String> {
        let record = BuildRecord::read(build)?;
        let version = record.reference_values.systemd().context("no version of systemd")?;
        let uki = fs::read(build.join("uki.efi"))?;
        let computed = hex::encode(predicted::pcr_11(&uki, version, PHASE_READY)?);
        let measured = record.reference_values.pcr11.get(PHASE_READY).context("no prediction")?;
        ensure!(
            *measured == computed,
            "systemd-measure predicts {measured} for PCR 11, computed {computed}"
        );
        let found = self.runtime.block_on(self.client()?.attestation(device))?.pcrs;
        let quoted = found.iter().find(|r| r.pcr == 11).map(|r| r.value.as_str());
        ensure!(quoted == Some(&computed), "PCR 11 is {quoted:?}, computed {computed}");
        // Only the release has the UKI section with the signature of the PCR policy.
        let uki = fs::read(
            release
                .join("raw")
                .join(format!("{}_{}.efi", record.release.line, record.release.version)),
        )?;
        let value = |n: u8| found.iter().find(|r| r.pcr == n).map(|r| r.value.clone());
        let computed = predicted::pcr_9(&uki, version)?.map(hex::encode);
        ensure!(
            value(9) == computed && computed.is_some(),
            "PCR 9 is {:?}, computed {computed:?}",
            value(9)
        );
        ensure!(value(12) == Some(hex::encode(predicted::PCR_12)), "PCR 12 is {:?}", value(12));
        let computed = hex::encode(self.predicted_pcr_7()?);
        ensure!(
            value(7).as_ref() == Some(&computed),
            "PCR 7 is {:?}, computed {computed}",
            value(7)
        );
        Ok(format!(
            "PCRs 9, 11 and 12 equal the values computed from the UKI for systemd {version}, PCR 11 also systemd-measure's, and PCR 7 the value computed from the enrolled keys"
        ))
    }
}
