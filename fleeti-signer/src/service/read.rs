//! Reads entries, proofs and checkpoints of the log, and the configuration of the signing service.

use super::{Issuer, LastCheckpoint, SigningService};
use crate::disk;
use crate::log::LogError;
use fleeti_core::wire::audit::AuditProof;
use fleeti_pki::base64_text;
use fleeti_pki::signer::key_id;
use fleeti_pki::transparency::note::Checkpoint;
use fleeti_signer_client::wire::{ENTRIES_MAX, Request, Response};

/// Seconds for which a checkpoint is returned again if no entry was added.
const CHECKPOINT_S: u64 = 60;

impl SigningService {
    pub(super) fn read(&mut self, now_s: u64, request: Request) -> Result<Response, LogError> {
        let texts = |hashes: Vec<fleeti_pki::transparency::tree::Hash>| {
            hashes.iter().map(|h| base64_text(h)).collect::<Vec<_>>()
        };
        let found = match request {
            Request::Issuers => {
                let of = |issuers: &[Issuer]| issuers.iter().map(|i| i.sha256.clone()).collect();
                Ok(Response::Issuers {
                    device: of(&self.keys.device),
                    server: of(&self.keys.server),
                })
            }
            Request::ApprovalPolicy => {
                let set = self.keys.releases.as_ref();
                let policy = set.map(|set| set.policy.to_text()).transpose()?;
                let release_key =
                    set.map(|set| key_id(set.release.public_key_der())).unwrap_or_default();
                Ok(Response::ApprovalPolicy { policy, release_key })
            }
            Request::Health => Ok(Response::Health { room: disk::room(self.log.folder()).ok() }),
            Request::Checkpoint => self.checkpoint(now_s).map(|note| Response::Checkpoint { note }),
            Request::Prove { number } => {
                self.prove(now_s, number).map(|proof| Response::Proof { proof })
            }
            Request::Consistency { old, new } => {
                self.log.consistency(old, new).map(|h| Response::Consistency { hashes: texts(h) })
            }
            Request::Entries { from, limit } => self
                .log
                .entries(from, limit.min(ENTRIES_MAX))
                .map(|lines| Response::Entries { lines }),
            Request::CertifyDevice { .. }
            | Request::CertifyServer { .. }
            | Request::Crl { .. }
            | Request::StageRevoked { .. }
            | Request::CrlPart { .. }
            | Request::MakeBootKeys { .. }
            | Request::SignBoot { .. }
            | Request::ChangeBoot { .. }
            | Request::SignRelease { .. }
            | Request::Keep { .. }
            | Request::ShowRecoveryKey { .. }
            | Request::GiveSecrets { .. }
            | Request::Record { .. } => {
                return Ok(Response::Refused { reason: "not a read request".into() });
            }
        };
        match found {
            // For example a key in a token that does not respond. The log is unchanged.
            Err(LogError::Pki(e)) => Ok(Response::Refused { reason: e.to_string() }),
            // The log is unchanged, and the caller may try again.
            Err(e @ LogError::Io { .. }) => Ok(Response::Limited { reason: e.to_string() }),
            Err(LogError::NoEntry { number, size }) => {
                Ok(Response::Refused { reason: LogError::NoEntry { number, size }.to_string() })
            }
            other => other,
        }
    }

    /// The checkpoint of the entries on disk.
    fn checkpoint(&mut self, now_s: u64) -> Result<String, LogError> {
        let size = self.log.size();
        if let Some(last) = &self.checkpoint
            && last.size == size
            && now_s.abs_diff(last.signed_s) < CHECKPOINT_S
        {
            return Ok(last.note.clone());
        }
        let checkpoint = Checkpoint {
            origin: self.keys.log.name().to_owned(),
            size,
            root: self.log.root(size)?,
        };
        let note = self.keys.log.sign(&checkpoint, now_s, self.keys.audit.as_ref())?;
        // INVARIANT: a checkpoint is on disk before it is returned, so the log never goes back
        // behind it.
        self.log.keep_checkpoint(&note)?;
        self.checkpoint = Some(LastCheckpoint { size, signed_s: now_s, note: note.clone() });
        Ok(note)
    }

    fn prove(&mut self, now_s: u64, number: u64) -> Result<AuditProof, LogError> {
        let size = self.log.size();
        let hashes = self.log.inclusion(number, size)?.iter().map(|h| base64_text(h)).collect();
        let entry = self.log.entries(number, 1)?.pop().ok_or(LogError::NoEntry { number, size })?;
        Ok(AuditProof { entry, hashes, checkpoint: self.checkpoint(now_s)? })
    }
}
