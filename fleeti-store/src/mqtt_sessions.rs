//! MQTT session state that outlasts connections.

use crate::sql::QueryBuilder;
use crate::{StoreError, Tx, seconds};
use fleeti_core::id::DeviceId;
use fleeti_core::wire::mqtt::Down;
use std::collections::HashMap;

/// The subscriptions of a session, with their QoS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subscriptions([Option<u8>; Down::ALL.len()]);

impl Subscriptions {
    fn place(kind: Down) -> usize {
        Down::ALL.iter().position(|k| *k == kind).unwrap_or(0)
    }
    /// QoS 0 or 1; `None` for a topic that is not subscribed.
    #[must_use]
    pub fn get(&self, kind: Down) -> Option<u8> {
        self.0[Self::place(kind)]
    }
    /// Sets the QoS. Returns the previous one.
    pub fn set(&mut self, kind: Down, qos: Option<u8>) -> Option<u8> {
        std::mem::replace(&mut self.0[Self::place(kind)], qos)
    }
    /// Whether there are no subscriptions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
    /// Two bits for each of [`Down::ALL`], the first the lowest: 0 for none, else QoS and 1.
    #[must_use]
    pub fn to_bits(self) -> i64 {
        self.0.iter().rev().fold(0, |bits, qos| bits << 2 | qos.map_or(0, |q| i64::from(q) + 1))
    }
    /// The inverse of [`Self::to_bits`].
    #[must_use]
    pub fn from_bits(bits: i64) -> Self {
        let mut read = Self::default();
        for (at, qos) in read.0.iter_mut().enumerate() {
            *qos = match bits >> (2 * at) & 3 {
                1 => Some(0),
                2 => Some(1),
                _ => None,
            };
        }
        read
    }
}

/// The stored state of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Expiry, Unix seconds; 0 without a session.
    pub until_s: u64,
    /// Its subscriptions.
    pub subscriptions: Subscriptions,
}

/// Sessions per statement: the number of parameters of a statement is limited.
const AT_ONCE: usize = 256;

/// Stores the state of sessions.
pub async fn set(tx: &mut Tx<'_>, sessions: &HashMap<DeviceId, Stored>) -> Result<(), StoreError> {
    let all: Vec<_> = sessions.iter().collect();
    for some in all.chunks(AT_ONCE) {
        let mut query = QueryBuilder::new(
            "UPDATE devices SET mqtt_until_s = s.until_s, mqtt_subscriptions = s.subscriptions \
             FROM (SELECT column1 AS device, column2 AS until_s, column3 AS subscriptions FROM (",
        );
        query.push_values(some, |mut row, (device, stored)| {
            row.push_bind(device.as_str())
                .push_bind(seconds(stored.until_s))
                .push_bind(stored.subscriptions.to_bits());
        });
        query.push(") AS v) AS s WHERE devices.id = s.device").build().execute(&mut **tx).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_kept_as_a_number() {
        let mut some = Subscriptions::default();
        assert!(some.is_empty());
        assert_eq!(some.set(Down::Command, Some(0)), None);
        assert_eq!(some.set(Down::Secrets, Some(1)), None);
        assert_eq!(Subscriptions::from_bits(some.to_bits()), some);
        assert_eq!(some.to_bits(), 1 << 2 | 2 << 8);
        assert_eq!(some.set(Down::Command, None), Some(0));
        assert_eq!(Subscriptions::from_bits(0), Subscriptions::default());
    }
}
