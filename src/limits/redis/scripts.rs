//! The scripts: one file, one question.

use deadpool_redis::redis::{Cmd, Script, cmd};

/// Every script but the identity's, with its hash.
pub(super) struct Scripts {
    pub accepted: Loaded,
    pub borrow: Loaded,
    pub claim: Loaded,
    pub collapse: Loaded,
    pub consent: Loaded,
    pub give_back: Loaded,
    pub lead: Loaded,
    pub lease: Loaded,
    pub lend: Loaded,
    pub places: Loaded,
    pub recovered: Loaded,
    pub rule: Loaded,
    pub share: Loaded,
    pub spend: Loaded,
    pub standing: Loaded,
    pub suppress: Loaded,
    pub suppressions: Loaded,
    pub unlease: Loaded,
    pub unsuppress: Loaded,
    pub vacate: Loaded,
}

/// One script.
pub(super) struct Loaded {
    code: &'static str,
    hash: String,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            accepted: Loaded::new(include_str!("accepted.lua")),
            borrow: Loaded::new(include_str!("borrow.lua")),
            claim: Loaded::new(concat!(include_str!("memory.lua"), include_str!("claim.lua"))),
            collapse: Loaded::new(include_str!("collapse.lua")),
            consent: Loaded::new(include_str!("consent.lua")),
            give_back: Loaded::new(concat!(include_str!("memory.lua"), include_str!("give_back.lua"))),
            lead: Loaded::new(include_str!("lead.lua")),
            lease: Loaded::new(include_str!("lease.lua")),
            lend: Loaded::new(include_str!("lend.lua")),
            places: Loaded::new(concat!(include_str!("memory.lua"), include_str!("places.lua"))),
            recovered: Loaded::new(include_str!("recovered.lua")),
            rule: Loaded::new(include_str!("rule.lua")),
            share: Loaded::new(include_str!("share.lua")),
            spend: Loaded::new(include_str!("spend.lua")),
            standing: Loaded::new(include_str!("standing.lua")),
            suppress: Loaded::new(include_str!("suppress.lua")),
            suppressions: Loaded::new(include_str!("suppressions.lua")),
            unlease: Loaded::new(include_str!("unlease.lua")),
            unsuppress: Loaded::new(include_str!("unsuppress.lua")),
            vacate: Loaded::new(concat!(include_str!("memory.lua"), include_str!("vacate.lua"))),
        }
    }

    /// Returns the code of each.
    pub(super) fn sources(&self) -> impl Iterator<Item = &'static str> {
        let Self { accepted, claim, collapse, give_back, lead, lease, places, recovered, rule, .. } = self;
        let Self {
            borrow,
            consent,
            lend,
            share,
            spend,
            standing,
            suppress,
            suppressions,
            unlease,
            unsuppress,
            vacate,
            ..
        } = self;
        [accepted, claim, collapse, give_back, lead, lease, places, recovered, rule, standing, suppress]
            .into_iter()
            .chain([borrow, consent, lend, share, spend, suppressions, unlease, unsuppress, vacate])
            .map(|script| script.code)
    }
}

impl Loaded {
    fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().to_owned() }
    }

    /// Returns a call of the script with its keys; arguments follow.
    pub(super) fn call(&self, keys: &[Vec<u8>]) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len());
        for key in keys {
            call.arg(key);
        }
        call
    }
}
