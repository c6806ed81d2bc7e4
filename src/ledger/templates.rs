//! The templates of all tenants, from memory.
//!
//! Which names are in use, and their newest versions, is known of all; what they say is kept as far as it fits, and read
//! from the ledger otherwise. While the ledger is away, the last known copy is served.

mod texts;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use self::texts::Texts;
use super::{Ledger, LedgerError, NewTemplate, TemplateRow};
use crate::domain::ids::TenantId;
use crate::domain::template::Template;
use crate::domain::time::{Clock, UnixMicros};
use crate::seal::Sealer;
use crate::shutdown::Tasks;

/// How long a change that another process made may stay unseen.
const REFRESH: Duration = Duration::from_secs(2);
/// Changes read at once.
const PAGE: u32 = 500;

/// The last known templates. Cheap to clone; all clones see the same.
#[derive(Clone)]
pub struct Templates {
    known: Arc<RwLock<Known>>,
    sealer: Sealer,
}

#[derive(Default)]
struct Known {
    /// The number of the last change that was read.
    changed: i64,
    newest: HashMap<TenantId, BTreeMap<Box<str>, Newest>>,
    texts: Texts,
}

#[derive(Clone, Copy)]
struct Newest {
    version: u32,
    changed: i64,
    in_use: bool,
}

impl Templates {
    /// Returns a memory that knows no template yet.
    pub fn new(sealer: Sealer) -> Self {
        Self { known: Arc::default(), sealer }
    }

    /// Reads every template.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn load(ledger: &impl Ledger, sealer: Sealer) -> Result<Self, LedgerError> {
        let templates = Self::new(sealer);
        templates.refresh(ledger).await?;
        Ok(templates)
    }

    /// Starts the task that keeps the copy fresh until `tasks` stop.
    pub fn keep_fresh(&self, ledger: impl Ledger, tasks: &Tasks, clock: Clock) {
        let (templates, stop) = (self.clone(), tasks.stop().clone());
        tasks.spawn("templates", async move {
            let mut away = false;
            while stop.run_until_cancelled(clock.pause(REFRESH)).await.is_some() {
                match templates.refresh(&ledger).await {
                    Ok(()) => away = false,
                    Err(error) if !away => {
                        tracing::warn!(%error, "cannot refresh templates, serving the last known copy");
                        away = true;
                    }
                    Err(_) => {}
                }
            }
        });
    }

    /// Reads what has changed, or keeps the last copy.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn refresh(&self, ledger: &impl Ledger) -> Result<(), LedgerError> {
        loop {
            let after = self.known.read().unwrap_or_else(PoisonError::into_inner).changed;
            let rows = ledger.templates_since(after, PAGE).await?;
            let last = rows.len() < PAGE as usize;
            let opened: Vec<_> = rows.iter().map(|row| self.open(row).ok()).collect();
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            rows.iter().zip(opened).for_each(|(row, opened)| known.learn(row, opened));
            if last {
                return Ok(());
            }
        }
    }

    /// Stores a new version of a template, and knows it from then on.
    ///
    /// # Errors
    /// What the ledger says; after an error the version may have been stored.
    pub async fn put(
        &self,
        ledger: &impl Ledger,
        tenant: &TenantId,
        template: Template,
        at: UnixMicros,
    ) -> Result<Template, LedgerError> {
        let version = ledger.put_template(&NewTemplate::new(tenant, &template, at, &self.sealer)).await?;
        self.refresh(ledger).await?;
        Ok(Template { version, stored_at: at, ..template })
    }

    /// Takes a template out of use; returns whether it was in use.
    ///
    /// # Errors
    /// What the ledger says; after an error it may have been taken out of use.
    pub async fn drop(
        &self,
        ledger: &impl Ledger,
        tenant: &TenantId,
        name: &str,
        at: UnixMicros,
    ) -> Result<bool, LedgerError> {
        let dropped = ledger.drop_template(tenant, name, at).await?;
        self.refresh(ledger).await?;
        Ok(dropped)
    }

    /// Returns the newest version of a template in use; `None`: there is none of that name.
    ///
    /// # Errors
    /// What the ledger says, where memory does not know.
    pub async fn newest(
        &self,
        ledger: &impl Ledger,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Option<Arc<Template>>, LedgerError> {
        let version = match self.in_use(tenant, name) {
            Some(version) => version,
            // Another process may just have stored it.
            None => {
                self.refresh(ledger).await?;
                let Some(version) = self.in_use(tenant, name) else { return Ok(None) };
                version
            }
        };
        self.version(ledger, tenant, name, version).await
    }

    /// Returns a version of a template, in use or not; `None`: there is no such version.
    ///
    /// # Errors
    /// What the ledger says, where memory does not know.
    pub async fn version(
        &self,
        ledger: &impl Ledger,
        tenant: &TenantId,
        name: &str,
        version: u32,
    ) -> Result<Option<Arc<Template>>, LedgerError> {
        if let Some(known) = self.known_version(tenant, name, version) {
            return Ok(Some(known));
        }
        let Some(row) = ledger.template(tenant, name, version).await? else { return Ok(None) };
        let template = Arc::new(self.open(&row)?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.texts.keep(tenant, &template);
        Ok(Some(template))
    }

    /// Returns a version of a template, if it is in memory.
    pub fn known_version(&self, tenant: &TenantId, name: &str, version: u32) -> Option<Arc<Template>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (template, old) = known.texts.get(tenant, name, version)?;
        drop(known);
        if old {
            // Used again: it stays.
            self.known.write().unwrap_or_else(PoisonError::into_inner).texts.keep(tenant, &template);
        }
        Some(template)
    }

    /// Returns a tenant's templates in use, by name, with their newest versions.
    pub fn names(&self, tenant: &TenantId) -> Vec<(Box<str>, u32)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let names = known.newest.get(tenant).into_iter().flatten();
        names.filter(|(_, newest)| newest.in_use).map(|(name, newest)| (name.clone(), newest.version)).collect()
    }

    fn in_use(&self, tenant: &TenantId, name: &str) -> Option<u32> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.newest.get(tenant)?.get(name).filter(|newest| newest.in_use).map(|newest| newest.version)
    }

    fn open(&self, row: &TemplateRow) -> Result<Template, LedgerError> {
        row.open(&self.sealer).inspect_err(|_| {
            tracing::error!(tenant = %row.tenant, version = row.version, "a stored template cannot be read");
        })
    }
}

impl Known {
    /// Takes in a version, unless a later change of its template is known. What it says is kept only while it is in use:
    /// others are read when a waiting job needs them.
    fn learn(&mut self, row: &TemplateRow, opened: Option<Template>) {
        self.changed = self.changed.max(row.changed);
        let names = self.newest.entry(row.tenant.clone()).or_default();
        let new = Newest { version: row.version, changed: row.changed, in_use: row.dropped_at.is_none() };
        match names.get_mut(&row.name) {
            Some(known) if known.changed >= row.changed => {}
            Some(known) => *known = new,
            None => _ = names.insert(row.name.clone(), new),
        }
        if let Some(template) = opened.filter(|_| row.dropped_at.is_none()) {
            self.texts.keep(&row.tenant, &Arc::new(template));
        }
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates(..)")
    }
}
