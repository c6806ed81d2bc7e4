//! Which pool carries a job, how fast that pool is, and what it costs.
//!
//! The first rule that matches holds: a tenant's own, then those of the settings, then the first pool that carries the
//! kind. A rule whose pool does not carry the kind does not match.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};

use super::numbers::{self, NonePorted, Ported};
use crate::config::{Counting, HouseRoute};
use crate::domain::call::Skill;
use crate::domain::ids::{Lane, PoolId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::money::Money;
use crate::domain::rate::Rate;
use crate::domain::recipient::Msisdn;
use crate::domain::route::{RouteRule, Routed};

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
    /// Whether it carries service notices alone, and no marketing.
    pub notices_only: bool,
    /// What it can do in calls, where it makes any.
    pub skills: Vec<Skill>,
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

/// The pools, and the rules of the settings that choose among them. Without a rule a kind goes to the first pool, in the
/// order of the settings, with a provider that carries it.
pub struct Routes {
    pools: Vec<Pool>,
    house: RwLock<Arc<[HouseRoute]>>,
    ported: Box<dyn Ported>,
}

/// The ways that a request's jobs may take: of the rules that match them all but for their numbers, those up to the first
/// that asks for no number.
pub struct Ways<'a> {
    rules: Vec<Arc<RouteRule>>,
    /// The pool of the others, and their sender where they name none.
    last: (PoolId, Box<str>),
    ported: &'a dyn Ported,
}

/// Which pool carries which of a request's jobs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// The pools, never none; each as often as jobs that name no sender have different ones there.
    pub pools: Vec<PoolId>,
    /// The sender of those that name none, for each of the pools; empty: none.
    pub senders: Vec<Box<str>>,
    /// The place of each job's pool among them; empty: all have the first.
    pub of: Vec<usize>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Pool {
    id: PoolId,
    kinds: Vec<Kind>,
    /// `None` as soon as one provider has no rate.
    per_s: Option<u32>,
    tariff: Tariff,
    /// One of its providers carries no marketing.
    notices_only: bool,
    /// What one of those of its providers that make calls cannot do in them.
    lacks: Vec<Skill>,
}

impl Routes {
    /// Groups providers into pools.
    pub fn new(members: &[Member]) -> Self {
        let mut pools: Vec<Pool> = Vec::new();
        for member in members {
            let per_s = member.rate.map(|rate| rate.per_s.get());
            let calls = member.kinds.contains(&Kind::Call);
            let lacks = Skill::ALL.into_iter().filter(|skill| calls && !member.skills.contains(skill));
            match pools.iter_mut().find(|pool| pool.id == member.pool) {
                Some(pool) => {
                    pool.kinds.extend(&member.kinds);
                    pool.per_s = pool.per_s.zip(per_s).map(|(sum, more)| sum.saturating_add(more));
                    pool.tariff.or_dearer(member);
                    pool.notices_only |= member.notices_only;
                    pool.lacks.extend(lacks);
                }
                None => {
                    let (id, kinds) = (member.pool.clone(), member.kinds.clone());
                    let notices_only = member.notices_only;
                    let lacks = lacks.collect();
                    pools.push(Pool { id, kinds, per_s, tariff: Tariff::of(member), notices_only, lacks });
                }
            }
        }
        Self { pools, house: RwLock::default(), ported: Box::new(NonePorted) }
    }

    /// Returns the same with a source of ported numbers.
    #[must_use]
    pub fn with_ported(self, ported: Box<dyn Ported>) -> Self {
        Self { ported, ..self }
    }

    /// Replaces the rules of the settings, for what is accepted from then on.
    pub fn set_house(&self, house: Vec<HouseRoute>) {
        *self.house.write().unwrap_or_else(PoisonError::into_inner) = house.into();
    }

