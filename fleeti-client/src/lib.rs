//! fleeti-client
