//! Sizes as text.

/// A number of bytes with its unit: KiB, MiB and so on.
///
/// ```
/// assert_eq!(fleeti_core::size::bytes(1536), "1.5 KiB");
/// ```
#[must_use]
pub fn bytes(n: u64) -> String {
    bytesize::ByteSize(n).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_of_powers_of_1024() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(768 << 20)],
            ["0 B", "1023 B", "1.0 KiB", "768.0 MiB"]
        );
    }
}
