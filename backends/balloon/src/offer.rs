//! What is offered to the driver, and what a queue is for once it has chosen.

use virtio_spec::balloon::{
    DEFLATE_ON_OOM, DEFLATE_QUEUE, INFLATE_QUEUE, MUST_TELL_HOST, PAGE_POISON, PAGE_REPORTING,
    STATS_VQ,
};
use virtio_spec::features::{Negotiated, mask};

/// What the user decided about the offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Whether the driver may deflate when memory runs out.
    pub deflate_on_oom: bool,
    /// Whether free pages may be reported.
    pub reporting: bool,
}

/// How many queues there are said to be: inflate, deflate, statistics, hints, reporting. Linux looks for
/// room for all five, whatever was negotiated, and the last of them is never used.
pub const QUEUES: u16 = 5;

impl Offer {
    /// The feature bits. FREE_PAGE_HINT is never among them: hints serve a migration whose memory
    /// the front-end sends; it could not learn of them, and a hole would race the guest's writes.
    pub fn features(self) -> u64 {
        let mut bits = mask(MUST_TELL_HOST) | mask(STATS_VQ) | mask(PAGE_POISON);
        if self.deflate_on_oom {
            bits |= mask(DEFLATE_ON_OOM);
        }
        if self.reporting {
            bits |= mask(PAGE_REPORTING);
        }
        bits
    }
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Pages go into the balloon.
    Inflate,
    /// Pages come out of it.
    Deflate,
    /// The driver's statistics.
    Statistics,
    /// Free pages are reported.
    Reporting,
}

impl Role {
    /// What this queue is for (virtio 1.4, 5.5.2): queues of features that were not negotiated do
    /// not exist, and those behind them move up. None: there is no such queue.
    pub fn of(queue: u16, features: Negotiated) -> Option<Self> {
        let statistics = features.has(STATS_VQ).then_some(Role::Statistics);
        let reporting = features.has(PAGE_REPORTING).then_some(Role::Reporting);
        match queue {
            INFLATE_QUEUE => Some(Role::Inflate),
            DEFLATE_QUEUE => Some(Role::Deflate),
            2 => statistics.or(reporting),
            3 => statistics.and(reporting),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_move_up_when_a_feature_is_missing() {
        let roles = |bits: &[u32]| {
            let features = Negotiated::assume(bits.iter().map(|bit| mask(*bit)).sum());
            [2, 3, 4].map(|queue| Role::of(queue, features))
        };
        let (statistics, reporting) = (Some(Role::Statistics), Some(Role::Reporting));
        assert_eq!(roles(&[STATS_VQ, PAGE_REPORTING]), [statistics, reporting, None]);
        assert_eq!(roles(&[PAGE_REPORTING]), [reporting, None, None]);
        assert_eq!(roles(&[STATS_VQ]), [statistics, None, None]);
        assert_eq!(roles(&[]), [None, None, None]);
    }

    #[test]
    fn the_user_can_switch_off_what_is_offered() {
        let all = Offer { deflate_on_oom: true, reporting: true }.features();
        assert_eq!(all, 0b11_0111);
        let least = Offer { deflate_on_oom: false, reporting: false }.features();
        assert_eq!(least, 0b01_0011);
    }
}
