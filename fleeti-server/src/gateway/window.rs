//! Messages to a device that it has not acknowledged.

use super::sessions::InFlight;

/// Maximum number of unacknowledged messages to a device, if the device allows as many.
pub(super) const IN_FLIGHT_MAX: usize = 16;

/// Packet identifiers in use. One is free again after its acknowledgement (MQTT-2.2.1-4).
#[derive(Debug, Default)]
pub(super) struct Window {
    last: u16,
    /// Unacknowledged messages, in the order in which they were sent.
    pub in_flight: Vec<InFlight>,
}

impl Window {
    /// Resumes the unacknowledged messages of an earlier connection.
    pub fn resumed(in_flight: Vec<InFlight>) -> Self {
        Self { last: in_flight.last().map_or(0, |m| m.id), in_flight }
    }

    /// Returns a free identifier.
    pub fn free(&mut self) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.in_flight.iter().all(|m| m.id != self.last) {
                return self.last;
            }
        }
    }

    /// Returns `false` if no message has this identifier.
    pub fn acknowledged(&mut self, id: u16) -> bool {
        let found = self.in_flight.iter().position(|m| m.id == id);
        found.map(|at| self.in_flight.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sessions::Sent;
    use super::*;
    use bytes::Bytes;
    use fleeti_core::wire::mqtt::Down;

    #[test]
    fn an_identifier_that_is_not_acknowledged_is_not_used_again_after_all_others_were() {
        let message =
            |id| InFlight { id, kind: Down::Notice, payload: Bytes::new(), sent: Sent::Other };
        let mut window = Window::resumed(vec![message(3), message(u16::MAX)]);
        assert_eq!(window.free(), 1);
        for _ in 0..3 * usize::from(u16::MAX) {
            let id = window.free();
            assert!(![0, 3, u16::MAX].contains(&id));
        }
        assert!(window.acknowledged(3) && !window.acknowledged(3));
        assert!((0..usize::from(u16::MAX)).any(|_| window.free() == 3));
    }
}
