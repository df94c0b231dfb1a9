//! fleeti-build
