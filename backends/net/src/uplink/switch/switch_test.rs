//! The whole switch against a model: who gets which frame, by which pair, and when senders get theirs
//! back.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::outlet::Mail;
use super::*;
use crate::hash;

const PORTS: usize = 3;
const PAIRS: u16 = 2;

type Letter = (usize, u16);
/// Destination, source and flow of a frame, and the frame.
type Sent = ((u8, u8, u8), Vec<u8>);

#[derive(Clone, Debug)]
enum Step {
    /// This pair of the port sends frames: to and from these stations, of these flows.
    Send(Letter, Vec<(u8, u8, u8)>),
    /// This pair's worker takes what there is for it.
    Take(Letter),
    /// This pair takes frames, or does not.
    Open(Letter, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let letter = || (0..PORTS, 0..PAIRS);
    let frames = vec((0..5_u8, 0..4_u8, 0..6_u8), 1..6);
    prop_oneof![
        4 => (letter(), frames).prop_map(|(letter, frames)| Step::Send(letter, frames)),
        2 => letter().prop_map(Step::Take),
        1 => (letter(), any::<bool>()).prop_map(|(letter, open)| Step::Open(letter, open)),
    ]
}

/// A frame; station 4 is everybody, flow 0 is no IP packet.
fn frame((to, from, flow): (u8, u8, u8), number: u16) -> Vec<u8> {
    let station = |n| if n == 4 { [0xff; 6] } else { [2, 0, 0, 0, 0, n] };
    let kind = if flow == 0 { [0x88, 0xb5] } else { [8, 0] };
    let [high, low] = number.to_be_bytes();
    // The number is where the IP header has its identification.
    let ip = [0x45, 0, 0, 28, high, low, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let ports = [0, flow, 0, 7, 0, 8, 0, 0];
    [&station(to)[..], &station(from), &kind, &ip, &ports].concat()
}

#[derive(Default)]
struct Model {
    stations: HashMap<u8, usize>,
    flows: HashMap<(usize, u32), u16>,
    open: HashMap<Letter, bool>,
    letters: HashMap<Letter, Vec<Vec<u8>>>,
}

impl Model {
    /// Stations are learnt, and places found, frame by frame; then frames go.
    fn send(&mut self, (port, pair): Letter, frames: &[Sent], apart: &[usize]) {
        let reaches = |to: usize| to != port && !(apart.contains(&port) && apart.contains(&to));
        let mut ways = Vec::new();
        for ((to, from, _), bytes) in frames {
            self.stations.insert(*from, port);
            let place = self.stations.get(to).filter(|_| *to != 4).copied();
            let ports = place.map_or((0..PORTS).collect(), |place| vec![place]);
            ways.push((bytes, ports.into_iter().filter(|to| reaches(*to)).collect::<Vec<_>>()));
        }
        for (bytes, ports) in ways {
            let flow = hash::of_both_ways(bytes).map(|hash| hash % 1024);
            self.flows.extend(flow.map(|flow| ((port, flow), pair)));
            for to in ports {
                let known = flow.and_then(|flow| self.flows.get(&(to, flow)));
                let wanted = (to, known.copied().unwrap_or(0));
                let letter = if self.is_open(wanted) { wanted } else { (to, 0) };
                if self.is_open(letter) {
                    self.letters.entry(letter).or_default().push(bytes.clone());
                }
            }
        }
    }

    fn is_open(&self, letter: Letter) -> bool {
        self.open.get(&letter).copied().unwrap_or(false)
    }
}

/// A worker's letters: the frames, in order.
fn take(outlet: &Outlet, returned: &mut Vec<u64>) -> Vec<Vec<u8>> {
    let mut mail = Mail::default();
    outlet.take(&mut mail);
    returned.append(&mut mail.returned);
    let frames = mail.shares.iter().flat_map(|Share { parcel, frames }| {
        frames.iter().map(|number| parcel.frame(*number).unwrap().to_vec())
    });
    frames.collect()
}

fn parcel(frames: &[Sent], home: (Arc<Outlet>, u64)) -> Parcel {
    let memory = framework::memory::Mapping::owned(frames.len() * 64).unwrap();
    let memory = Arc::new(memory);
    let mut parcel = Parcel::new(Some(home));
    for (n, (_, bytes)) in frames.iter().enumerate() {
        memory.write(64 * n, bytes);
        let place = parcel.held().hold_own(&memory, 64 * n, bytes.len()).unwrap();
        parcel.add(virtio_spec::net::Header::default(), bytes.len(), place);
    }
    parcel
}

proptest! {
    #[test]
    fn it_agrees_with_a_model(
        apart in vec(0..PORTS, 0..3), steps in vec(step(), 1..60),
    ) {
        let rules = Rules { isolated: apart.clone(), ..Rules::default() };
        let (ports, _) = Switch::ports(PORTS, PAIRS, &rules, None).unwrap();
        let outlet = |(port, pair): Letter| ports[port].outlet(pair).unwrap();
        let (mut model, mut number) = (Model::default(), 0_u16);
        let (mut sent, mut returned) = (0_u64, Vec::new());
        for step in steps {
            match step {
                Step::Send(letter, kinds) => {
                    let frames: Vec<_> = kinds.into_iter().map(|kind| {
                        number += 1;
                        (kind, frame(kind, number))
                    }).collect();
                    model.send(letter, &frames, &apart);
                    let parcel = parcel(&frames, (Arc::clone(outlet(letter)), sent));
                    sent += 1;
                    let lost = ports[letter.0].send(parcel, letter.1, &mut Routes::default());
                    prop_assert_eq!(lost, (0, 0));
                }
                Step::Take(letter) => {
                    let expected = model.letters.remove(&letter).unwrap_or_default();
                    prop_assert_eq!(take(outlet(letter), &mut returned), expected, "{:?}", letter);
                }
                Step::Open(letter, open) => {
                    model.open.insert(letter, open);
                    if !open {
                        model.letters.remove(&letter);
                    }
                    outlet(letter).set_open(open);
                }
            }
        }
        let all = || (0..PORTS).flat_map(|port| (0..PAIRS).map(move |pair| (port, pair)));
        for letter in all() {
            let expected = model.letters.remove(&letter).unwrap_or_default();
            prop_assert_eq!(take(outlet(letter), &mut returned), expected, "{:?}", letter);
        }
        all().for_each(|letter| drop(take(outlet(letter), &mut returned)));
        returned.sort_unstable();
        prop_assert_eq!(returned, (0..sent).collect::<Vec<_>>(), "each sender hears once");
    }
}

#[test]
fn a_worker_that_never_comes_is_not_waited_for() {
    let (ports, _) = Switch::ports(2, 1, &Rules::default(), None).unwrap();
    let (here, there) = (ports[0].outlet(0).unwrap(), ports[1].outlet(0).unwrap());
    there.set_open(true);
    let kind = (4, 0, 0);
    let mut returned = Vec::new();
    for number in 0..10_000 {
        let parcel = parcel(&[(kind, frame(kind, 1))], (Arc::clone(here), number));
        ports[0].send(parcel, 0, &mut Routes::default());
        take(here, &mut returned);
    }
    assert_eq!(there.overflowed() + 4096, 10_000);
    assert_eq!(returned.len() as u64, there.overflowed());
}
