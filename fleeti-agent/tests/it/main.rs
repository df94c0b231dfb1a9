//! The update path against the real systemd-sysupdate, on a disk image in a file: seconds, and no machine.

mod bench;
mod faulty_server;
mod refusals;
