//! Where a client is in the outbox: the id of an event of the stream.

use std::fmt;
use std::str::FromStr;

/// A record of the outbox: its number, and the time at which it happened. The time tells a record
/// from the one that has the same number after a backup was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The number; 0 before the first record.
    pub(super) number: i64,
    /// Unix seconds.
    pub(super) at_s: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.at_s)
    }
}

/// A text that no server made as an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (number, at_s) = text.split_once('-').ok_or(NotAPosition)?;
        let number = number.parse().map_err(|_| NotAPosition)?;
        let at_s = at_s.parse().map_err(|_| NotAPosition)?;
        let read = Self { number, at_s };
        // One text for one position.
        if read.to_string() == text { Ok(read) } else { Err(NotAPosition) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_one_text_and_nothing_else_is_one() {
        let known = Position { number: 7, at_s: 1_700_000_000 };
        assert_eq!(known.to_string().parse(), Ok(known));
        assert_eq!("0-0".parse(), Ok(Position::default()));
        for forged in [
            "",
            "7",
            "-",
            "7-",
            "-7-1",
            "+7-1",
            "07-1",
            "7-01",
            "7-1 ",
            " 7-1",
            "7-1-1",
            "a-b",
            "9223372036854775808-1",
            "7-18446744073709551616",
            "7-1\u{0}",
        ] {
            assert_eq!(forged.parse::<Position>(), Err(NotAPosition), "{forged:?}");
        }
    }
}
