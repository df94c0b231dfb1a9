//! Attestation results in a standard form for other software: EAT Attestation Results
//! (draft-ietf-rats-ear-04) with the trustworthiness vector of AR4SI (draft-ietf-rats-ar4si-09).
//! The result is not signed: the caller trusts the server's API.

use super::{Aspect, Tier};
use crate::wire::attestation::AttestationResult;
use serde_json::{Map, Value, json};

const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// The result as an EAR in JSON. `software` names the verifier, for example `fleeti-server 0.1.0`.
#[must_use]
pub fn of(result: &AttestationResult, software: &str) -> Value {
    let mut vector = Map::new();
    for claim in &result.claims {
        let Some(name) = name(claim.aspect) else { continue };
        vector.insert(name.into(), json!(value(claim.aspect, claim.tier)));
    }
    json!({
        "eat_profile": PROFILE,
        "iat": result.appraised_s,
        "ear_verifier_id": { "developer": "Fleeti", "build": software },
        "submods": {
            "boot": {
                "ear_status": status(result),
                "ear_trustworthiness_vector": vector,
                "ear_appraisal_policy_ids": [format!("urn:fleeti:level:{}", result.level.code())],
            }
        }
    })
}

/// The worst tier of the claims, in the words of AR4SI.
fn status(result: &AttestationResult) -> &'static str {
    match result.claims.iter().map(|c| c.tier).max() {
        None | Some(Tier::None) => "none",
        Some(Tier::Affirming) => "affirming",
        Some(Tier::Warning) => "warning",
        Some(Tier::Contraindicated) => "contraindicated",
    }
}

/// The AR4SI claim for an aspect. AR4SI has no claim for the firmware's code alone. `executables`
/// covers it, so [`Aspect::Firmware`] is not reported a second time.
const fn name(aspect: Aspect) -> Option<&'static str> {
    match aspect {
        Aspect::InstanceIdentity => Some("instance-identity"),
        Aspect::Configuration => Some("configuration"),
        Aspect::Executables => Some("executables"),
        Aspect::FileSystem => Some("file-system"),
        Aspect::Hardware => Some("hardware"),
        Aspect::Firmware => None,
    }
}

/// The AR4SI value for a tier (AR4SI, 2.3.4).
const fn value(aspect: Aspect, tier: Tier) -> i8 {
    match (aspect, tier) {
        (_, Tier::None) => 0,
        // "Approved at boot": what runs later is not measured.
        (Aspect::Executables, Tier::Affirming) => 3,
        (_, Tier::Affirming) => 2,
        (_, Tier::Warning) => 32,
        // "Not recognized".
        (Aspect::InstanceIdentity, Tier::Contraindicated) => 97,
        (_, Tier::Contraindicated) => 96,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::{Claim, Level};

    #[test]
    fn a_result_is_an_ear() {
        let claim = |aspect, tier| Claim {
            aspect,
            tier,
            code: "c".into(),
            finding: "f".into(),
            source: "s".into(),
            raise: None,
        };
        let result = AttestationResult {
            level: Level::VerifiedBoot,
            claims: vec![
                claim(Aspect::InstanceIdentity, Tier::Affirming),
                claim(Aspect::Executables, Tier::Affirming),
                claim(Aspect::Hardware, Tier::Warning),
                claim(Aspect::Firmware, Tier::None),
            ],
            release: None,
            appraised_s: 1_700_000_000,
            evidence: "ab".into(),
        };
        insta::assert_json_snapshot!(of(&result, "fleeti-server 0.1.0"));
        let wrong = AttestationResult {
            claims: vec![claim(Aspect::InstanceIdentity, Tier::Contraindicated)],
            ..result
        };
        let ear = of(&wrong, "x");
        assert_eq!(ear["submods"]["boot"]["ear_status"], "contraindicated");
        assert_eq!(ear["submods"]["boot"]["ear_trustworthiness_vector"]["instance-identity"], 97);
    }
}
