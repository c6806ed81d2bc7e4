//! Stored templates: what is said, in versions, for every kind, under one name.
//!
//! One logical template carries an SMS text, a WeCom text, a call text and its ids at vendors, so that a chain of jobs by
//! different means needs one name. A version never changes; jobs keep the one that they were accepted with.

mod variable;

use std::fmt;

use super::ids::ProviderId;
use super::job::{Kind, words};
use super::text;
use super::time::UnixMicros;

pub use variable::{BadValue, Form, Variable};

/// Names and values.
pub type Values = [(Box<str>, Box<str>)];

/// Most placeholders of a template, and most values of a job.
pub const VARIABLES_MAX: usize = 32;
/// Most locales of a template.
pub const BODIES_MAX: usize = 16;
/// Most vendors that a template has ids at.
pub const PROVIDERS_MAX: usize = 32;
/// Most templates of a tenant in use.
pub const TEMPLATES_MAX: usize = 1_000;

/// One version of a template.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: Box<str>,
    /// Its version, rising from 1; 0: not stored yet.
    pub version: u32,
    /// Its placeholders, at most [`VARIABLES_MAX`].
    pub variables: Vec<Variable>,
    /// What it says, 1 to [`BODIES_MAX`] locales; the first is the default.
    pub bodies: Vec<Body>,
    /// Its ids at vendors, at most [`PROVIDERS_MAX`].
    pub providers: Vec<AtProvider>,
    /// When this version was stored.
    pub stored_at: UnixMicros,
}

/// What a template says in one locale.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// BCP 47 locale; empty only where there is no other.
    pub locale: Box<str>,
    /// The text of an SMS; empty: it cannot be sent as SMS.
    pub sms_text: Box<str>,
    /// The text of a call; empty: it cannot be called, unless there is a flow.
    pub call_text: Box<str>,
    /// The flow of a call, checked, as a JSON document; empty: the text is said once.
    pub call_flow: Box<str>,
    /// The text of a WeCom message; empty: none.
    pub wecom_text: Box<str>,
}

/// A template's id at a provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtProvider {
    /// The provider.
    pub provider: ProviderId,
    /// The template's id there.
    pub template_id: Box<str>,
    /// Whether it may be used there.
    pub approval: Approval,
}

words! {
    /// Whether a vendor lets a template be used.
    Approval {
        /// Not handed in.
        Draft = "draft",
        /// The vendor decides.
        Pending = "pending",
        /// It may be used.
        Approved = "approved",
        /// It may not be used.
        Rejected = "rejected",
    }
}

/// Why values do not fill a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadValues {
    /// A name that the template does not have.
    Unknown {
        /// The name.
        name: Box<str>,
        /// The template.
        template: Box<str>,
        /// The names that it has.
        known: Vec<Box<str>>,
    },
    /// No value, and no default.
    Missing(Box<str>),
    /// A value that its variable cannot have.
    Value(Box<str>, BadValue),
}

// === impl Template ===

impl Template {
    /// Returns what it says to somebody with this locale, by this means: the best of its bodies that say anything by it.
    /// As RFC 4647 looks up: the locale itself, then without its last parts; then the template's first. `None` where it
    /// says nothing by this means.
    pub fn body(&self, locale: &str, kind: Kind) -> Option<&Body> {
        let says = |body: &&Body| body.says(kind) || (kind == Kind::Template && !self.providers.is_empty());
        let mut wanted = locale;
        while !wanted.is_empty() {
            let same = |body: &&Body| body.locale.eq_ignore_ascii_case(wanted);
            if let Some(found) = self.bodies.iter().filter(says).find(same) {
                return Some(found);
            }
            wanted = wanted.rfind('-').map_or("", |at| &wanted[..at]);
        }
        self.bodies.iter().find(says)
    }

    /// Returns its id at a provider, if it has one there.
    pub fn at(&self, provider: &ProviderId) -> Option<&AtProvider> {
        self.providers.iter().find(|at| at.provider == *provider)
    }

    /// Returns whether a provider may carry it: it is approved there, or has nothing to do with that provider.
    pub fn may_go_through(&self, provider: &ProviderId) -> bool {
        self.at(provider).is_none_or(|at| at.approval == Approval::Approved)
    }

    /// Says whether these values fill it, and are all its own.
    ///
    /// # Errors
    /// [`BadValues`]: the first variable at fault, in the template's order; then what it does not know.
    pub fn check(&self, values: &Values) -> Result<(), BadValues> {
        self.fits(values)?;
        let known = |name: &str| self.variables.iter().any(|variable| *variable.name == *name);
        match values.iter().find(|(name, _)| !known(name)) {
            Some((name, _)) => {
                let known = self.variables.iter().map(|variable| variable.name.clone()).collect();
                Err(BadValues::Unknown { name: name.clone(), template: self.name.clone(), known })
            }
            None => Ok(()),
        }
    }

    /// Says whether these values fill it; others may be among them.
    ///
    /// # Errors
    /// [`BadValues`]: the first variable at fault, in the template's order.
    pub fn fits(&self, values: &Values) -> Result<(), BadValues> {
        let value = |name: &str| values.iter().find(|(known, _)| **known == *name).map(|(_, value)| value);
        for variable in &self.variables {
            match value(&variable.name) {
                Some(value) => {
                    variable.check(value).map_err(|bad| BadValues::Value(variable.name.clone(), bad))?;
                }
                None if variable.default_value.is_empty() => return Err(BadValues::Missing(variable.name.clone())),
                None => {}
            }
        }
        Ok(())
    }

