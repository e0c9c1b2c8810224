/// The two lower-case hex digits of each byte.
const DIGITS: [[u8; 2]; 256] = digits();

const fn digits() -> [[u8; 2]; 256] {
    let mut table = [[0; 2]; 256];
    let mut byte: usize = 0;
    while byte < table.len() {
        // Evaluated at compile time, where a place that does not exist is an error.
        #[allow(clippy::indexing_slicing, reason = "checked by the compiler")]
        {
            table[byte] = [digit(byte as u8 >> 4), digit(byte as u8 & 0xf)];
        }
        byte += 1;
    }
    table
}

const fn digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' - 10 + nibble,
    }
}

fn pair(byte: u8) -> [u8; 2] {
    DIGITS.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Appends `bytes` as lower-case hex digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.extend_from_slice(&pair(*byte));
    }
}

/// Writes `bytes` as lower-case hex digits to the start of `out`, and returns what is left of it.
pub(super) fn write_hex<'a>(out: &'a mut [u8], bytes: &[u8]) -> &'a mut [u8] {
    let (digits, rest) = out
        .split_at_mut_checked(bytes.len() * 2)
        .unwrap_or_default();
    for (place, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        place.copy_from_slice(&pair(*byte));
    }
    rest
}

/// Reads `2 * N` lower-case hex digits.
pub(super) fn read<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let pairs = digits.chunks_exact(2);
    if pairs.len() != N || !pairs.remainder().is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let &[high, low] = pair else { return None };
        *byte = nibble(high)? << 4 | nibble(low)?;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
