//! Where firmware found an EFI binary: UEFI_IMAGE_LOAD_EVENT (TCG "PC Client Platform Firmware
//! Profile", 1.06, 10.2.3) and the device path in it (UEFI, 10), as text. It is not measured, so
//! nothing depends on it.

use crate::tpm::{Reader, Unreadable};
use crate::uefi::Guid;

/// Bytes before the path: address, length and link-time address of the image, and the length of the
/// path.
const BEFORE: usize = 32;
/// Maximum characters of a path as text, and maximum nodes of a path.
const PATH_MAX: usize = 160;
const NODES_MAX: usize = 16;

/// The device path in an event's data; `None` if the data is no image load event.
#[must_use]
pub fn of_image(data: &[u8]) -> Option<&[u8]> {
    let length = u64::from_le_bytes(data.get(24..BEFORE)?.try_into().ok()?);
    let path = data.get(BEFORE..)?;
    (usize::try_from(length).ok()? == path.len()).then_some(path)
}

/// A path as text, as in `Fv(…)/FvFile(…)` or `PciRoot(0)/Pci(1f,2)/HD(1)/\EFI\BOOT\BOOTX64.EFI`.
#[must_use]
pub fn in_words(path: &[u8]) -> String {
    let mut r = Reader::new("device path", path);
    let mut nodes = Vec::new();
    while nodes.len() < NODES_MAX {
        match node(&mut r) {
            Ok(Some(words)) => nodes.push(words),
            Ok(None) => break,
            Err(_) => {
                nodes.push("?".into());
                break;
            }
        }
    }
    nodes.join("/").chars().take(PATH_MAX).collect()
}

/// The next node; `None` at the end.
fn node(r: &mut Reader<'_>) -> Result<Option<String>, Unreadable> {
    if r.is_empty() {
        return Ok(None);
    }
    let (kind, sub_kind, length) = (r.u8()?, r.u8()?, r.u16_le()?);
    let data = r.take(
        usize::from(length).checked_sub(4).ok_or(Unreadable::Truncated { what: "device path" })?,
    )?;
    let guid = |data: &[u8]| {
        data.get(..16)
            .and_then(|b| <[u8; 16]>::try_from(b).ok())
            .map_or_else(String::new, |g| guid_text(Guid(g)))
    };
    let number = |at: usize| {
        data.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    Ok(match (kind, sub_kind) {
        (0x7f, 0xff) => None,
        (1, 1) => Some(match data {
            [function, device, ..] => format!("Pci({device:x},{function:x})"),
            _ => "Pci".into(),
        }),
        (1, 4) => Some(format!("VenHw({})", guid(data))),
        (2, 1) if matches!(number(0), 0x0a03_41d0 | 0x0a08_41d0) => {
            Some(format!("PciRoot({:x})", number(4)))
        }
        (2, 1) => Some(format!("Acpi({:x},{:x})", number(0), number(4))),
        (3, 5) => Some("USB".into()),
        (3, 11) => Some("MAC".into()),
        (3, 12) => Some("IPv4".into()),
        (3, 13) => Some("IPv6".into()),
        (3, 18) => Some("Sata".into()),
        (3, 23) => Some("NVMe".into()),
        (3, 24) => Some("Uri".into()),
        (4, 1) => Some(format!("HD({})", number(0))),
        (4, 2) => Some("CDROM".into()),
        (4, 4) => Some(shown(data)),
        (4, 6) => Some(format!("FvFile({})", guid(data))),
        (4, 7) => Some(format!("Fv({})", guid(data))),
        (4, 8) => Some("Offset".into()),
        _ => Some(format!("Path({kind},{sub_kind})")),
    })
}

/// As in `8be4df61-93ca-11d2-aa0d-00e098032b8c`: the first three parts are little-endian.
fn guid_text(guid: Guid) -> String {
    let g = guid.0;
    let part = |bytes: &[u8]| hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        part(&[g[3], g[2], g[1], g[0]]),
        part(&[g[5], g[4]]),
        part(&[g[7], g[6]]),
        part(&g[8..10]),
        part(&g[10..])
    )
}

/// Maximum characters of what an event says of itself.
pub(super) const TEXT_MAX: usize = 80;

/// The readable part of bytes in UTF-8 or UTF-16.
pub(super) fn shown(bytes: &[u8]) -> String {
    bytes
        .iter()
        .filter(|b| **b == b' ' || b.is_ascii_graphic())
        .take(TEXT_MAX)
        .map(|b| char::from(*b))
        .collect()
}
