//! The balloon: pages that the guest has given give their memory back, and no others ever do.

use driver::RegionSpec;
use fastrand::Rng;
use framework::device::Device;
use outrigger_balloon::device::{BalloonDevice, Settings};
use outrigger_balloon::offer::{Offer, QUEUES};
use outrigger_balloon::service::BalloonService;
use virtio_spec::balloon::MUST_TELL_HOST;
use virtio_spec::features::Negotiated;

use super::stand::{Plan, Sent, Stand};
use super::{Scene, some_features};
use crate::Failure;
use crate::scenario::pick;

const PAGE: usize = 4096;
/// The pages that are given and taken.
const PAGES: RegionSpec = RegionSpec::new(16 << 20, (COUNT * PAGE) as u64);
const COUNT: usize = 32;
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
/// What the guest writes into its pages.
const CONTENT: u8 = 0x5a;

/// Whose a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// It was never given, or came back and was not used since.
    New,
    /// The guest's, which has written into it.
    Guests,
    /// On its way to the balloon.
    Going,
    Given,
    /// On its way back.
    Coming,
}

/// The guest's pages, and the device whose state survives.
pub(super) struct Guest {
    features: Negotiated,
    pages: [Page; COUNT],
    lists: Vec<Vec<usize>>,
    device: Option<BalloonDevice>,
}

impl Scene for Guest {
    type Service = BalloonService;

    fn choose(random: &mut Rng, seed: u64) -> (Self, Plan) {
        let features = some_features(random, &[MUST_TELL_HOST]);
        let size = *pick(random, &[4, 8, 32]);
        let (queues, regions) = (vec![0, 1], vec![PAGES]);
        let plan = Plan { seed, features, queues, all: QUEUES, size, regions };
        let (pages, lists) = ([Page::New; COUNT], Vec::new());
        (Guest { features, pages, lists, device: None }, plan)
    }

    fn service(&mut self) -> Result<BalloonService, Failure> {
        let simulator = |error: framework::Error| Failure::Simulator(error.to_string());
        let offer = Offer { deflate_on_oom: true, reporting: false };
        let settings = Settings { target: 0, offer, polling: None, queue_size: 256, auto: None };
        let mut device = BalloonDevice::new(settings);
        if let Some(former) = &self.device {
            // It is kept before anything is shown to the driver.
            device.load(&former.save()).map_err(simulator)?;
        }
        device.negotiated(self.features);
        let service = device.service(0).map_err(simulator)?.service;
        self.device = Some(device);
        Ok(service)
    }

    fn act(
        &mut self,
        stand: &mut Stand<BalloonService>,
        random: &mut Rng,
    ) -> Result<Option<String>, Failure> {
        if random.u8(..3) == 0 {
            return self.use_pages(stand);
        }
        let (ring, from, to, what) = match random.bool() {
            true => (INFLATE, &[Page::New, Page::Guests][..], Page::Going, "gives"),
            false => (DEFLATE, &[Page::Given][..], Page::Coming, "takes back"),
        };
        let mut list: Vec<usize> = (0..COUNT).collect();
        list.retain(|page| self.pages.get(*page).is_some_and(|state| from.contains(state)));
        random.shuffle(&mut list);
        list.truncate(random.usize(1..8));
        if list.is_empty() || stand.free(ring) == 0 {
            return Ok(None);
        }
        let bytes: Vec<u8> =
            list.iter().flat_map(|page| frame_number(*page).to_le_bytes()).collect();
        let buffer = stand.memory.alloc_with(&bytes)?;
        let number = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
        let parts = [buffer.readable()];
        let sent = Sent { number, buffers: vec![buffer] };
        if !stand.send(ring, &parts, sent, random)? {
            return Ok(None);
        }
        self.set(&list, to);
        let story = format!("{what} pages {list:?}");
        self.lists.push(list);
        Ok(Some(story))
    }

    fn look(&mut self, stand: &mut Stand<BalloonService>) -> Result<u64, Failure> {
        let mut back = 0;
        for (ring, to) in [(INFLATE, Page::Given), (DEFLATE, Page::New)] {
            while let Some((sent, _)) = stand.reap(ring)? {
                let list = self.lists.get(sent.number as usize).cloned().unwrap_or_default();
                self.set(&list, to);
                back += 1;
            }
        }
        self.check(stand, Page::Guests, CONTENT, "a page of the guest's")?;
        Ok(back)
    }

    fn killed(&mut self, _stand: &Stand<BalloonService>) {}

    fn check_end(&mut self, stand: &mut Stand<BalloonService>) -> Result<(), Failure> {
        self.check(stand, Page::Given, 0, "a page in the balloon")?;
        let left = |state: &Page| matches!(state, Page::Going | Page::Coming);
        if self.pages.iter().any(left) {
            return Err(Failure::Hang { what: "a list of pages is never used".into() });
        }
        if stand.has_stopped() {
            // One that stopped just where rings begin looks like a new driver's when it goes on, and
            // then the device knows of nothing in the balloon.
            return Ok(());
        }
        let device = self.device.as_ref().map(Device::stats).unwrap_or_default();
        let given = self.pages.iter().filter(|state| **state == Page::Given).count() * PAGE;
        let found = device.get("inside_bytes").and_then(serde_json::Value::as_u64);
        if found.is_some_and(|found| found != given as u64) {
            return Err(Failure::Answer {
                what: "the balloon's size",
                found: format!("{found:?}"),
                expected: given.to_string(),
            });
        }
        Ok(())
    }
}

impl Guest {
    fn set(&mut self, list: &[usize], to: Page) {
        for page in list {
            self.pages.get_mut(*page).into_iter().for_each(|state| *state = to);
        }
    }

    /// The guest writes into the pages that it has and does not use yet.
    fn use_pages(&mut self, stand: &Stand<BalloonService>) -> Result<Option<String>, Failure> {
        for (number, state) in self.pages.iter_mut().enumerate() {
            if *state == Page::New {
                *state = Page::Guests;
                page(stand, number)?.fill(CONTENT);
            }
        }
        Ok(Some("writes into its pages".into()))
    }

    /// All pages in this state hold this byte.
    fn check(
        &self,
        stand: &Stand<BalloonService>,
        state: Page,
        byte: u8,
        what: &'static str,
    ) -> Result<(), Failure> {
        let pages = self.pages.iter().enumerate().filter(|(_, found)| **found == state);
        for (number, _) in pages {
            let bytes = page(stand, number)?.to_vec();
            if bytes != [byte; PAGE] {
                let found = bytes.iter().find(|found| **found != byte);
                let found = format!("page {number} with a byte {found:x?}");
                return Err(Failure::Answer { what, found, expected: format!("all {byte:#x}") });
            }
        }
        Ok(())
    }
}

/// What the driver calls a page (virtio 1.4, 5.5.6).
fn frame_number(page: usize) -> u32 {
    u32::try_from(PAGES.guest_addr / PAGE as u64 + page as u64).unwrap_or(u32::MAX)
}

fn page(stand: &Stand<BalloonService>, number: usize) -> Result<driver::Area, Failure> {
    let at = PAGES.guest_addr + (number * PAGE) as u64;
    Ok(stand.memory.area(at, PAGE)?)
}
