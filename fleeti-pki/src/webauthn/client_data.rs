//! What a browser says of a ceremony: `CollectedClientData` (5.8.1), JSON.

use super::{NotAccepted, PART_MAX, RelyingParty};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleeti_core::strict;
use serde::{Deserialize, Serialize};

const WHAT: &str = "the client data";

/// What an answer is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceremony {
    /// A request for a new credential.
    Create,
    /// A request to sign in.
    Get,
}

impl Ceremony {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "webauthn.create",
            Self::Get => "webauthn.get",
        }
    }
}

/// The fields that are checked. Browsers may add others.
#[derive(Serialize, Deserialize)]
pub(super) struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default, skip_serializing_if = "Option::is_none")]
    is_cross_origin: Option<bool>,
    #[serde(rename = "topOrigin", default, skip_serializing_if = "Option::is_none")]
    top_origin: Option<String>,
}

/// Reads it. Nothing is checked.
pub(super) fn read(bytes: &[u8]) -> Result<ClientData, NotAccepted> {
    if bytes.len() > PART_MAX {
        return Err(NotAccepted::Malformed(WHAT));
    }
    strict::from_slice(bytes).map_err(|_| NotAccepted::Malformed(WHAT))
}

impl ClientData {
    pub(super) fn challenge(&self) -> Result<Vec<u8>, NotAccepted> {
        URL_SAFE_NO_PAD.decode(&self.challenge).map_err(|_| NotAccepted::Malformed(WHAT))
    }

    /// Checks that it is of this ceremony, for this server, and to this challenge.
    pub(super) fn check(
        &self,
        ceremony: Ceremony,
        party: &RelyingParty,
        challenge: &[u8],
    ) -> Result<(), NotAccepted> {
        if self.kind != ceremony.as_str() {
            return Err(NotAccepted::Ceremony);
        }
        if self.challenge()? != challenge {
            return Err(NotAccepted::Challenge);
        }
        // A page of ours is never in a frame of another site.
        let is_framed = self.is_cross_origin == Some(true) || self.top_origin.is_some();
        if self.origin != party.origin || is_framed {
            return Err(NotAccepted::Origin);
        }
        Ok(())
    }
}
