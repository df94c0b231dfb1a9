//! fleeti-agent
