//! The queue that commands come by.

use framework::device::Host;
use framework::ring::{Chain, Ring};
use virtio_spec::net::control::{ACK_ERR, ACK_OK, Coalesce};

use super::apply::Effect;
use super::command::{COMMAND_MAX, Command, Refused};
use crate::counts::Counts;
use crate::device::Card;

/// The most commands of one go.
const BUDGET: usize = 64;

/// The data side of the control queue.
#[derive(Debug, Default)]
pub(crate) struct ControlQueue {
    /// The command at hand.
    bytes: Vec<u8>,
    /// Whether it was said that the state cannot be kept.
    complained: bool,
}

impl ControlQueue {
    /// Carries out what commands there are.
    pub(crate) fn serve(&mut self, ring: &mut Ring, card: &Card, host: &Host, counts: &Counts) {
        for _ in 0..BUDGET {
            let Some(chain) = ring.take() else { return };
            if ring.writable_len(&chain) == 0 {
                // Nobody would learn what became of it.
                counts.commands_refused.add(1);
                ring.complete(chain, 0);
                continue;
            }
            let outcome = self.carry_out(ring, &chain, card, host);
            let done = match outcome {
                Ok(_) => &counts.commands,
                Err(_) => &counts.commands_refused,
            };
            done.add(1);
            let ack = if outcome.is_ok() { ACK_OK } else { ACK_ERR };
            let result = outcome.ok().flatten().map(Coalesce::to_bytes);
            let answer: Vec<u8> = [ack].into_iter().chain(result.into_iter().flatten()).collect();
            let written = ring.write(&chain, 0, &answer);
            ring.complete(chain, u32::try_from(written).unwrap_or(0));
        }
    }

    fn carry_out(
        &mut self,
        ring: &Ring,
        chain: &Chain,
        card: &Card,
        host: &Host,
    ) -> Result<Option<Coalesce>, Refused> {
        let length = ring.readable_len(chain);
        if length > COMMAND_MAX {
            return Err(Refused::Length);
        }
        self.bytes.resize(length, 0);
        ring.read(chain, 0, &mut self.bytes);
        let command = Command::parse(&self.bytes)?;
        let answers = matches!(command, Command::CoalesceGet { .. });
        if answers && ring.writable_len(chain) < 1 + Coalesce::SIZE {
            return Err(Refused::Length);
        }
        let effect = card.state.change(|state, given| command.apply(state, given))?;
        if !answers {
            self.keep(card, host);
        }
        follow(&effect, card, host);
        Ok(effect.result)
    }

    /// Before the driver may rely on it.
    fn keep(&mut self, card: &Card, host: &Host) {
        if let Err(error) = host.keep(|| card.state.get().to_bytes())
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::error!(%error, "what the driver has set is not kept");
        }
    }
}

fn follow(effect: &Effect, card: &Card, host: &Host) {
    if effect.offloads_changed {
        card.tell_uplink();
    }
    if effect.steering_changed {
        card.steer();
    }
    if effect.config_changed {
        card.state.note_config_change();
    }
    if effect.config_changed || effect.pairs_changed {
        host.ring();
    }
}
