//! What the documentation shows.

use super::*;

#[test]
fn the_packaged_example_is_the_issues() {
    let packaged = include_str!("../../../../deploy/director.yaml");
    for node in ["ds1", "ds2"] {
        assert_eq!(configuration(packaged, node), configuration(EXAMPLE, node));
    }
}
