//! VRRP, as clients, peers and the kernel see it.
//!
//! No case here forwards anything, so that all run on any kernel.

mod addresses;
mod announcements;
mod bout;
mod change;
mod configuration;
mod control;
mod disturbance;
mod duo;
mod failover;
mod families;
mod flood;
mod groups;
mod handover;
mod hmac;
mod hooks;
mod interfaces;
mod interoperation;
mod leaving;
mod migration;
mod news;
mod pair;
mod plan;
mod rejection;
mod reload;
mod sentinel;
mod stall;
mod steady;
mod tracking;
mod upkeep;
mod virtual_mac;
mod wire;

use std::time::Duration;

use crate::case::Case;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "vrrp::a_dead_active_is_replaced",
        failover::a_dead_active_is_replaced,
    ),
    Case::new(
        "vrrp::a_dead_active_is_replaced_at_one_second",
        failover::a_dead_active_is_replaced_at_one_second,
    ),
    Case::new(
        "vrrp::an_announcement_moves_the_neighbours",
        failover::an_announcement_moves_the_neighbours,
    ),
    Case::new(
        "vrrp::a_returning_director_loses_nothing",
        failover::a_returning_director_loses_nothing,
    ),
    Case::new(
        "vrrp::the_larger_address_wins_a_tie",
        failover::the_larger_address_wins_a_tie,
    ),
    Case::new(
        "vrrp::nobody_fails_over_without_a_cause",
        steady::nobody_fails_over_without_a_cause,
    )
    .within(Duration::from_secs(240))
    .soaked(),
    Case::new(
        "vrrp::a_crash_is_answered_in_time",
        steady::a_crash_is_answered_in_time,
    )
    .soaked(),
    Case::new(
        "vrrp::a_healed_lan_follows_the_winner",
        failover::a_healed_lan_follows_the_winner,
    ),
    Case::new(
        "vrrp::a_real_server_that_answers_is_named",
        sentinel::a_real_server_that_answers_is_named,
    ),
    Case::new(
        "vrrp::changes_of_roles_raise_no_alarm",
        sentinel::changes_of_roles_raise_no_alarm,
    ),
    Case::new(
        "vrrp::a_stopped_active_takes_the_vip_back",
        stall::a_stopped_active_takes_the_vip_back,
    )
    .soaked(),
    Case::new(
        "vrrp::a_stopped_active_of_lower_priority_is_silent",
        stall::a_stopped_active_of_lower_priority_is_silent,
    )
    .soaked(),
    Case::new(
        "vrrp::a_stopped_backup_stays_one",
        stall::a_stopped_backup_stays_one,
    )
    .soaked(),
    Case::new(
        "vrrp::a_deleted_vip_comes_back",
        disturbance::a_deleted_vip_comes_back,
    )
    .soaked(),
    Case::new(
        "vrrp::a_flapping_interface_settles",
        disturbance::a_flapping_interface_settles,
    )
    .soaked(),
    Case::new(
        "vrrp::an_interface_made_anew_is_used",
        disturbance::an_interface_made_anew_is_used,
    )
    .soaked(),
    Case::new(
        "vrrp::an_overrun_hides_nothing",
        disturbance::an_overrun_hides_nothing,
    )
    .soaked(),
    Case::new(
        "vrrp::a_planned_handover_loses_nothing",
        handover::a_planned_handover_loses_nothing,
    )
    .soaked(),
    Case::new("vrrp::sigterm_hands_over", leaving::sigterm_hands_over).soaked(),
    Case::new(
        "vrrp::a_killed_worker_leaves_nothing",
        leaving::a_killed_worker_leaves_nothing,
    )
    .soaked(),
    Case::new(
        "vrrp::a_killed_supervisor_takes_the_vip_along",
        leaving::a_killed_supervisor_takes_the_vip_along,
    ),
    Case::new(
        "vrrp::other_interfaces_see_nothing",
        interfaces::other_interfaces_see_nothing,
    ),
    Case::new(
        "vrrp::arp_settings_are_put_back",
        interfaces::arp_settings_are_put_back,
    ),
    Case::new(
        "vrrp::bad_adverts_of_version_3_change_nothing",
        rejection::bad_adverts_of_version_3_change_nothing,
    ),
    Case::new(
        "vrrp::bad_adverts_of_version_2_change_nothing",
        rejection::bad_adverts_of_version_2_change_nothing,
    ),
    Case::new(
        "vrrp::adverts_on_other_interfaces_change_nothing",
        rejection::adverts_on_other_interfaces_change_nothing,
    ),
    Case::new(
        "vrrp::a_flood_changes_nothing",
        flood::a_flood_changes_nothing,
    )
    .soaked(),
    Case::new(
        "vrrp::good_adverts_are_heard",
        rejection::good_adverts_are_heard,
    )
    .soaked(),
    Case::new(
        "vrrp::keepalived_and_frr_version_2",
        interoperation::version_2,
    ),
    Case::new(
        "vrrp::keepalived_version_3",
        interoperation::version_3_with_keepalived,
    ),
    Case::new("vrrp::frr_version_3", interoperation::version_3_with_frr),
    Case::new(
        "vrrp::migration_version_2",
        migration::of_version_2_with_password,
    ),
    Case::new("vrrp::migration_version_3", migration::of_version_3),
    Case::new(
        "vrrp::no_ipvs_is_said_at_once",
        configuration::no_ipvs_is_said_at_once,
    ),
    Case::new(
        "vrrp::mistakes_are_located",
        configuration::mistakes_are_located,
    ),
    Case::new(
        "vrrp::a_refused_reload_changes_nothing",
        configuration::a_refused_reload_changes_nothing,
    ),
    Case::new(
        "vrrp::a_reload_changes_the_priority",
        configuration::a_reload_changes_the_priority,
    ),
    Case::new(
        "vrrp::a_missing_address_is_put_back",
        upkeep::a_missing_address_is_put_back,
    ),
    Case::new(
        "vrrp::the_lan_follows_whoever_stays_active",
        upkeep::the_lan_follows_whoever_stays_active,
    ),
    Case::new(
        "vrrp::a_second_director_is_refused",
        upkeep::a_second_director_is_refused,
    ),
    Case::new(
        "vrrp::a_dead_director_s_addresses_go",
        upkeep::a_dead_director_s_addresses_go,
    ),
    Case::new(
        "vrrp::a_reload_without_its_interface_changes_nothing",
        upkeep::a_reload_without_its_interface_changes_nothing,
    ),
    Case::new(
        "vrrp::a_director_without_servers_does_not_preempt",
        upkeep::a_director_without_servers_does_not_preempt,
    ),
    Case::new(
        "vrrp::a_renamed_instance_keeps_its_state",
        upkeep::a_renamed_instance_keeps_its_state,
    ),
    Case::new(
        "vrrp::a_reload_moves_the_vips_to_a_virtual_mac_and_back",
        wire::a_reload_moves_the_vips_to_a_virtual_mac_and_back,
    ),
    Case::new(
        "vrrp::two_actives_with_a_virtual_mac_settle",
        wire::two_actives_with_a_virtual_mac_settle,
    ),
    Case::new("vrrp::the_wire_over_ipv4", wire::over_ipv4),
    Case::new("vrrp::the_wire_over_ipv6", wire::over_ipv6),
    Case::new(
        "vrrp::the_wire_over_ipv4_with_a_virtual_mac",
        wire::over_ipv4_with_a_virtual_mac,
    ),
    Case::new(
        "vrrp::the_wire_over_ipv6_with_a_virtual_mac",
        wire::over_ipv6_with_a_virtual_mac,
    ),
    Case::new(
        "vrrp::clients_keep_their_entry_with_a_virtual_mac",
        virtual_mac::clients_keep_their_entry,
    ),
    Case::new(
        "vrrp::a_successor_clears_up_virtual_macs",
        virtual_mac::a_successor_clears_up,
    ),
    Case::new(
        "vrrp::each_address_is_as_configured",
        addresses::each_is_as_configured,
    ),
    Case::new(
        "vrrp::an_owner_keeps_its_own_address",
        addresses::an_owner_keeps_its_own,
    ),
    Case::new(
        "vrrp::announcements_keep_their_pace",
        announcements::bursts_and_refreshes_keep_their_pace,
    ),
    Case::new(
        "vrrp::announcements_without_a_pause",
        announcements::without_a_pause_all_go_at_once_and_nothing_follows,
    ),
    Case::new(
        "vrrp::announcements_after_a_split",
        announcements::a_healed_lan_follows_the_winner,
    ),
    Case::new(
        "vrrp::a_group_moves_together",
        groups::a_lost_link_moves_all,
    ),
    Case::new(
        "vrrp::what_is_tracked_moves_the_vip",
        tracking::each_kind_moves_the_vip_and_gives_it_back,
    ),
    Case::new(
        "vrrp::hooks_hear_every_transition",
        hooks::every_transition_is_told_in_order,
    ),
    Case::new(
        "vrrp::status_says_how_it_is",
        control::status_says_how_it_is,
    ),
    Case::new(
        "vrrp::a_handover_loses_nothing",
        control::a_handover_loses_nothing,
    ),
    Case::new("vrrp::vips_move_as_planned", plan::vips_move_as_planned),
    Case::new(
        "vrrp::a_plan_and_a_reload_of_mistakes",
        plan::mistakes_change_nothing,
    ),
    Case::new(
        "vrrp::a_reload_waits_and_nobody_waits_for_it",
        plan::a_reload_waits_and_nobody_waits_for_it,
    ),
    Case::new(
        "vrrp::a_plan_without_a_director",
        plan::without_a_director_the_kernel_is_read,
    ),
    Case::new(
        "vrrp::an_ipv6_pair_moves_its_neighbours",
        families::an_ipv6_pair_moves_its_neighbours,
    ),
    Case::new(
        "vrrp::unicast_pairs_hear_only_their_peers",
        families::unicast_pairs_hear_only_their_peers,
    ),
    Case::new(
        "vrrp::only_signed_adverts_count",
        hmac::only_signed_adverts_count,
    ),
    Case::new(
        "vrrp::keys_change_without_a_gap",
        hmac::keys_change_without_a_gap,
    ),
    Case::new(
        "vrrp::a_live_pair_changes_version_and_password",
        change::of_version_and_password,
    ),
    Case::new(
        "vrrp::a_reload_touches_nothing_that_stays",
        reload::what_stays_is_not_touched,
    ),
    Case::new("vrrp::a_reload_delays_no_advert", reload::no_advert_waits),
    Case::new(
        "vrrp::a_reload_moves_a_virtual_mac",
        reload::a_virtual_mac_moves,
    ),
];

/// How often a client pings the VIP.
const PING_INTERVAL: Duration = Duration::from_millis(5);

/// How long an Active that hands over goes on answering after it has heard its successor.
const LINGER: Duration = Duration::from_millis(50);

/// Long enough for whatever should not happen to happen.
const PAUSE: Duration = Duration::from_millis(300);
