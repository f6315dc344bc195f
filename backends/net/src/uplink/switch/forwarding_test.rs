use proptest::collection::vec;
use proptest::prelude::*;

use super::super::table::{AGEING, STATIONS_MAX};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const PORTS: usize = 4;

fn switch(rules: &Rules) -> Forwarding {
    Forwarding::new(PORTS, rules, Duration::ZERO)
}

fn station(n: u16) -> Mac {
    let [a, b] = n.to_be_bytes();
    [2, 0, 0, 0, a, b]
}

#[test]
fn stations_are_found_where_they_were_heard_until_that_is_long_ago() {
    let mut switch = switch(&Rules::default());
    let (a, b) = (station(1), station(2));
    assert_eq!(switch.decide(0, (b, a), SECOND), Target::All);
    assert_eq!(switch.decide(1, (a, b), SECOND), Target::Port(0));
    assert_eq!(switch.decide(0, (b, a), SECOND), Target::Port(1));
    // It has moved.
    assert_eq!(switch.decide(2, (a, b), SECOND), Target::Port(0));
    assert_eq!(switch.decide(0, (b, a), 2 * SECOND), Target::Port(2));
    assert_eq!(switch.decide(1, (b, station(3)), SECOND + AGEING), Target::All);
}

#[test]
fn isolated_ports_reach_only_others() {
    let mut switch = switch(&Rules { isolated: vec![1, 2], ..Rules::default() });
    let stations = [1, 2, 3].map(station);
    for (port, mac) in stations.iter().enumerate() {
        switch.decide(port, ([0xff; 6], *mac), SECOND);
    }
    assert_eq!(switch.decide(1, (stations[2], stations[1]), SECOND), Target::Nowhere);
    assert_eq!(switch.decide(1, (stations[0], stations[1]), SECOND), Target::Port(0));
    assert_eq!(switch.decide(0, (stations[2], stations[0]), SECOND), Target::Port(2));
    assert!(!switch.reaches(1, 2) && switch.reaches(1, 3) && switch.reaches(3, 2));
}

#[test]
fn a_port_that_floods_is_held_back_and_no_other() {
    let mut switch = switch(&Rules { floods_per_second: Some(100), ..Rules::default() });
    let mut flood = |port, now| switch.decide(port, ([0xff; 6], station(9)), now) == Target::All;
    let through = (0..1000).filter(|_| flood(0, SECOND)).count();
    assert_eq!(through, 16);
    assert!(flood(1, SECOND));
    assert!((0..100).filter(|_| flood(0, 2 * SECOND)).count() > 1);
}

#[test]
fn a_port_that_invents_stations_takes_no_others_room() {
    let mut switch = switch(&Rules::default());
    for n in 0..5000 {
        switch.decide(0, ([0xff; 6], station(n)), SECOND);
    }
    assert_eq!(switch.table.len(), STATIONS_MAX);
    switch.decide(1, ([0xff; 6], station(6000)), SECOND);
    assert_eq!(switch.decide(0, (station(6000), station(0)), SECOND), Target::Port(1));
    // Those of long ago make room.
    switch.decide(0, ([0xff; 6], station(7000)), 2 * AGEING);
    assert_eq!(switch.table.find(station(7000), 2 * AGEING), Some(0));
}

#[test]
fn groups_are_no_stations() {
    let mut switch = switch(&Rules::default());
    switch.decide(0, (station(1), [0xff; 6]), SECOND);
    assert!(switch.table.is_empty());
}

proptest! {
    /// Against a model that keeps the whole history.
    #[test]
    fn it_agrees_with_a_model(
        isolated in vec(0..PORTS, 0..3),
        steps in vec((0..PORTS, 0..6_u16, 0..7_u16, 0..400_u64), 1..200),
    ) {
        let rules = Rules { isolated: isolated.clone(), ..Rules::default() };
        let mut switch = switch(&rules);
        let mut history: Vec<(Mac, usize, Duration)> = Vec::new();
        let mut now = SECOND;
        for (port, source, to, pause) in steps {
            now += Duration::from_secs(if pause > 300 { pause } else { pause / 100 });
            let to = if to == 6 { [0xff; 6] } else { station(to) };
            history.push((station(source), port, now));
            let heard = history.iter().rev().find(|(mac, _, _)| *mac == to);
            let place = heard.filter(|(_, _, at)| now - *at < AGEING).map(|(_, port, _)| *port);
            let apart = |other: usize| isolated.contains(&port) && isolated.contains(&other);
            let expected = match place {
                None => Target::All,
                Some(other) if other == port || apart(other) => Target::Nowhere,
                Some(other) => Target::Port(other),
            };
            prop_assert_eq!(switch.decide(port, (to, station(source)), now), expected);
        }
    }
}