    /// Returns the ways of a tenant's jobs, whose own rules are `own`; `None` where no pool carries their kind.
    pub fn ways(&self, tenant: &TenantId, own: &[Arc<RouteRule>], jobs: &Routed<'_>) -> Option<Ways<'_>> {
        let last = self.pool(jobs.kind)?.clone();
        let house = Arc::clone(&self.house.read().unwrap_or_else(PoisonError::into_inner));
        let binds = |route: &&HouseRoute| route.tenant.as_ref().is_none_or(|of| of == tenant);
        let house = house.iter().filter(binds).map(|route| &route.rule);
        let mut ways = Ways { rules: vec![], last: (last, "".into()), ported: &*self.ported };
        for rule in own.iter().chain(house) {
            if !rule.matches(jobs) || !self.carries(&rule.pool, jobs.kind) {
                continue;
            }
            if !rule.asks_number() {
                ways.last = (rule.pool.clone(), rule.sender.clone());
                break;
            }
            ways.rules.push(Arc::clone(rule));
        }
        Some(ways)
    }

    /// Returns the pool of a tenant's jobs of which nothing but the kind is known, and whom they leave from (empty: nobody is
    /// named): by the first rule that asks for no more. `None` where no pool carries the kind.
    pub fn plain(&self, tenant: &TenantId, own: &[Arc<RouteRule>], kind: Kind) -> Option<(PoolId, Box<str>)> {
        let house = Arc::clone(&self.house.read().unwrap_or_else(PoisonError::into_inner));
        let binds = |route: &&HouseRoute| route.tenant.as_ref().is_none_or(|of| of == tenant);
        let house = house.iter().filter(binds).map(|route| &route.rule);
        let fits = |rule: &&Arc<RouteRule>| rule.takes_all_of(kind) && self.carries(&rule.pool, kind);
        match own.iter().chain(house).find(fits) {
            Some(rule) => Some((rule.pool.clone(), rule.sender.clone())),
            None => Some((self.pool(kind)?.clone(), "".into())),
        }
    }

    /// Returns whether there is a pool of that name that carries a kind.
    pub fn carries(&self, pool: &PoolId, kind: Kind) -> bool {
        self.pools.iter().any(|known| known.id == *pool && known.kinds.contains(&kind))
    }

    /// Returns the names of all pools.
    pub fn names(&self) -> Vec<PoolId> {
        self.pools.iter().map(|pool| pool.id.clone()).collect()
    }

    /// Returns the pool that carries `kind` where no rule says otherwise.
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

    /// Returns whether a pool takes jobs of a class at all: which of its providers carries a job is known only when it goes.
    pub fn takes(&self, pool: &PoolId, class: Class) -> bool {
        let known = self.pools.iter().find(|candidate| candidate.id == *pool);
        class != Class::Marketing || known.is_none_or(|pool| !pool.notices_only)
    }

    /// Returns what of `asked` a pool cannot do in calls, whichever of its providers makes them; `None`: it can do all.
    pub fn lacks(&self, pool: &PoolId, asked: &[Skill]) -> Option<Skill> {
        let known = self.pools.iter().find(|candidate| candidate.id == *pool)?;
        asked.iter().copied().find(|skill| known.lacks.contains(skill))
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

impl Default for Routes {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("pools", &self.pools).finish_non_exhaustive()
    }
}

// === impl Ways ===

impl Ways<'_> {
    /// Returns the pool of a job to a number, and its sender where it names none.
    pub fn way(&self, number: Option<&Msisdn>) -> (&PoolId, &str) {
        let fits = |rule: &&Arc<RouteRule>| number.is_some_and(|number| self.fits(rule, number));
        let (pool, sender) = &self.last;
        self.rules.iter().find(fits).map_or((pool, sender), |rule| (&rule.pool, &rule.sender))
    }

    /// Returns the pools of jobs to these numbers, in order.
    pub fn places<'n>(&self, numbers: impl Iterator<Item = Option<&'n Msisdn>>) -> Places {
        let (last, sender) = &self.last;
        let same = || Places { pools: vec![last.clone()], senders: vec![sender.clone()], of: vec![] };
        if self.rules.is_empty() {
            return same();
        }
        let (mut ways, mut of): (Vec<(&PoolId, &str)>, Vec<usize>) = (vec![], vec![]);
        for number in numbers {
            let way = self.way(number);
            let place = ways.iter().position(|known| *known == way).unwrap_or_else(|| {
                ways.push(way);
                ways.len() - 1
            });
            of.push(place);
        }
        let (pools, senders): (Vec<_>, Vec<_>) =
            ways.iter().map(|(pool, sender)| ((*pool).clone(), Box::from(*sender))).unzip();
        match pools.len() {
            0 => same(),
            1 => Places { pools, senders, of: vec![] },
            _ => Places { pools, senders, of },
        }
    }

