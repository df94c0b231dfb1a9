//! Machines with a deviating boot: a real TPM (swtpm) measured it, and signs that.

use crate::attester::{Attester, PHASES, boot, challenge, check, known};
use crate::crafted::{AUTHORITY, DRIVER_CONFIG, IPL, at, data_of, event_of};
use fleeti_core::attestation::{Level, Tier};
use fleeti_pki::attestation::appraisal::appraise;
use fleeti_pki::measured::log::FirmwareLog;

#[test]
fn what_started_otherwise_is_found_in_what_a_tpm_measured() {
    const BINARY: u32 = 0x8000_0003;
    const SHA_256: usize = 14;
    let log = FirmwareLog::parse(&boot().log()).unwrap();
    let mut known = known(&log);
    known.references[0].pcr_9 = Some(log.replay().get(&9).copied().unwrap_or_default());
    let of_kind = |kind: u32| move |event: &&Vec<u8>| event[4..8] == kind.to_le_bytes();
    let first = |pcr, kind| {
        at(&boot(), pcr).into_iter().find(|i| of_kind(kind)(&&boot().events[*i])).unwrap()
    };
    let binaries: Vec<_> =
        at(&boot(), 4).into_iter().filter(|i| of_kind(BINARY)(&&boot().events[*i])).collect();
    let other_binary = |n: usize| {
        let mut pieces = boot();
        pieces.events[binaries[n]][SHA_256] ^= 1;
        pieces
    };
    let beside = |pcr| {
        let mut pieces = boot();
        pieces.events.push(event_of(pcr, IPL, b"an addon"));
        pieces
    };
    let last_byte = |kind, change: u8| {
        let (mut pieces, at) = (boot(), first(7, kind));
        let mut data = data_of(&pieces.events[at]).to_vec();
        *data.last_mut().unwrap() ^= change;
        pieces.events[at] = event_of(7, kind, &data);
        pieces
    };
    let cases = [
        (boot(), &PHASES[..], None),
        (other_binary(0), &PHASES, Some("boot-loader-foreign")),
        (other_binary(1), &PHASES, Some("kernel-image-foreign")),
        (beside(9), &PHASES, Some("pcr-9")),
        (boot(), &PHASES[..3], Some("pcr-11")),
        (beside(12), &PHASES, Some("pcr-12")),
        (beside(13), &PHASES, Some("pcr-13")),
        (beside(14), &PHASES, Some("pcr-14")),
        (last_byte(DRIVER_CONFIG, 1), &PHASES, Some("secure-boot-off")),
        (last_byte(AUTHORITY, 1), &PHASES, Some("authority-foreign")),
    ];
    for (pieces, phases, expected) in cases {
        let device = Attester::new(pieces.log(), phases);
        let result =
            appraise(&check(&device.answer(&challenge(1)), 1, &device.key, None).unwrap(), &known);
        let wrong: Vec<_> = result
            .claims
            .iter()
            .filter(|c| c.tier == Tier::Contraindicated)
            .map(|c| c.code.as_str())
            .collect();
        assert_eq!(wrong, Vec::from_iter(expected));
        assert_eq!(result.level == Level::SelfReported, expected.is_some());
    }
}
