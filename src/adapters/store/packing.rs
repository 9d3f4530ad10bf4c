//! How bodies of deliveries and chunks of logs are packed: raw deflate (RFC 1951).

use std::io::{Read as _, Result, Write as _};
use std::sync::{Mutex, PoisonError};

use flate2::Compression;
use flate2::bufread::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// Setting one up, with its 280 kB, costs more than packing a delivery.
static IDLE: Mutex<Vec<DeflateEncoder<Vec<u8>>>> = Mutex::new(Vec::new());
const MOST_IDLE: usize = 4;

/// Packing costs a fraction of what writing the plain bytes costs.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut packer = idle.unwrap_or_else(|| DeflateEncoder::new(Vec::new(), Compression::fast()));
    // Writing into memory does not fail.
    let _ = packer.write_all(bytes);
    let packed = packer.reset(Vec::new()).unwrap_or_default();
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() < MOST_IDLE {
        idle.push(packer);
    }
    packed
}

/// At most `limit` bytes; the rest is not unpacked.
pub(super) fn unpack(packed: &[u8], limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    DeflateDecoder::new(packed).take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packer_that_is_used_again_keeps_nothing_of_before() {
        let texts = ["", "a", "the same again, the same again", &"long ".repeat(100_000), "a"];
        let packed: Vec<Vec<u8>> = texts.iter().map(|text| pack(text.as_bytes())).collect();
        for (text, packed) in texts.iter().zip(&packed) {
            assert_eq!(unpack(packed, u64::MAX).unwrap(), text.as_bytes());
        }
        assert_eq!(packed[1], packed[4]);
        assert_eq!(unpack(&packed[3], 10).unwrap(), b"long long ");
        assert!(unpack(b"not packed", u64::MAX).is_err());
    }
}
