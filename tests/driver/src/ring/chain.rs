//! What the driver remembers of chains in flight, and the tables of indirect ones.

use std::collections::{HashMap, VecDeque};

use virtio_spec::split::DESC_SIZE;

use super::{Part, Placement, RingFeatures, Token, Used};
use crate::{Buffer, Error, Memory, Result};

/// A chain in flight.
#[derive(Debug)]
pub(super) struct Chain {
    /// Indices of the ring's descriptors that it takes.
    pub(super) descriptors: Vec<u16>,
    /// Bytes that the device may write.
    pub(super) writable: u64,
    /// Its indirect table, which has to stay as it is while the chain is in flight.
    #[expect(dead_code, reason = "kept allocated, never read")]
    pub(super) table: Option<Buffer>,
}

/// Chains in flight, oldest first, and used ones that the caller has yet to take.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    chains: HashMap<Token, Chain>,
    order: VecDeque<Token>,
    ready: VecDeque<Used>,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.chains.len() + self.ready.len()
    }

    pub(super) fn insert(&mut self, token: Token, chain: Chain) {
        self.chains.insert(token, chain);
        self.order.push_back(token);
    }

    /// The next used chain that was recorded.
    pub(super) fn take_ready(&mut self) -> Option<Used> {
        self.ready.pop_front()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Records what the device wrote: chain `id` was used with `written` bytes. In order, all older
    /// chains were used with it (virtio 1.4, 2.7.9 and 2.8.8). Returns the chains that are done.
    pub(super) fn complete(
        &mut self,
        id: u32,
        written: u32,
        in_order: bool,
    ) -> Result<Vec<(Token, Chain)>> {
        let token = u16::try_from(id).map(Token).ok();
        let position = token.and_then(|token| self.order.iter().position(|&t| t == token));
        let Some(position) = position else {
            return Err(Error::Device(format!("it used chain {id}, which is not in flight")));
        };
        let tokens: Vec<Token> = if in_order {
            self.order.drain(..=position).collect()
        } else {
            self.order.remove(position).into_iter().collect()
        };
        let mut done = Vec::with_capacity(tokens.len());
        for token in tokens {
            let batched = u32::from(token.0) != id;
            let written = if batched { 0 } else { written };
            self.ready.push_back(Used { token, written, batched });
            done.extend(self.chains.remove(&token).map(|chain| (token, chain)));
        }
        match done.last() {
            Some((_, chain)) if u64::from(written) > chain.writable => Err(Error::Device(format!(
                "it says that it wrote {written} bytes into chain {id}, which has room for {}",
                chain.writable
            ))),
            _ => Ok(done),
        }
    }
}

/// How many of the parts stand in the ring itself; the rest go into a table.
pub(super) fn direct_parts(
    parts: &[Part],
    placement: Placement,
    features: RingFeatures,
) -> Result<usize> {
    if parts.is_empty() {
        return Err(Error::Unsupported("a chain without parts"));
    }
    let direct = match placement {
        Placement::Direct => parts.len(),
        Placement::Indirect => 0,
        Placement::Mixed(direct) => direct.min(parts.len()),
    };
    if direct < parts.len() && !features.indirect {
        return Err(Error::Unsupported("indirect descriptors without INDIRECT_DESC"));
    }
    Ok(direct)
}

/// Bytes that the device may write into these parts.
pub(super) fn writable(parts: &[Part]) -> u64 {
    parts.iter().filter(|part| part.write).map(|part| u64::from(part.len)).sum()
}

/// A table of these descriptors, each as it stands in memory.
pub(super) fn table(memory: &Memory, descriptors: &[[u8; DESC_SIZE]]) -> Result<Buffer> {
    memory.alloc_with(&descriptors.concat())
}
