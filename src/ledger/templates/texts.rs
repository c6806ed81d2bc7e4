//! What templates say, as far as it fits into memory: what was used longest ago is forgotten first.

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

use crate::domain::ids::TenantId;
use crate::domain::template::Template;

/// Bytes after which what is young becomes old, and what was old is forgotten: up to twice as much is held.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Versions of templates in two generations.
#[derive(Default)]
pub(super) struct Texts {
    young: HashMap<Key, Arc<Template>>,
    old: HashMap<Key, Arc<Template>>,
    young_bytes: usize,
}

#[derive(PartialEq, Eq, Hash)]
struct Key(TenantId, Box<str>, u32);

/// A key that owns nothing: hashed and compared like one.
#[derive(Hash)]
struct KeyRef<'a>(&'a TenantId, &'a str, u32);

impl Texts {
    /// Returns a version, and whether it will be forgotten soon unless it is kept again.
    pub(super) fn get(&self, tenant: &TenantId, name: &str, version: u32) -> Option<(Arc<Template>, bool)> {
        let key = KeyRef(tenant, name, version);
        let young = self.young.get(&key).map(|template| (Arc::clone(template), false));
        young.or_else(|| self.old.get(&key).map(|template| (Arc::clone(template), true)))
    }

    /// Keeps a version.
    pub(super) fn keep(&mut self, tenant: &TenantId, template: &Arc<Template>) {
        let key = Key(tenant.clone(), template.name.clone(), template.version);
        if self.young.insert(key, Arc::clone(template)).is_none() {
            self.young_bytes += template.weight();
        }
        if self.young_bytes > BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, Key(tenant, name, version): &Key) -> bool {
        (self.0, self.1, self.2) == (tenant, &**name, *version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::Body;
    use crate::domain::time::UnixMicros;

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let tenant: TenantId = "acme".parse().unwrap();
        let template = |version| {
            let body = Body { sms_text: "x".repeat(60_000).into(), ..Body::default() };
            let (name, stored_at) = ("order".into(), UnixMicros(0));
            Arc::new(Template { name, version, variables: vec![], bodies: vec![body], providers: vec![], stored_at })
        };
        let mut texts = Texts::default();
        for version in 1..2_000 {
            texts.keep(&tenant, &template(version));
            if let Some((first, true)) = texts.get(&tenant, "order", 1) {
                texts.keep(&tenant, &first);
            }
            assert!((texts.young.len() + texts.old.len()) * 60_000 <= 2 * (BYTES_MAX + 61_000));
        }
        assert!(texts.get(&tenant, "order", 1).is_some() && texts.get(&tenant, "order", 1_999).is_some());
        assert!(texts.get(&tenant, "order", 2).is_none());
        assert!(texts.get(&"other".parse().unwrap(), "order", 1).is_none());
    }
}
