//! A packet filter's rules, as far as they decide over one packet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Where a chain is attached (`linux/netfilter.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Prerouting,
    Input,
    Output,
    Postrouting,
}

/// The packet that is followed: the first of its flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'p> {
    /// The IP protocol's number.
    pub(super) protocol: u16,
    /// Nothing where anybody may send it.
    pub(super) source: Option<IpAddr>,
    pub(super) destination: IpAddr,
    /// The destination port.
    pub(super) port: Option<u16>,
    /// The interface that it comes in by.
    pub(super) incoming: Option<&'p str>,
    /// The interface that it leaves by.
    pub(super) outgoing: Option<&'p str>,
}

/// Whether a condition holds, or why that can't be told.
pub(super) type Holds = Result<bool, Doubt>;

/// Why a condition can't be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It looks at who sends the packet, and anybody may.
    Sender,
    /// It isn't understood here, or looks at more than one packet.
    Condition,
}

/// A condition of a rule.
pub(super) type Condition = Rc<dyn Fn(&Packet<'_>) -> Holds>;

/// What a rule does with a packet of which all its conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing that decides.
    Continue,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Something that isn't understood here.
    Unclear,
}

impl Action {
    /// What the target of a rule of iptables does, unless it is a chain.
    pub(super) fn of_target(name: &str) -> Option<Self> {
        Some(match name {
            "ACCEPT" => Self::Accept,
            "DROP" | "REJECT" => Self::Drop,
            "RETURN" => Self::Return,
            "AUDIT" | "CHECKSUM" | "CLASSIFY" | "CONNMARK" | "CONNSECMARK" | "CT" | "DSCP"
            | "ECN" | "HL" | "LOG" | "MARK" | "NFLOG" | "NOTRACK" | "SECMARK" | "SET"
            | "TCPMSS" | "TEE" | "TOS" | "TRACE" | "TTL" | "ULOG" => Self::Continue,
            // Of a new flow the rest of the chain isn't asked.
            "MASQUERADE" | "SNAT" => Self::Accept,
            "DNAT" | "NETMAP" | "NFQUEUE" | "QUEUE" | "REDIRECT" | "SYNPROXY" | "TPROXY" => {
                Self::Unclear
            }
            _ => return None,
        })
    }
}

pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
    /// As people find it.
    pub(super) text: String,
}

/// A chain that the kernel begins with.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) hook: Hook,
    pub(super) priority: i64,
    /// What becomes of what no rule decides over.
    pub(super) drops: bool,
}

#[derive(Default)]
pub(super) struct Chain {
    pub(super) base: Option<Base>,
    /// Only packets of one IP version come here.
    pub(super) is_ipv6: Option<bool>,
    pub(super) rules: Vec<Rule>,
}

/// The chains by name; a jump leads to a name.
#[derive(Default)]
pub(super) struct Ruleset {
    pub(super) chains: BTreeMap<String, Chain>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    /// By this rule.
    Dropped(String),
    /// It hangs on this rule.
    Unclear(String),
}

/// Chains call each other; the kernel allows 16 levels (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// What a chain may do with a packet: one of these for certain, or several.
#[derive(Default)]
struct Outcomes {
    accepts: Option<Reason>,
    drops: Option<Reason>,
    /// To the chain that called it, or to the policy.
    returns: Option<Reason>,
}

/// The rule by which something comes about.
#[derive(Clone)]
struct Reason {
    text: String,
    is_certain: bool,
}

impl Ruleset {
    /// Follows a packet through all chains of a hook, in the kernel's order: one that drops it decides.
    pub(super) fn fate(&self, hook: Hook, packet: &Packet<'_>) -> Fate {
        let is_ipv6 = packet.destination.is_ipv6();
        let chains = self.chains.iter();
        let mut chains: Vec<(&String, &Chain, &Base)> = chains
            .filter(|(_, chain)| chain.is_ipv6.is_none_or(|one| one == is_ipv6))
            .filter_map(|(name, chain)| Some((name, chain, chain.base.as_ref()?)))
            .filter(|(.., base)| base.hook == hook)
            .collect();
        chains.sort_by_key(|(.., base)| base.priority);
        let mut unclear = None;
        for (name, chain, base) in chains {
            let mut outcomes = self.follow(chain, packet, DEPTH);
            let by_policy = outcomes.returns.take().map(|mut reason| {
                if reason.is_certain {
                    reason.text = format!("the policy of chain {name}");
                }
                reason
            });
            outcomes.add(if base.drops {
                Outcomes {
                    drops: by_policy,
                    ..Outcomes::default()
                }
            } else {
                Outcomes {
                    accepts: by_policy,
                    ..Outcomes::default()
                }
            });
            match (outcomes.accepts, outcomes.drops) {
                (_, None) => {}
                (None, Some(drops)) => return Fate::Dropped(drops.text),
                (Some(accepts), Some(drops)) => {
                    let doubtful = if drops.is_certain { accepts } else { drops };
                    unclear.get_or_insert(doubtful.text);
                }
            }
        }
        unclear.map_or(Fate::Accepted, Fate::Unclear)
    }

