//! Lines, numbers, rate and breaker, one by one; and whatever happens, nothing leaks.

use proptest::prelude::*;

use super::*;

fn at(millis: i64) -> UnixMicros {
    UnixMicros::from_millis(millis)
}

fn most(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn number(number: &str, near: &str) -> CallerRule {
    CallerRule { number: number.into(), near: near.into(), lines: None, day_max: None }
}

fn rules(lines: u32) -> TrunkRules {
    TrunkRules {
        lines: most(lines),
        lines_per_port: most(1),
        calls_per_s: most(1_000),
        tenant_lines: None,
        campaign_lines: None,
        callers: vec![],
        caller_rest: Duration::from_secs(3600),
    }
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn ask<'a>(tenant: &'a TenantId, campaign: &'a str) -> Ask<'a> {
    Ask { tenant, campaign, callee: "+8613800000001", sender: "" }
}

#[test]
fn a_line_for_each_of_trunk_tenant_and_campaign() {
    let (acme, other) = (tenant("acme"), tenant("other"));
    let rules = TrunkRules { tenant_lines: Some(most(2)), campaign_lines: Some(most(1)), ..rules(3) };
    let mut dialer = Dialer::new(rules);
    let spring = dialer.dial(ask(&acme, "spring"), at(0)).unwrap();
    assert_eq!(dialer.dial(ask(&acme, "spring"), at(1)), Err(NoLine::Campaign));
    let _autumn = dialer.dial(ask(&acme, "autumn"), at(1)).unwrap();
    assert_eq!(dialer.dial(ask(&acme, ""), at(2)), Err(NoLine::Tenant));
    let _others = dialer.dial(ask(&other, "spring"), at(2)).unwrap();
    assert_eq!((dialer.in_use(), dialer.dial(ask(&other, ""), at(3))), (3, Err(NoLine::Trunk)));
    dialer.end(spring, Some(CallResult::Busy), at(3));
    assert!(dialer.dial(ask(&acme, "spring"), at(3)).is_ok());
}

#[test]
fn calls_start_evenly() {
    let mut dialer = Dialer::new(TrunkRules { calls_per_s: most(3), ..rules(100) });
    let acme = tenant("acme");
    let mut started = Vec::new();
    for millis in 0..4_000 {
        match dialer.dial(ask(&acme, ""), at(millis)) {
            Ok(_) => started.push(millis),
            Err(NoLine::Rate(next)) => assert!(next > at(millis)),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(started.len() == 12 && started.windows(4).all(|four| four[3] - four[0] >= 1_000), "{started:?}");
}

#[test]
fn progressive_pacing_keeps_a_line_for_whoever_answers() {
    // Lines, lines per port, ringing, answered: may dial.
    for (case, expected) in [
        ((10, 1, 0, 0), 10),
        ((10, 1, 4, 0), 6),
        ((10, 1, 4, 6), 0),
        ((10, 3, 4, 6), 0),
        ((10, 1, 0, 12), 0),
        ((10, 1, 11, 0), 0),
    ] {
        let (lines, lines_per_port, ringing, answered) = case;
        assert_eq!(may_dial(lines, lines_per_port, ringing, answered), expected, "{case:?}");
    }
}

#[test]
fn numbers_take_turns_and_the_near_one_goes_first() {
    let callers = vec![number("1000", ""), number("2000", ""), number("3000", "+8613"), number("4000", "+86138")];
    let mut dialer = Dialer::new(TrunkRules { callers, ..rules(100) });
    let acme = tenant("acme");
    let mut now = at(0);
    let mut from = |callee: &str, sender: &str| {
        now = now.plus(Duration::from_millis(10));
        let permit = dialer.dial(Ask { tenant: &acme, campaign: "", callee, sender }, now).unwrap();
        dialer.caller(&permit).to_owned()
    };
    // Whoever is near to nobody else's number is anybody's turn, the one that rested longest first.
    let far: Vec<_> = (0..5).map(|_| from("+4915112345678", "")).collect();
    assert_eq!(far[4], far[0]);
    assert_eq!(far[..4].iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert_eq!([from("+8613900000000", ""), from("+8613900000000", "")], ["3000", "3000"]);
    assert_eq!(from("+8613800000000", ""), "4000");
    assert_eq!(from("+8613800000000", "2000"), "2000");
    assert_eq!(from("+8613800000000", "not one of ours"), "4000");
}

#[test]
fn a_number_rests_after_too_many_refusals_and_stops_for_the_day() {
    let busy = CallerRule { day_max: Some(most(12)), ..number("1000", "") };
    let mut dialer = Dialer::new(TrunkRules { callers: vec![busy], ..rules(100) });
    let acme = tenant("acme");
    for call in 0..10 {
        let permit = dialer.dial(ask(&acme, ""), at(call * 10)).unwrap();
        dialer.end(permit, Some(CallResult::Declined), at(call * 10));
    }
    let rested = at(90).plus(Duration::from_secs(3600));
    assert_eq!(dialer.dial(ask(&acme, ""), at(100)), Err(NoLine::Caller(Some(rested))));
    for call in 0..2 {
        let permit = dialer.dial(ask(&acme, ""), rested.plus(Duration::from_millis(call * 10))).unwrap();
        dialer.end(permit, Some(CallResult::Completed), rested);
    }
    let (tomorrow, later) = (UnixMicros::from_secs(24 * 3600), rested.plus(Duration::from_secs(1)));
    assert_eq!(dialer.dial(ask(&acme, ""), later), Err(NoLine::Caller(Some(tomorrow))));
    assert!(dialer.dial(ask(&acme, ""), tomorrow).is_ok());
}

#[test]
fn a_broken_trunk_is_tried_by_single_calls() {
    let (mut dialer, acme) = (Dialer::new(rules(100)), tenant("acme"));
    let call = |dialer: &mut Dialer, millis, result| {
        let permit = dialer.dial(ask(&acme, ""), at(millis))?;
        dialer.end(permit, Some(result), at(millis));
        Ok::<_, NoLine>(())
    };
    for number in 0..10 {
        call(&mut dialer, number, CallResult::Network).unwrap();
    }
    let rested = 9 + 15_000;
    assert_eq!(call(&mut dialer, 10, CallResult::Network), Err(NoLine::Broken(at(rested))));
    call(&mut dialer, rested, CallResult::Network).unwrap();
    assert_eq!(call(&mut dialer, rested + 1, CallResult::Busy), Err(NoLine::Broken(at(rested + 30_000))));
    let trying = dialer.dial(ask(&acme, ""), at(rested + 30_000)).unwrap();
    let others = dialer.dial(ask(&acme, ""), at(rested + 30_001));
    assert!(matches!(others, Err(NoLine::Broken(_))), "{others:?}");
    // The one that tries it is never dialled after all: the next turn comes after a rest.
    dialer.end(trying, None, at(rested + 31_000));
    let again = rested + 31_000 + 30_000;
    let others = dialer.dial(ask(&acme, ""), at(again - 1));
    assert_eq!(others, Err(NoLine::Broken(at(again))));
    let trying = dialer.dial(ask(&acme, ""), at(again)).unwrap();
    dialer.end(trying, Some(CallResult::NoAnswer), at(again + 20_000));
    call(&mut dialer, again + 20_001, CallResult::Completed).unwrap();
}

proptest! {
    #[test]
    fn what_is_held_comes_back_whatever_happens(steps in prop::collection::vec((0..6_u8, any::<prop::sample::Index>()), 1..300)) {
        let callers = vec![CallerRule { lines: Some(most(3)), ..number("1000", "") }, number("2000", "+8613")];
        let rules = TrunkRules { tenant_lines: Some(most(4)), campaign_lines: Some(most(2)), callers, ..rules(6) };
        let mut dialer = Dialer::new(rules);
        let tenants = ["acme", "other", "third"].map(tenant);
        let mut held: Vec<Permit> = vec![];
        for (number, (step, which)) in steps.into_iter().enumerate() {
            let now = at(number as i64 * 500);
            match step {
                0..=2 => {
                    let campaign = ["", "spring"][which.index(2)];
                    held.extend(dialer.dial(ask(&tenants[which.index(3)], campaign), now));
                }
                3 if !held.is_empty() => dialer.answered(which.get_mut(&mut held)),
                _ if !held.is_empty() => {
                    let result = CallResult::ALL.get(which.index(CallResult::ALL.len() + 1)).copied();
                    dialer.end(held.swap_remove(which.index(held.len())), result, now);
                }
                _ => {}
            }
            let counts = |tenant: &TenantId| held.iter().filter(|permit| permit.tenant == *tenant).count();
            prop_assert!(held.len() == dialer.in_use() as usize && held.len() <= 6);
            prop_assert!(tenants.iter().all(|tenant| counts(tenant) <= 4));
            prop_assert!(held.iter().filter(|permit| permit.caller == Some(0)).count() <= 3);
        }
        held.into_iter().for_each(|permit| dialer.end(permit, None, UnixMicros::MAX));
        prop_assert_eq!((dialer.in_use(), dialer.tenants.len(), dialer.campaigns.len()), (0, 0, 0));
        prop_assert!(dialer.callers.iter().all(|caller| caller.idle()));
    }
}
