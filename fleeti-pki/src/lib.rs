//! fleeti-pki