    fn follow(&self, chain: &Chain, packet: &Packet<'_>, depth: usize) -> Outcomes {
        let mut outcomes = Outcomes::default();
        // By which rule the packet may not even come here.
        let mut detour: Option<String> = None;
        for rule in &chain.rules {
            let doubt = match rule.applies(packet) {
                Ok(false) => continue,
                Ok(true) => None,
                Err(doubt) => Some(doubt),
            };
            let mut found = self.apply(rule, packet, depth);
            // What a called chain gives back goes on here.
            let goes_on = matches!(
                rule.action,
                Action::Jump(_) | Action::Continue | Action::Unclear
            )
            .then(|| found.returns.take());
            if doubt == Some(Doubt::Sender) {
                // That somebody is kept out is nobody else's trouble.
                found.drops = None;
            }
            if doubt.is_some() {
                found = found.uncertain(&rule.text);
            }
            outcomes.add(match &detour {
                Some(text) => found.uncertain(text),
                None => found,
            });
            match goes_on.flatten() {
                _ if doubt.is_some() => {}
                None => return outcomes,
                Some(reason) if !reason.is_certain => _ = detour.get_or_insert(reason.text),
                Some(_) => {}
            }
        }
        let end = Outcomes {
            returns: Some(Reason {
                text: String::new(),
                is_certain: true,
            }),
            ..Outcomes::default()
        };
        outcomes.add(match &detour {
            Some(text) => end.uncertain(text),
            None => end,
        });
        outcomes
    }

    /// What a rule does with a packet that it is for; one that lets it go on returns it.
    fn apply(&self, rule: &Rule, packet: &Packet<'_>, depth: usize) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let certain = Some(Reason {
            text: rule.text.clone(),
            is_certain: true,
        });
        match &rule.action {
            Action::Accept => outcomes.accepts = certain,
            Action::Drop => outcomes.drops = certain,
            Action::Return | Action::Continue => outcomes.returns = certain,
            Action::Unclear => return Outcomes::any(&rule.text),
            Action::Jump(target) | Action::Goto(target) => {
                return match self.chains.get(target).filter(|_| depth > 0) {
                    Some(next) => self.follow(next, packet, depth - 1),
                    None => Outcomes::any(&rule.text),
                };
            }
        }
        outcomes
    }
}

impl Rule {
    fn applies(&self, packet: &Packet<'_>) -> Holds {
        let mut doubt = None;
        for condition in &self.conditions {
            match condition(packet) {
                Ok(true) => {}
                // One that doesn't hold is enough, whatever is unclear beside it.
                Ok(false) => return Ok(false),
                Err(Doubt::Sender) => doubt = doubt.or(Some(Doubt::Sender)),
                Err(Doubt::Condition) => doubt = Some(Doubt::Condition),
            }
        }
        doubt.map_or(Ok(true), Err)
    }
}

impl Outcomes {
    fn any(rule: &str) -> Self {
        let reason = Some(Reason {
            text: rule.to_owned(),
            is_certain: false,
        });
        Self {
            accepts: reason.clone(),
            drops: reason.clone(),
            returns: reason,
        }
    }

    /// The same, if this rule lets it come to that.
    fn uncertain(self, rule: &str) -> Self {
        let any = Self::any(rule);
        Self {
            accepts: self.accepts.and(any.accepts),
            drops: self.drops.and(any.drops),
            returns: self.returns.and(any.returns),
        }
    }

    /// The first reason counts, unless a certain one comes.
    fn add(&mut self, other: Self) {
        let note = |known: &mut Option<Reason>, new: Option<Reason>| {
            let is_better = |new: &Reason| {
                known
                    .as_ref()
                    .is_none_or(|known| !known.is_certain && new.is_certain)
            };
            if new.as_ref().is_some_and(is_better) {
                *known = new;
            }
        };
        note(&mut self.accepts, other.accepts);
        note(&mut self.drops, other.drops);
        note(&mut self.returns, other.returns);
    }
}

/// Names of `/etc/protocols`; of others it can only be said that they are none of ours.
pub(super) fn protocol_number(name: &str) -> Option<u16> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "ipv6-icmp" | "icmpv6" => 58,
        "ospf" => 89,
        "vrrp" => 112,
        "sctp" => 132,
        "udplite" => 136,
        _ => return name.parse().ok(),
    })
}
