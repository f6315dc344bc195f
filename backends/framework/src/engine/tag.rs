//! Whom a completion or a readiness event concerns, in the 64 bits that the kernel hands back.

use super::{Direction, FileIndex, Token};

/// What the engines write into an SQE's `user_data`, and into an epoll registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// An operation of the device.
    Op(Token),
    /// An operation of the device that may have to be repeated in another way.
    Unmapping(Token),
    /// The watch on a kick.
    Kick(WatchId),
    /// The end of the watch on a kick.
    Unwatch(WatchId),
    /// The eventfd of the connection thread.
    Commands,
    /// The eventfd of the blocking pool.
    Pool,
    /// A transfer of the batch that is being carried out.
    Staged(u32),
    /// A device's watch on one of its files, for one event.
    Ready(WatchId, Direction),
    /// The end of such a watch.
    Unready,
    /// The end of everything, when the engine ends.
    Cancel,
    /// The question whether a file takes the block layer's discard command.
    DiscardProbe(FileIndex),
}

/// One watch on a queue's kick, or on a file in that place. The generation tells it from earlier ones
/// there, whose last completions may still be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchId {
    pub(super) queue: u16,
    /// Only the low 24 bits count.
    pub(super) generation: u32,
}

/// The generations that a tag can tell apart.
const GENERATIONS: u32 = 1 << 24;

impl WatchId {
    /// The id of the next watch on the same queue.
    pub(super) fn next(self) -> Self {
        WatchId { generation: (self.generation + 1) % GENERATIONS, ..self }
    }
}

impl Tag {
    /// As 64 bits: the kind in the top 8, a generation in the next 24, a number in the low 32.
    #[inline]
    pub(super) fn encode(self) -> u64 {
        let bits = |kind: u64, generation: u32, number: u32| {
            kind << 56 | u64::from(generation % GENERATIONS) << 32 | u64::from(number)
        };
        match self {
            Tag::Op(token) => bits(0, 0, token.0),
            Tag::Unmapping(token) => bits(1, 0, token.0),
            Tag::Kick(id) => bits(2, id.generation, id.queue.into()),
            Tag::Unwatch(id) => bits(3, id.generation, id.queue.into()),
            Tag::Commands => bits(4, 0, 0),
            Tag::Pool => bits(5, 0, 0),
            Tag::DiscardProbe(file) => bits(6, 0, file.0.into()),
            Tag::Ready(id, Direction::Readable) => bits(7, id.generation, id.queue.into()),
            Tag::Ready(id, Direction::Writable) => bits(8, id.generation, id.queue.into()),
            Tag::Unready => bits(9, 0, 0),
            Tag::Staged(number) => bits(10, 0, number),
            Tag::Cancel => bits(11, 0, 0),
        }
    }

    /// The reverse of [`Tag::encode`]. None: bits that it never makes.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
    pub(super) fn decode(bits: u64) -> Option<Self> {
        let token = Token(bits as u32);
        let id = || WatchId { queue: bits as u16, generation: (bits >> 32) as u32 % GENERATIONS };
        Some(match bits >> 56 {
            0 => Tag::Op(token),
            1 => Tag::Unmapping(token),
            2 => Tag::Kick(id()),
            3 => Tag::Unwatch(id()),
            4 => Tag::Commands,
            5 => Tag::Pool,
            6 => Tag::DiscardProbe(FileIndex(bits as u16)),
            7 => Tag::Ready(id(), Direction::Readable),
            8 => Tag::Ready(id(), Direction::Writable),
            9 => Tag::Unready,
            10 => Tag::Staged(bits as u32),
            11 => Tag::Cancel,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_the_kernel() {
        let id = WatchId { queue: u16::MAX, generation: GENERATIONS - 1 };
        for tag in [
            Tag::Op(Token(u32::MAX)),
            Tag::Unmapping(Token(7)),
            Tag::Kick(id),
            Tag::Unwatch(id.next()),
            Tag::Commands,
            Tag::Pool,
            Tag::DiscardProbe(FileIndex(u16::MAX)),
            Tag::Ready(id, Direction::Readable),
            Tag::Ready(id, Direction::Writable),
            Tag::Unready,
            Tag::Staged(u32::MAX),
            Tag::Cancel,
        ] {
            assert_eq!(Tag::decode(tag.encode()), Some(tag));
        }
        assert_eq!(Tag::decode(u64::MAX), None);
    }

    #[test]
    fn generations_wrap_inside_their_field() {
        let last = WatchId { queue: 1, generation: GENERATIONS - 1 };
        assert_eq!(last.next(), WatchId { queue: 1, generation: 0 });
    }
}
