//! fleeti-server
