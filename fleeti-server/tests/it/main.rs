//! The real server, driven over its three ports.

mod device_port;
mod gateway;
mod peer;
mod rollout;
mod world;
