//! fleeti-testkit
