//! A device that attests: a real TPM (swtpm) that measured a real boot, and what a server knows of
//! the device.

use fleeti_core::attestation::policy::Firmware;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::boot::FirmwareKeys;
use fleeti_pki::attestation::appraisal::{FirmwareCode, Known, Reference};
use fleeti_pki::attestation::evidence::{Before, Evidence, Refused, VerifiedEvidence, verify};
use fleeti_pki::attestation::{Challenge, PCRS};
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::{FirmwareLog, Pcrs};
use fleeti_pki::measured::predicted::after_phases;
use fleeti_pki::tpm::endorsement::Kind;
use fleeti_pki::tpm::public::{AttestationKey, Public};
use fleeti_pki::uefi;
use fleeti_testkit::tpm::{Manufacturer, Tpm, phases_log};
use std::path::Path;

pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

pub fn captured(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/measured").join(name))
        .unwrap()
}

/// A log in parts: the first event, and each later one.
pub struct Pieces {
    pub header: Vec<u8>,
    pub events: Vec<Vec<u8>>,
}

impl Pieces {
    fn of(log: &[u8]) -> Self {
        let number = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        let mut at = 32 + number(28);
        let header = log[..at].to_vec();
        let mut events = Vec::new();
        while at < log.len() {
            // Two banks: SHA-256 and SHA-384.
            let length = 12 + 2 + 32 + 2 + 48 + 4;
            let end = at + length + number(at + length - 4);
            events.push(log[at..end].to_vec());
            at = end;
        }
        Self { header, events }
    }
    pub fn pcr(event: &[u8]) -> u32 {
        u32::from_le_bytes(event[..4].try_into().unwrap())
    }
    pub fn log(&self) -> Vec<u8> {
        [&self.header[..], &self.events.concat()].concat()
    }
}

/// The captured boot, without the command line that version 252 measures into PCR 12.
pub fn boot() -> Pieces {
    let mut pieces = Pieces::of(&captured("ovmf-2022.11-systemd-252.log"));
    pieces.events.retain(|e| Pieces::pcr(e) != 12);
    pieces
}

/// A device: a TPM with the measurements of a boot, and an attestation key.
pub struct Attester {
    pub tpm: Tpm,
    pub key: AttestationKey,
    firmware: Vec<u8>,
    phases: Vec<u8>,
}

/// Its evidence.
pub struct Answer {
    pub quote: Vec<u8>,
    pub signature: Vec<u8>,
    pub pcrs: Pcrs,
    pub firmware: Vec<u8>,
    pub phases: Vec<u8>,
}

impl Answer {
    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            quote: &self.quote,
            signature: &self.signature,
            pcrs: &self.pcrs,
            firmware_log: &self.firmware,
            phases_log: &self.phases,
        }
    }
}

pub fn challenge(nonce: u8) -> Challenge {
    Challenge { nonce: [nonce; 32], device: "dev-1".parse().unwrap() }
}

impl Attester {
    pub fn new(firmware: Vec<u8>, phases: &[&str]) -> Self {
        let tpm = Tpm::new(&Manufacturer::new().unwrap()).unwrap();
        tpm.tools(
            "tpm2_createek -c ek.ctx -G ecc -u ek.pub
             tpm2_flushcontext -t
             tpm2_createak -C ek.ctx -c ak.ctx -G ecc256 -g sha256 -s ecdsa -u ak.pub -f tss
             tpm2_flushcontext -t
             tpm2_evictcontrol -C o -c ak.ctx 0x81010100",
        )
        .unwrap();
        let key = AttestationKey::new(Public::parse_sized(&tpm.file("ak.pub").unwrap()).unwrap())
            .unwrap();
        let attester = Self { tpm, key, firmware, phases: phases_log(phases) };
        attester.boot(phases);
        attester
    }

    /// Extends the PCRs as the logs say.
    pub fn boot(&self, phases: &[&str]) {
        self.tpm.measure(&self.firmware, phases).unwrap();
    }

    /// A quote for these logs, whatever was measured.
    pub fn answer_with(
        &self,
        challenge: &Challenge,
        (firmware, phases): (&[u8], &[u8]),
        selection: &str,
    ) -> Answer {
        let asked = hex::encode(challenge.qualifying_data(firmware, phases));
        let quote = format!(
            "tpm2_quote -c 0x81010100 -l {selection} -q {asked} -m quote -s signature -o values -F values -g sha256"
        );
        self.tpm.tools(&format!("{quote}\n tpm2_flushcontext -t")).unwrap();
        let bytes = self.tpm.file("values").unwrap();
        let pcrs =
            PCRS.into_iter().zip(bytes.chunks_exact(32).map(|v| v.try_into().unwrap())).collect();
        Answer {
            quote: self.tpm.file("quote").unwrap(),
            signature: self.tpm.file("signature").unwrap(),
            pcrs,
            firmware: firmware.to_vec(),
            phases: phases.to_vec(),
        }
    }

    pub fn answer_about(&self, challenge: &Challenge, selection: &str) -> Answer {
        self.answer_with(challenge, (&self.firmware, &self.phases), selection)
    }

    pub fn answer(&self, challenge: &Challenge) -> Answer {
        self.answer_about(challenge, &format!("sha256:{}", asked_for()))
    }
}

/// The selected PCRs, in the syntax of tpm2-tools.
pub fn asked_for() -> String {
    PCRS.map(|r| r.to_string()).join(",")
}

pub fn check(
    answer: &Answer,
    nonce: u8,
    key: &AttestationKey,
    before: Option<&Before>,
) -> Result<VerifiedEvidence, Refused> {
    verify(&answer.evidence(), &challenge(nonce), key, before)
}

/// What a server knows about a device that booted the captured boot.
pub fn known(log: &FirmwareLog) -> Known {
    let boot = MeasuredBoot::of(log).unwrap();
    let certificates = |name| {
        uefi::certificates(boot.variable(name))
            .unwrap()
            .iter()
            .map(|der| sha256_hex(der))
            .collect::<Vec<_>>()
    };
    let firmware_keys = FirmwareKeys {
        pk: certificates("PK").pop(),
        kek: certificates("KEK"),
        db: certificates("db"),
        ..Default::default()
    };
    let pcrs = log.replay();
    let reference = Reference {
        release: "kiosk@1".parse().unwrap(),
        kernel_image: boot.binaries[1],
        pcr_9: None,
        pcr_11: after_phases(pcrs[&11], &PHASES.join(":")),
        is_revoked: false,
    };
    Known {
        manufacturer: Some(Kind::Processor),
        firmware_keys: Some(firmware_keys),
        references: vec![reference],
        boot_loaders: vec![boot.binaries[0]],
        firmware_code: Some(FirmwareCode { is_accepted: true, ..FirmwareCode::seen(&pcrs) }),
        firmware: Firmware::Pinned,
        ..Known::default()
    }
}

/// Offset of an event's data: after PCR, type, count, a digest of SHA-256 and one of SHA-384, and
/// the length.
pub const DATA: usize = 12 + 34 + 50 + 4;

/// The interpretation of a log, or the code of the failed check.
pub fn meaning(events: impl FnOnce(&mut Vec<Vec<u8>>)) -> Result<MeasuredBoot, String> {
    let mut pieces = boot();
    events(&mut pieces.events);
    let log = FirmwareLog::parse(&pieces.log()).map_err(|_| "log-unreadable".to_owned())?;
    MeasuredBoot::of(&log).map_err(|e| e.code().to_owned())
}
