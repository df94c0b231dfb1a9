//! fleeti-pki
pub fn base64_text(bytes: &[u8]) -> String { use base64::Engine; base64::engine::general_purpose::STANDARD.encode(bytes) }
