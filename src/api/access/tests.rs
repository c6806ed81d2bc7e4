//! The table of methods against the API's description, and keys of every role against the table.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::*;
use crate::domain::time::{Clock, UnixMicros};
use crate::ledger::sqlite::Sqlite;
use crate::ledger::{ApiKey, Ledger as _};

/// When the calls of these tests come.
const NOW: UnixMicros = UnixMicros(1_000_000);

/// Returns each method's comment in the description, by `Service/Method`.
fn described() -> BTreeMap<String, String> {
    let set = FileDescriptorSet::decode(crate::pb::DESCRIPTORS).unwrap();
    let mut methods = BTreeMap::new();
    for file in set.file.iter().filter(|file| file.package() == "postrider.v1") {
        for location in &file.source_code_info.as_ref().unwrap().location {
            // 6 is `service` in a file, 2 is `method` in a service.
            if let [6, service, 2, method] = location.path[..] {
                let service = &file.service[usize::try_from(service).unwrap()];
                let method = &service.method[usize::try_from(method).unwrap()];
                let comment = location.leading_comments().split_whitespace().collect::<Vec<_>>().join(" ");
                methods.insert(format!("{}/{}", service.name(), method.name()), comment);
            }
        }
    }
    methods
}

#[test]
fn every_method_is_in_the_table_as_it_is_described() {
    let described = described();
    assert_eq!(described.len(), METHODS.len());
    for access in METHODS {
        let comment = &described[access.method];
        let roles = access.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
        let roles = if access.roles == ALL { "all".to_owned() } else { roles };
        assert!(comment.contains(&format!("Roles: {roles}.")), "{}: {comment}", access.method);
        assert_eq!(access.works, !comment.contains("Not available yet."), "{}: {comment}", access.method);
    }
}

async fn doorman() -> (Doorman, BTreeMap<&'static str, String>) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Sqlite::open(&directory.path().join("ledger"), Clock::system()).unwrap();
    ledger.migrate().await.unwrap();
    let sealer = Sealer::ephemeral().unwrap();
    let tenant = super::super::tests::tenant("acme");
    ledger.put_tenant(&tenant).await.unwrap();
    let mut texts = BTreeMap::new();
    for &role in Role::ALL {
        let (key, text) = keys::mint(&sealer, &tenant.id, role, UnixMicros(0)).unwrap();
        ledger.put_api_key(&key).await.unwrap();
        texts.insert(role.as_str(), text);
    }
    let (mut revoked, text) = keys::mint(&sealer, &tenant.id, Role::Operator, UnixMicros(0)).unwrap();
    revoked.revoked_at = Some(UnixMicros(1));
    ledger.put_api_key(&revoked).await.unwrap();
    texts.insert("revoked", text);
    for (name, expires_at) in [("expired", NOW), ("expiring", UnixMicros(NOW.0 + 1))] {
        let (key, text) = keys::mint(&sealer, &tenant.id, Role::Viewer, UnixMicros(0)).unwrap();
        ledger.put_api_key(&ApiKey { expires_at: Some(expires_at), ..key }).await.unwrap();
        texts.insert(name, text);
    }
    let known = Directory::load(&ledger).await.unwrap();
    (Doorman { directory: known, sealer, clock: Clock::virtual_at(NOW), metrics: AdmissionMetrics::new() }, texts)
}

fn with_key(authorization: &str) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::AUTHORIZATION, authorization.parse().unwrap());
    headers
}

#[tokio::test]
async fn each_role_may_call_what_the_table_says_and_nothing_else() {
    let (doorman, texts) = doorman().await;
    for access in METHODS {
        let path = format!("{PACKAGE}{}", access.method);
        for &role in Role::ALL {
            let answer = doorman.admit(&path, &with_key(&format!("Bearer {}", texts[role.as_str()])));
            match (access.roles.contains(&role), access.works) {
                (false, _) => assert_eq!(answer.unwrap_err(), Error::Denied(access.method), "{role}"),
                (true, false) => assert_eq!(answer.unwrap_err(), Error::NotYet(access.method), "{role}"),
                (true, true) => assert_eq!(answer.unwrap().unwrap().role, role, "{path}"),
            }
        }
        assert_eq!(doorman.admit(&path, &http::HeaderMap::new()).unwrap_err(), Error::NoKey);
    }
}

#[tokio::test]
async fn only_a_live_key_opens() {
    let (doorman, texts) = doorman().await;
    let path = "/postrider.v1.JobService/GetJob";
    let viewer = &texts["viewer"];
    let refused = |authorization: &str| doorman.admit(path, &with_key(authorization)).unwrap_err();
    assert!(doorman.admit(path, &with_key(&format!("bearer {viewer}"))).is_ok());
    assert_eq!(refused(&format!("Bearer {}", texts["revoked"])), Error::BadKey);
    assert!(doorman.admit(path, &with_key(&format!("Bearer {}", texts["expiring"]))).is_ok());
    let expired = &texts["expired"];
    assert_eq!(refused(&format!("Bearer {expired}")), Error::ExpiredKey(NOW));
    let (start, _) = expired.split_at(expired.len() - 4);
    assert_eq!(refused(&format!("Bearer {start}zzzz")), Error::BadKey, "who has it not is told nothing of it");
    let (start, end) = viewer.split_at(viewer.len() - 1);
    let another = if end == "0" { "1" } else { "0" };
    assert_eq!(refused(&format!("Bearer {start}{another}")), Error::BadKey);
    assert_eq!(refused(&format!("Bearer {}", &viewer[..30])), Error::BadKey);
    assert_eq!(refused(&format!("Basic {viewer}")), Error::NoKey);
    assert_eq!(refused(viewer), Error::NoKey);
    assert_eq!(refused("Bearer "), Error::BadKey);
}

#[tokio::test]
async fn probes_and_reflection_need_no_key_and_unknown_methods_do() {
    let (doorman, texts) = doorman().await;
    assert!(doorman.admit("/grpc.health.v1.Health/Check", &http::HeaderMap::new()).unwrap().is_none());
    assert!(doorman.admit("/postrider.v1.JobService/Steal", &http::HeaderMap::new()).is_err());
    let answer = doorman.admit("/postrider.v1.JobService/Steal", &with_key(&format!("Bearer {}", texts["operator"])));
    assert!(matches!(answer, Err(Error::NotYet(_))));
}
