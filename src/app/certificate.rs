//! When the certificate of gRPC expires.

use x509_parser::pem::Pem;

use crate::domain::checkup::Finding;
use crate::domain::time::UnixMicros;

const ABOUT: &str = "grpc.tls_cert";
/// Who renews by a machine does so earlier; who does it by hand has two weeks.
const SOON_SECS: i64 = 14 * 24 * 3600;

/// Returns when the first certificate of a chain in PEM expires, in seconds since 1970; `None` where none can be read.
pub(super) fn expires_at(chain: &str) -> Option<i64> {
    let ends = Pem::iter_from_buffer(chain.as_bytes()).filter_map(|pem| {
        let pem = pem.ok()?;
        Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
    });
    ends.min()
}

/// Judges how long a chain in PEM still holds.
pub(super) fn checkup(chain: &str, now: UnixMicros) -> Finding {
    const FIX: &str = "renew it, and start the fronts anew, one after the other";
    match expires_at(chain).map(|at| at.saturating_sub(now.as_secs())) {
        None => Finding::unseen(ABOUT, "it does not tell when it expires", "openssl x509 -enddate -noout -in FILE"),
        Some(left) if left <= 0 => Finding::fault(ABOUT, "it has expired", FIX),
        Some(left) if left < SOON_SECS => Finding::risk(ABOUT, format!("it expires in {} days", left / 86_400), FIX),
        Some(left) => Finding::fine(ABOUT, format!("it holds for {} days", left / 86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::checkup::Found;

    const SERVER: &str = include_str!("../../tests/it/support/tls/server.pem");
    const CA: &str = include_str!("../../tests/it/support/tls/ca.pem");

    #[test]
    fn the_first_of_a_chain_counts() {
        let (server, ca) = (expires_at(SERVER).unwrap(), expires_at(CA).unwrap());
        assert!(server > 1_700_000_000 && ca > 1_700_000_000);
        assert_eq!(expires_at(&format!("{SERVER}{CA}")), Some(server.min(ca)));
        assert_eq!(expires_at(&format!("{CA}{SERVER}")), Some(server.min(ca)));
    }

    #[test]
    fn what_is_no_certificate_tells_nothing() {
        let damaged = SERVER.replacen("MII", "AAA", 1);
        for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &damaged] {
            assert_eq!(expires_at(text), None, "{text}");
        }
    }

    #[test]
    fn two_weeks_before_its_end_it_is_a_risk() {
        let end = expires_at(SERVER).unwrap();
        for (left, found) in [(15, Found::Fine), (13, Found::Risk), (0, Found::Fault), (-1, Found::Fault)] {
            assert_eq!(checkup(SERVER, UnixMicros::from_secs(end - left * 86_400)).found, found, "{left} days");
        }
        assert_eq!(checkup("", UnixMicros::from_secs(0)).found, Found::Unseen);
    }
}
