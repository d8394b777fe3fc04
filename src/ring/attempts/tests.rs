//! The table of features, and the tries against the kernel the tests run on.

use super::*;
use crate::features::table;

#[test]
fn every_name_is_there_once_and_every_release_is_one() {
    let mut names: Vec<&str> = all().map(|(_, feature)| feature.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for (_, feature) in all() {
        let numbers: Vec<Result<u32, _>> = feature.since.split('.').map(str::parse).collect();
        assert!(numbers.len() == 2 && numbers.iter().all(Result::is_ok), "{}", feature.since);
    }
}

#[test]
fn what_a_feature_carries_is_a_value_of_a_dimension() {
    for (_, feature) in all() {
        let Some((name, value)) = feature.carries.and_then(|carries| carries.split_once('=')) else {
            assert_eq!(feature.carries, None, "{}", feature.name);
            continue;
        };
        let dimension = table::find(table::URING, name).unwrap_or_else(|| panic!("{name} is no dimension"));
        assert!(dimension.values.iter().any(|known| known.form.name() == value), "{name} cannot be {value}");
    }
}

#[test]
fn a_kernel_that_ignores_how_much_must_be_left_over_does_not_pass() {
    let judge = buffers::judge_least;
    assert!(judge([true, false], [true, true]).is_ok());
    assert!(judge([true, true], [true, true]).is_err(), "it goes on as if nothing had been asked for");
    assert!(judge([true, false], [true, false]).is_err(), "it gives up the rest unasked");
    assert!(judge([false, false], [true, true]).is_err());
}
