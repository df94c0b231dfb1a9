//! The examination of a server: what works, and what ends when.

use serde::{Deserialize, Serialize};

/// `GET /doctor`: the examination of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Diagnosis {
    /// Time of the server, Unix seconds.
    pub now_s: u64,
    /// What was examined.
    pub checks: Vec<Check>,
    /// Everything that ends, the first one first.
    pub endings: Vec<Ending>,
}

/// What `fleeti doctor` and `fleeti-server doctor` print as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// The examination.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
    /// What will have ended on the day that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Vec<Ending>>,
}

/// One examined thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Check {
    /// What was examined.
    pub name: String,
    /// The result.
    pub result: CheckResult,
    /// What was found.
    pub detail: String,
    /// What to do about it; absent if nothing is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The result of a check, from good to bad.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// Nothing is to be done.
    Ok,
    /// It works, and will not always.
    Warning,
    /// It does not work.
    Failed,
}

impl CheckResult {
    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// What ends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EndingKind {
    /// The certificate of the root CA.
    Root,
    /// The CRL of the root CA.
    RootCrl,
    /// The certificate of an intermediate CA that issues.
    IntermediateCa,
    /// The certificate of an intermediate CA that no longer issues.
    FormerCa,
    /// The server's certificate for devices.
    ServerCertificate,
    /// A CRL for devices.
    DeviceCrl,
    /// The certificate of the API and the pages.
    ApiCertificate,
    /// The certificate of a key for Secure Boot.
    BootCertificate,
    /// The CRL of a manufacturer of TPMs.
    ManufacturerCrl,
}

impl EndingKind {
    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::RootCrl => "root_crl",
            Self::IntermediateCa => "intermediate_ca",
            Self::FormerCa => "former_ca",
            Self::ServerCertificate => "server_certificate",
            Self::DeviceCrl => "device_crl",
            Self::ApiCertificate => "api_certificate",
            Self::BootCertificate => "boot_certificate",
            Self::ManufacturerCrl => "manufacturer_crl",
        }
    }
}

/// Who renews what ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Renewal {
    /// The server, by itself.
    Server {
        /// It has failed to, if fewer seconds are left.
        left_s: u64,
    },
    /// People.
    People {
        /// Who they are.
        who: String,
    },
    /// Nobody: its end is intended.
    Nobody,
}

/// Something that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ending {
    /// What it is.
    pub kind: EndingKind,
    /// Which one.
    pub subject: String,
    /// When it ends, Unix seconds.
    pub ends_s: u64,
    /// Who renews it.
    pub renewal: Renewal,
    /// How it is renewed; for what the server renews, what to do if it did not.
    pub remedy: String,
}
