//! What the pages of enrollment show.

use super::qr::Qr;
use crate::error::AppError;
use crate::pages::display::time;
use crate::pages::page::Page;
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::wire::api::Enrollment;
use fleeti_core::wire::enrollment::{ESP_FILE, SMBIOS_PREFIX};

/// The page with both ways.
#[derive(Template)]
#[template(path = "enroll.html", blocks = ["main"])]
pub struct EnrollPage {
    page: Page,
    /// The fleet that is proposed.
    fleet: String,
    /// The pairing code that is proposed, from the link of a QR code on the device's screen.
    code: String,
    /// Names of the fleets that the caller may see.
    fleets: Vec<String>,
}

impl EnrollPage {
    pub fn of(page: Page, fleet: Option<String>, code: String, fleets: Vec<String>) -> Self {
        let first = || fleets.first().cloned();
        let fleet = fleet.or_else(first).unwrap_or_else(|| "demo".to_owned());
        Self { page, fleet, code, fleets }
    }
}

/// The page that shows a new enrollment record, once.
#[derive(Template)]
#[template(path = "enrolled.html", blocks = ["main"])]
pub struct RecordPage {
    page: Page,
    fleet: String,
    /// HTML.
    expires: String,
    json: String,
    smbios: String,
    esp_file: &'static str,
    qr: Option<Qr>,
}

impl RecordPage {
    /// # Errors
    /// Never for a record.
    pub fn of(page: Page, fleet: String, enrollment: &Enrollment) -> Result<Self, AppError> {
        let json = serde_json::to_string(&enrollment.record).map_err(AppError::internal)?;
        Ok(Self {
            page,
            fleet,
            expires: time(enrollment.expires_s),
            smbios: format!("{SMBIOS_PREFIX}{}", STANDARD.encode(&json)),
            esp_file: ESP_FILE,
            qr: Qr::of(&json),
            json,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::wire::enrollment::EnrollmentRecord;

    #[test]
    fn a_record_is_shown_as_the_device_reads_it() {
        let record = EnrollmentRecord {
            https_url: "https://fleeti.example:8443".into(),
            mqtt_address: "fleeti.example:8883".into(),
            root_sha256: "0".repeat(64),
            token: "1".repeat(64),
            proxy: None,
        };
        let enrollment = Enrollment { record, expires_s: 1 };
        let shown = RecordPage::of(Page::plain(), "demo".into(), &enrollment).unwrap();
        let text = shown.smbios.strip_prefix(SMBIOS_PREFIX).unwrap();
        let read: EnrollmentRecord =
            serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap();
        assert_eq!(read, enrollment.record);
        let page = shown.render().unwrap();
        assert!(page.contains("<path d=\"M4 4h7"), "{page}");
        assert_eq!(page.matches(&"1".repeat(64)).count(), 1);
    }
}
