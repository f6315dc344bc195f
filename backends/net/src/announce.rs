//! Announcing where a card is now, in place of a guest that cannot do so itself.

use virtio_spec::net::MAC_LEN;

use crate::filter::Mac;

/// The shortest frame on a wire, without its checksum.
const FRAME_LEN: usize = 60;

/// A reverse ARP request (RFC 903) by which switches learn where the address is.
pub fn rarp(mac: Mac) -> [u8; FRAME_LEN] {
    let start = [
        &[0xff; MAC_LEN][..],
        &mac,
        &[0x80, 0x35],             // RARP
        &[0, 1, 8, 0, 6, 4, 0, 3], // over Ethernet, for IPv4: who has this address?
        &mac,
        &[0; 4],
        &mac,
    ]
    .concat();
    let mut frame = [0; FRAME_LEN];
    for (to, from) in frame.iter_mut().zip(start) {
        *to = from;
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_address_three_times() {
        let frame = rarp([2, 3, 4, 5, 6, 7]);
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
        for at in [6, 22, 32] {
            assert_eq!(frame[at..at + 6], [2, 3, 4, 5, 6, 7]);
        }
        assert_eq!(frame[38..], [0; 22]);
    }
}
