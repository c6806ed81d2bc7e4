//! Rules that mirror what providers let through, so that a provider never has to refuse. One table, each row with its
//! source; where a source leaves a boundary open, the row takes the reading that the provider cannot be stricter than.

use std::time::Duration;

use super::{CalendarUnit, CapRule, ClockUnit, Count, OnLimit, Per, Window};
use crate::domain::ids::RuleName;
use crate::domain::job::{Class, Kind};

/// One rule of a preset.
struct Row {
    preset: &'static str,
    /// What follows the preset's name in the rule's.
    suffix: &'static str,
    classes: &'static [Class],
    kind: Kind,
    per: Per,
    limit: u32,
    window: Window,
    count: Count,
    on_limit: OnLimit,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// China Standard Time, in minutes.
const CHINA: i16 = 8 * 60;
const PASSWORDS: &[Class] = &[Class::Otp];
const NOTICES: &[Class] = &[Class::Transactional, Class::Notification, Class::Marketing];
const MARKETING: &[Class] = &[Class::Marketing];

const fn row(
    (preset, suffix): (&'static str, &'static str),
    (classes, kind, per): (&'static [Class], Kind, Per),
    limit: u32,
    window: Window,
) -> Row {
    Row { preset, suffix, classes, kind, per, limit, window, count: Count::Submitted, on_limit: OnLimit::Defer }
}

/// A row that counts every call, whoever answered: so does a provider, also where we call again for the same job.
const fn calls((preset, suffix): (&'static str, &'static str), limit: u32, window: Window) -> Row {
    Row { count: Count::Attempted, ..row((preset, suffix), (&[], Kind::Call, Per::Recipient), limit, window) }
}

const TABLE: &[Row] = &[
    // Aliyun SMS, mainland: help.aliyun.com/document_detail/44335.htm and zh/sms/user-guide/message-rules. One-time
    // passwords by signature and number: 1 a minute, 5 an hour, 10 a day; 40 a day by number over all signatures. Minutes
    // and hours are natural ones of UTC+8; a day of either reading holds 10 when any 24 h do. What was taken counts
    // whatever its receipt says. Notices and promotion: 50 in 24 h by signature, template and number; here by signature.
    row(
        ("aliyun-sms", "otp-minute"),
        (PASSWORDS, Kind::Sms, Per::RecipientSender),
        1,
        Window::Clock(ClockUnit::Minute, CHINA),
    ),
    row(
        ("aliyun-sms", "otp-hour"),
        (PASSWORDS, Kind::Sms, Per::RecipientSender),
        5,
        Window::Clock(ClockUnit::Hour, CHINA),
    ),
    row(("aliyun-sms", "otp-day"), (PASSWORDS, Kind::Sms, Per::RecipientSender), 10, Window::Rolling(DAY)),
    row(("aliyun-sms", "otp-number-day"), (PASSWORDS, Kind::Sms, Per::Recipient), 40, Window::Rolling(DAY)),
    row(("aliyun-sms", "day"), (NOTICES, Kind::Sms, Per::RecipientSender), 50, Window::Rolling(DAY)),
    // Aliyun voice, SingleCallByTts and SingleCallByVoice: model notes of alibabacloud_dyvmsapi20170525 5.3.0. By called
    // number: 1 a minute, 5 an hour, 20 in 24 h.
    calls(("aliyun-voice", "minute"), 1, Window::Rolling(MINUTE)),
    calls(("aliyun-voice", "hour"), 5, Window::Rolling(HOUR)),
    calls(("aliyun-voice", "day"), 20, Window::Rolling(DAY)),
    // Tencent SMS, as an account has it before it is changed: cloud.tencent.com/developer/techpedia/1295/8938. The same
    // content to a number once in 30 s, here any content; 10 a natural day by number, here any 24 h.
    row(("tencent-sms", "gap"), (&[], Kind::Sms, Per::Recipient), 1, Window::Gap(Duration::from_secs(30))),
    row(("tencent-sms", "day"), (&[], Kind::Sms, Per::Recipient), 10, Window::Rolling(DAY)),
    // Huawei, promotion: support.huaweicloud.com/iotcom_faq/iotcom_06_0109.html. By number: 2 in any minute, 10 in any
    // 24 h.
    row(("huawei-promotion", "minute"), (MARKETING, Kind::Sms, Per::Recipient), 2, Window::Rolling(MINUTE)),
    row(("huawei-promotion", "day"), (MARKETING, Kind::Sms, Per::Recipient), 10, Window::Rolling(DAY)),
    // WeChat official accounts: developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage. Service
    // notices that the person caused; no advertising at all. (Its quota of 100 000 a day is the account's, no cap.)
    Row {
        on_limit: OnLimit::Drop,
        ..row(("wechat-template", "no-marketing"), (MARKETING, Kind::Template, Per::Recipient), 0, Window::Rolling(DAY))
    },
    // WeCom mass messages: developer.work.weixin.qq.com/document/path/92135 as of 2025-11-17. Each customer or group
    // receives as many a month as the month has days (28 holds in every month), or what the corporation chose instead:
    // 7 a week, or 1 a day. The "4 a month" of older texts is outdated.
    row(("wecom-mass-2025", "month"), (&[], Kind::Template, Per::Recipient), 28, Window::Calendar(CalendarUnit::Month)),
    row(
        ("wecom-mass-2025-weekly", "week"),
        (&[], Kind::Template, Per::Recipient),
        7,
        Window::Calendar(CalendarUnit::Week),
    ),
    row(
        ("wecom-mass-2025-daily", "day"),
        (&[], Kind::Template, Per::Recipient),
        1,
        Window::Calendar(CalendarUnit::Day),
    ),
];

/// Returns the names of the presets, each once.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = TABLE.iter().map(|row| row.preset).collect();
    names.dedup();
    names
}

/// Returns the rules of a preset, each named `preset-suffix`; `None`: there is no such preset.
pub fn rules(preset: &str) -> Option<Vec<CapRule>> {
    let rule = |row: &Row| {
        let name: RuleName = format!("{}-{}", row.preset, row.suffix).parse().ok()?;
        Some(CapRule {
            classes: row.classes.to_vec(),
            kinds: vec![row.kind],
            per: row.per,
            count: row.count,
            on_limit: row.on_limit,
            ..CapRule::new(name, row.limit, row.window)
        })
    };
    let rules: Vec<_> = TABLE.iter().filter(|row| row.preset == preset).filter_map(rule).collect();
    (!rules.is_empty()).then_some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_row_is_a_good_rule_of_its_own_name() {
        let rules: Vec<_> = names().into_iter().flat_map(|name| rules(name).unwrap()).collect();
        assert_eq!(rules.len(), TABLE.len());
        assert!(rules.iter().all(|rule| rule.check().is_ok()));
        assert_eq!(rules.iter().map(|rule| &rule.name).collect::<HashSet<_>>().len(), rules.len());
        assert_eq!(super::rules("aliyun"), None);
    }
}
