//! Our director beside others' routers: who may share a virtual router with it.

use anyhow::Result;

use super::bout::{Make, play};
use crate::lab::Lab;
use crate::peer::{Cast, Director, Family, Frr, Keepalived, VirtualRouter};

const DIRECTOR: Make = |seat, router| Box::new(Director::new(seat, router));
const KEEPALIVED: Make = |seat, router| Box::new(Keepalived::new(seat, router));
const FRR: Make = |seat, router| Box::new(Frr::new(seat, router));

const VERSION_2: VirtualRouter = VirtualRouter::VERSION_2;
const VERSION_3: VirtualRouter = VirtualRouter::VERSION_3;
const PASSWORD: VirtualRouter = VirtualRouter {
    password: Some("s3cret"),
    ..VERSION_2
};
const IPV6: VirtualRouter = VirtualRouter {
    family: Family::Ipv6,
    ..VERSION_3
};

pub(super) fn version_2(lab: &mut Lab) -> Result<()> {
    play(
        lab,
        &[
            ([KEEPALIVED, DIRECTOR], PASSWORD),
            ([KEEPALIVED, DIRECTOR], unicast(PASSWORD)),
            ([FRR, DIRECTOR], VERSION_2),
        ],
    )
}

pub(super) fn version_3_with_keepalived(lab: &mut Lab) -> Result<()> {
    play(
        lab,
        &[
            ([KEEPALIVED, DIRECTOR], VERSION_3),
            ([KEEPALIVED, DIRECTOR], unicast(VERSION_3)),
            ([KEEPALIVED, DIRECTOR], IPV6),
            ([KEEPALIVED, DIRECTOR], unicast(IPV6)),
        ],
    )
}

pub(super) fn version_3_with_frr(lab: &mut Lab) -> Result<()> {
    play(
        lab,
        &[([FRR, DIRECTOR], VERSION_3), ([FRR, DIRECTOR], IPV6)],
    )
}

const fn unicast(router: VirtualRouter) -> VirtualRouter {
    VirtualRouter {
        cast: Cast::Unicast,
        ..router
    }
}
