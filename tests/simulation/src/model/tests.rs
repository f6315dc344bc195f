use super::*;

fn write(model: &mut DiskModel, id: u32, sector: u64) {
    model.published(id, &Operation::Write { sector, data: data(id, sector, 1) });
}

fn read(model: &mut DiskModel, id: u32, sector: u64) {
    model.published(id, &Operation::Read { sector, len: SECTOR });
}

fn well(model: &mut DiskModel, id: u32) {
    model.ended(id, Status::Ok, &[]).unwrap();
}

fn finds(model: &mut DiskModel, id: u32, content: &Content) -> bool {
    model.ended(id, Status::Ok, &content.bytes(0)).is_ok()
}

#[test]
fn a_read_finds_the_last_write_and_no_other() {
    for (found, right) in [(Content::Written(1), false), (Content::Written(2), true)] {
        let mut model = DiskModel::new(4);
        for id in [1, 2] {
            write(&mut model, id, 0);
            well(&mut model, id);
        }
        read(&mut model, 3, 0);
        assert_eq!(finds(&mut model, 3, &found), right);
    }
}

#[test]
fn writes_at_the_same_time_end_in_any_order_until_one_looks() {
    let mut model = DiskModel::new(4);
    write(&mut model, 1, 0);
    write(&mut model, 2, 0);
    read(&mut model, 3, 0);
    well(&mut model, 2);
    well(&mut model, 1);
    assert!(finds(&mut model, 3, &Content::Zeroes));
    read(&mut model, 4, 0);
    assert!(finds(&mut model, 4, &Content::Written(2)));
    read(&mut model, 5, 0);
    assert!(!finds(&mut model, 5, &Content::Written(1)));
}

#[test]
fn what_failed_may_have_been_written() {
    for found in [Content::Zeroes, Content::Written(1)] {
        let mut model = DiskModel::new(1);
        write(&mut model, 1, 0);
        model.ended(1, Status::IoErr, &[]).unwrap();
        read(&mut model, 2, 0);
        assert!(finds(&mut model, 2, &found));
    }
}

#[test]
fn a_flush_promises_what_ended_before_it_began() {
    for (survivor, right) in [(Content::Zeroes, false), (Content::Written(1), true)] {
        let mut model = DiskModel::new(1);
        write(&mut model, 1, 0);
        well(&mut model, 1);
        model.published(2, &Operation::Flush);
        well(&mut model, 2);
        assert_eq!(model.power_lost(&survivor.bytes(0)).is_ok(), right);
    }
    for survivor in [Content::Zeroes, Content::Written(1)] {
        let mut model = DiskModel::new(1);
        write(&mut model, 1, 0);
        model.published(2, &Operation::Flush);
        well(&mut model, 1);
        well(&mut model, 2);
        assert!(model.power_lost(&survivor.bytes(0)).is_ok());
    }
}

#[test]
fn writethrough_promises_each_write() {
    for through in [false, true] {
        let mut model = DiskModel::new(1);
        model.set_through(through);
        write(&mut model, 1, 0);
        well(&mut model, 1);
        assert_eq!(model.power_lost(&[0; SECTOR]).is_ok(), !through);
    }
}

#[test]
fn what_was_never_taken_was_never_written() {
    let mut model = DiskModel::new(1);
    write(&mut model, 1, 0);
    model.never_taken(1);
    assert!(model.check(&Content::Written(1).bytes(0)).is_err());
    write(&mut model, 2, 0);
    model.lost(2);
    assert!(model.check(&Content::Written(2).bytes(0)).is_ok());
}