    /// Returns the value of each of its variables, in its order: what the job gives, else the default.
    pub fn values(&self, given: &Values) -> Vec<(Box<str>, Box<str>)> {
        let value = |variable: &Variable| {
            let given = given.iter().find(|(name, _)| *name == variable.name).map(|(_, value)| value);
            (variable.name.clone(), given.unwrap_or(&variable.default_value).clone())
        };
        self.variables.iter().map(value).collect()
    }

    /// Returns about how many bytes it takes.
    pub fn weight(&self) -> usize {
        let body = |body: &Body| {
            body.sms_text.len() + body.call_text.len() + body.call_flow.len() + body.wecom_text.len() + 200
        };
        let variable = |variable: &Variable| variable.name.len() + variable.default_value.len() + 64;
        self.bodies.iter().map(body).sum::<usize>()
            + self.variables.iter().map(variable).sum::<usize>()
            + self.providers.len() * 200
            + self.name.len()
    }
}

// === impl Body ===

impl Body {
    /// Returns what it says by a means, placeholders and all.
    pub fn text(&self, kind: Kind) -> &str {
        match kind {
            Kind::Sms => &self.sms_text,
            Kind::Template => &self.wecom_text,
            Kind::Call => &self.call_text,
        }
    }

    /// Returns whether it says anything by a means.
    pub fn says(&self, kind: Kind) -> bool {
        !self.text(kind).is_empty() || (kind == Kind::Call && !self.call_flow.is_empty())
    }

    /// Returns what it says by a means, filled in.
    pub fn filled(&self, kind: Kind, values: &Values) -> Box<str> {
        text::fill(self.text(kind), values).into()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the texts: this ends in logs and panics.
        f.debug_struct("Template").field("version", &self.version).finish_non_exhaustive()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("locale", &self.locale).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(locales: &[(&str, &str, &str)]) -> Template {
        let body = |&(locale, sms, wecom): &(&str, &str, &str)| Body {
            locale: locale.into(),
            sms_text: sms.into(),
            wecom_text: wecom.into(),
            ..Body::default()
        };
        let variable = |name: &str, default: &str| Variable {
            name: name.into(),
            form: Form::Thing,
            length_max: 20,
            default_value: default.into(),
        };
        Template {
            name: "order".into(),
            version: 1,
            variables: vec![variable("name", ""), variable("shop", "Pudong")],
            bodies: locales.iter().map(body).collect(),
            providers: vec![],
            stored_at: UnixMicros(0),
        }
    }

    #[track_caller]
    fn finds(locale: &str, kind: Kind, expected: Option<&str>) {
        let template = template(&[("en", "hello", ""), ("zh-Hans", "你好", "您好"), ("zh", "", "嗨")]);
        assert_eq!(template.body(locale, kind).map(|body| &*body.locale), expected, "{locale} {kind}");
    }

    #[test]
    fn a_locale_is_looked_up_from_the_whole_to_its_front_and_then_the_first() {
        finds("zh-Hans", Kind::Sms, Some("zh-Hans"));
        finds("zh-hans-CN", Kind::Sms, Some("zh-Hans"));
        finds("zh-CN", Kind::Sms, Some("en"));
        finds("zh-CN", Kind::Template, Some("zh"));
        finds("", Kind::Sms, Some("en"));
        finds("fr", Kind::Template, Some("zh-Hans"));
        finds("en", Kind::Call, None);
    }

    fn pair((name, value): (&str, &str)) -> (Box<str>, Box<str>) {
        (name.into(), value.into())
    }

    #[test]
    fn values_are_known_and_there_or_have_a_default() {
        let template = template(&[("en", "{name} {shop}", "")]);
        let check =
            |given: &[(&str, &str)]| template.check(&given.iter().map(|given| pair(*given)).collect::<Vec<_>>());
        assert_eq!(check(&[("name", "Li")]), Ok(()));
        assert_eq!(check(&[("name", "Li"), ("shop", "")]), Err(BadValues::Value("shop".into(), BadValue::Empty)));
        assert_eq!(check(&[]), Err(BadValues::Missing("name".into())));
        assert_eq!(
            check(&[("name", "Li"), ("city", "x")]),
            Err(BadValues::Unknown {
                name: "city".into(),
                template: "order".into(),
                known: vec!["name".into(), "shop".into()]
            })
        );
        assert_eq!(template.values(&[pair(("name", "Li"))]), [pair(("name", "Li")), pair(("shop", "Pudong"))]);
        let body = template.body("", Kind::Sms).unwrap();
        assert_eq!(&*body.filled(Kind::Sms, &template.values(&[pair(("name", "Li"))])), "Li Pudong");
    }

    #[test]
    fn a_provider_may_carry_what_it_approved_or_knows_nothing_of() {
        let at = |provider: &str, approval| AtProvider {
            provider: provider.parse().unwrap(),
            template_id: "SMS_1".into(),
            approval,
        };
        let providers = vec![at("a", Approval::Approved), at("b", Approval::Pending)];
        let template = Template { providers, ..template(&[("en", "", "")]) };
        let may = |provider: &str| template.may_go_through(&provider.parse().unwrap());
        assert_eq!((may("a"), may("b"), may("c")), (true, false, true));
        assert!(template.body("", Kind::Template).is_some() && template.body("", Kind::Sms).is_none());
    }
}
