//! Which pool carries a job, and how fast that pool is.

use std::num::NonZeroU32;

use crate::config::Counting;
use crate::domain::ids::{Lane, PoolId};
use crate::domain::job::{Class, Kind};
use crate::domain::money::Money;
use crate::domain::rate::Rate;

/// A provider's place among the pools, from the settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The pool it is in.
    pub pool: PoolId,
    /// The kinds it carries.
    pub kinds: Vec<Kind>,
    /// How fast it may send; `None`: as fast as it answers.
    pub rate: Option<Rate>,
    /// What one segment, template message or begun minute costs there; `None`: no price is known.
    pub price: Option<Money>,
    /// How it counts segments.
    pub counting: Counting,
    /// The signature that it puts in front of texts that have none; empty: none.
    pub signature: Box<str>,
}

/// What a pool asks for, whichever of its providers carries a job: which one that is is known only when it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tariff {
    /// The most that one segment, template message or begun minute costs; `None`: one of them has no price.
    pub price: Option<Money>,
    /// How segments are counted: as where they are shortest.
    pub counting: Counting,
    /// The longest signature that is put in front of texts; empty: none.
    pub signature: Box<str>,
}

/// The pools by kind. A kind goes to the first pool, in the order of the settings, with a provider that carries it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routes {
    pools: Vec<Pool>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Pool {
    id: PoolId,
    kinds: Vec<Kind>,
    /// `None` as soon as one provider has no rate.
    per_s: Option<u32>,
    tariff: Tariff,
}

impl Routes {
    /// Groups providers into pools.
    pub fn new(members: &[Member]) -> Self {
        let mut pools: Vec<Pool> = Vec::new();
        for member in members {
            let per_s = member.rate.map(|rate| rate.per_s.get());
            match pools.iter_mut().find(|pool| pool.id == member.pool) {
                Some(pool) => {
                    pool.kinds.extend(&member.kinds);
                    pool.per_s = pool.per_s.zip(per_s).map(|(sum, more)| sum.saturating_add(more));
                    pool.tariff.or_dearer(member);
                }
                None => {
                    let (id, kinds) = (member.pool.clone(), member.kinds.clone());
                    pools.push(Pool { id, kinds, per_s, tariff: Tariff::of(member) });
                }
            }
        }
        Self { pools }
    }

    /// Returns the pool that carries `kind`.
    pub fn pool(&self, kind: Kind) -> Option<&PoolId> {
        self.pools.iter().find(|pool| pool.kinds.contains(&kind)).map(|pool| &pool.id)
    }

    /// Returns how much work may be released to a pool: its rate, with a quarter of a second's worth at once, so that
    /// what is released hardly waits in a lane, and nobody behind it. `None`: no limit.
    pub fn credit(&self, pool: &PoolId) -> Option<Rate> {
        let per_s = self.pools.iter().find(|candidate| candidate.id == *pool)?.per_s?;
        Some(Rate { per_s: NonZeroU32::new(per_s)?, burst: NonZeroU32::new(per_s.div_ceil(4))? })
    }

    /// Returns what a pool asks for; `None`: there is no such pool.
    pub fn tariff(&self, pool: &PoolId) -> Option<&Tariff> {
        self.pools.iter().find(|candidate| candidate.id == *pool).map(|pool| &pool.tariff)
    }

    /// Returns every lane there is.
    pub fn lanes(&self) -> Vec<Lane> {
        let lanes =
            |pool: &Pool| Class::ALL.iter().map(|&class| Lane { class, pool: pool.id.clone() }).collect::<Vec<_>>();
        self.pools.iter().flat_map(lanes).collect()
    }
}

impl Tariff {
    fn of(member: &Member) -> Self {
        Self { price: member.price, counting: member.counting, signature: member.signature.clone() }
    }

    /// Makes it the dearer of what it is and what another provider asks for.
    fn or_dearer(&mut self, other: &Member) {
        self.price = self.price.zip(other.price).map(|(a, b)| if a.micros() < b.micros() { b } else { a });
        if other.counting == Counting::CnDomestic {
            self.counting = Counting::CnDomestic;
        }
        if other.signature.chars().count() > self.signature.chars().count() {
            self.signature = other.signature.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pool: &str, kinds: &[Kind], rate: Option<&str>) -> Member {
        let rate = rate.map(|rate| rate.parse().unwrap());
        let (counting, signature) = (Counting::GsmIntl, "".into());
        Member { pool: pool.parse().unwrap(), kinds: kinds.to_vec(), rate, price: None, counting, signature }
    }

    #[test]
    fn a_kind_goes_to_the_first_pool_that_carries_it() {
        let routes = Routes::new(&[
            member("fast", &[Kind::Sms], Some("100/s")),
            member("all", &[Kind::Sms, Kind::Call], None),
            member("fast", &[Kind::Sms], Some("50/s")),
        ]);
        assert_eq!(routes.pool(Kind::Sms).unwrap().as_str(), "fast");
        assert_eq!(routes.pool(Kind::Call).unwrap().as_str(), "all");
        assert_eq!(routes.pool(Kind::Template), None);
        assert_eq!(routes.credit(&"fast".parse().unwrap()).unwrap().to_string(), "150/s:38");
        assert_eq!(routes.credit(&"all".parse().unwrap()), None);
        assert_eq!(routes.lanes().len(), 8);
    }

    #[test]
    fn a_pool_asks_for_what_its_dearest_provider_does() {
        let priced = |pool, price: Option<&str>| {
            let price = price.map(|price| price.parse().unwrap());
            Member { price, ..member(pool, &[Kind::Sms], None) }
        };
        let domestic =
            Member { counting: Counting::CnDomestic, signature: "晨星".into(), ..priced("all", Some("0.03 CNY")) };
        let routes = Routes::new(&[
            priced("all", Some("0.04 CNY")),
            priced("all", Some("0.05 CNY")),
            domestic,
            priced("some", Some("0.04 CNY")),
            priced("some", None),
        ]);
        let all = routes.tariff(&"all".parse().unwrap()).unwrap();
        assert_eq!((all.price.unwrap().to_string(), all.counting), ("0.05 CNY".into(), Counting::CnDomestic));
        assert_eq!(&*all.signature, "晨星");
        assert_eq!(routes.tariff(&"some".parse().unwrap()).unwrap().price, None, "nobody knows what it may cost");
    }
}