    fn fits(&self, rule: &RouteRule, number: &Msisdn) -> bool {
        let RouteRule { countries, prefixes, carriers, .. } = rule;
        (prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.begins(number)))
            && (countries.is_empty() || numbers::country(number).is_some_and(|found| countries.contains(&found)))
            && (carriers.is_empty()
                || numbers::carrier(number, self.ported).is_some_and(|found| carriers.contains(&found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pool: &str, kinds: &[Kind], rate: Option<&str>) -> Member {
        let rate = rate.map(|rate| rate.parse().unwrap());
        let (counting, signature) = (Counting::GsmIntl, "".into());
        let kinds = kinds.to_vec();
        Member {
            pool: pool.parse().unwrap(),
            kinds,
            rate,
            price: None,
            counting,
            signature,
            notices_only: false,
            skills: vec![],
        }
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

    #[test]
    fn a_pool_takes_no_marketing_if_one_of_its_providers_does_not() {
        let notices = Member { notices_only: true, ..member("wechat", &[Kind::Template], None) };
        let routes =
            Routes::new(&[member("wechat", &[Kind::Template], None), notices, member("sms", &[Kind::Sms], None)]);
        let takes = |pool: &str, class| routes.takes(&pool.parse().unwrap(), class);
        assert!(!takes("wechat", Class::Marketing) && takes("wechat", Class::Notification));
        assert!(takes("sms", Class::Marketing));
    }

    fn rule(pool: &str, change: impl FnOnce(&mut RouteRule)) -> Arc<RouteRule> {
        let mut rule = RouteRule::to(pool.parse().unwrap());
        change(&mut rule);
        Arc::new(rule)
    }

    fn routed(class: Class) -> Routed<'static> {
        Routed { kind: Kind::Sms, class, topic: "", sender: "", signature: "", labels: &[] }
    }

    #[test]
    fn the_first_rule_that_matches_holds_the_tenants_own_before_the_houses() {
        let members = ["default", "mobile", "abroad", "otp"].map(|pool| member(pool, &[Kind::Sms], None));
        let call = member("calls", &[Kind::Call], None);
        let routes = Routes::new(&[&members[..], &[call]].concat());
        let acme: TenantId = "acme".parse().unwrap();
        let house = |tenant: Option<&TenantId>, rule| HouseRoute { tenant: tenant.cloned(), rule };
        routes.set_house(vec![
            house(Some(&"bolt".parse().unwrap()), rule("abroad", |_| {})),
            house(None, rule("calls", |_| {})),
            house(None, rule("mobile", |rule| rule.carriers = vec![crate::domain::route::Carrier::ChinaMobile])),
        ]);
        let own = [
            rule("otp", |rule| rule.classes = vec![Class::Otp]),
            rule("abroad", |rule| rule.countries = vec!["US".parse().unwrap(), "DE".parse().unwrap()]),
        ];
        let numbers =
            ["+8613800000000", "+4915112345678", "+8613000000000", "+12025550100"].map(|n| n.parse().unwrap());
        let places = |own: &[Arc<RouteRule>], class| {
            let places = routes.ways(&acme, own, &routed(class)).unwrap().places(numbers.iter().map(Some));
            let names: Vec<_> = places.pools.iter().map(|pool| pool.as_str().to_owned()).collect();
            (names, places.of)
        };
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(places(&own, Class::Marketing), (names(&["mobile", "abroad", "default"]), vec![0, 1, 2, 1]));
        assert_eq!(places(&own, Class::Otp), (names(&["otp"]), vec![]), "no number is asked for");
        assert_eq!(places(&[], Class::Otp), (names(&["mobile", "default"]), vec![0, 1, 1, 1]));
        let bolt = routes.ways(&"bolt".parse().unwrap(), &[], &routed(Class::Otp)).unwrap();
        assert_eq!(bolt.way(Some(&numbers[0])).0.as_str(), "abroad");
        // Without a number, what asks for one does not match.
        assert_eq!(routes.ways(&acme, &own, &routed(Class::Marketing)).unwrap().way(None).0.as_str(), "default");
        let template = Routed { kind: Kind::Template, ..routed(Class::Otp) };
        assert!(routes.ways(&acme, &own, &template).is_none());
        // Where only the kind is known, what asks for more does not match either.
        let plain =
            |own: &[Arc<RouteRule>], kind| routes.plain(&acme, own, kind).map(|(pool, _)| pool.as_str().to_owned());
        assert_eq!(plain(&own, Kind::Sms).as_deref(), Some("default"));
        assert_eq!(plain(&[rule("mobile", |_| {})], Kind::Sms).as_deref(), Some("mobile"));
        assert_eq!(plain(&own, Kind::Call).as_deref(), Some("calls"));
        assert_eq!(plain(&own, Kind::Template), None);
    }

    #[test]
    fn who_knows_ported_numbers_is_asked_before_the_prefix_is() {
        use crate::domain::route::Carrier;
        struct One(Msisdn);
        impl Ported for One {
            fn carrier(&self, number: &Msisdn) -> Option<Carrier> {
                (*number == self.0).then_some(Carrier::ChinaTelecom)
            }
        }
        let [ported, stays]: [Msisdn; 2] = ["+8613800000000", "+8613800000001"].map(|number| number.parse().unwrap());
        let members = ["default", "mobile", "telecom"].map(|pool| member(pool, &[Kind::Sms], None));
        let routes = Routes::new(&members).with_ported(Box::new(One(ported.clone())));
        let own = [
            rule("mobile", |rule| rule.carriers = vec![Carrier::ChinaMobile]),
            rule("telecom", |rule| rule.carriers = vec![Carrier::ChinaTelecom]),
        ];
        let ways = routes.ways(&"acme".parse().unwrap(), &own, &routed(Class::Marketing)).unwrap();
        assert_eq!([&ported, &stays].map(|number| ways.way(Some(number)).0.as_str()), ["telecom", "mobile"]);
    }

    #[test]
    fn a_route_names_the_sender_of_those_that_name_none() {
        let routes = Routes::new(&[member("default", &[Kind::Sms], None)]);
        let own = [
            rule("default", |rule| {
                (rule.countries, rule.sender) = (vec!["DE".parse().unwrap()], "berlin".into());
            }),
            rule("default", |rule| rule.sender = "staff".into()),
        ];
        let numbers = ["+8613800000000", "+4915112345678"].map(|n| n.parse().unwrap());
        let ways = routes.ways(&"acme".parse().unwrap(), &own, &routed(Class::Marketing)).unwrap();
        let Places { pools, senders, of } = ways.places(numbers.iter().map(Some));
        assert_eq!((pools.len(), senders, of), (2, vec!["staff".into(), "berlin".into()], vec![0, 1]));
    }
}
