//! What jobs say, so that the sink can judge them: `#number` tells jobs to one recipient apart, and `/milliseconds` at
//! the end says when a job was handed in or is due.

use postrider::domain::time::UnixMicros;

use crate::scenario::Load;

/// Placeholder of a job's own number.
pub(super) const NUMBER: &str = "n";
/// Digits of a job's number.
const NUMBER_DIGITS: usize = 9;
/// Words to fill a text with, all of them one septet a character.
const FILL: &str = "a little something for you is waiting in our store, come and see it soon ";

/// Returns the text of a load's jobs, which ends with the time at which they are due. Where recipients take turns, it
/// has the placeholder of the job's number.
pub(super) fn text(load: &Load, due: UnixMicros) -> String {
    let time = format!(" /{}", due.as_millis());
    let numbered = load.recipients > 0;
    let marks = time.len() + if numbered { 1 + NUMBER_DIGITS } else { 0 };
    let mut text: String = FILL.chars().cycle().take(load.text_chars - marks).collect();
    if numbered {
        text.push_str("#{n}");
    }
    text + &time
}

/// Returns the number that stands for [`NUMBER`] in a job's text.
pub(super) fn number(job: u64) -> String {
    format!("{job:0NUMBER_DIGITS$}")
}

/// Returns the phone of job number `job` of load number `load`. Loads never share recipients.
pub(super) fn phone(load: &Load, index: usize, job: u64) -> String {
    let person = if load.recipients > 0 { job % load.recipients } else { job };
    format!("+861{index}{person:09}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn texts_have_the_length_that_was_asked_for() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("load-tests/scenarios/smoke.toml");
        let mut load = Scenario::read(&path).unwrap().loads.remove(0);
        let due = UnixMicros::from_millis(1_700_000_000_000);
        assert!(text(&load, due).ends_with(" /1700000000000") && text(&load, due).len() == 140);
        load.recipients = 10;
        assert_eq!(text(&load, due).replace("{n}", &number(7)).len(), 140);
        assert_eq!(phone(&load, 2, 17), "+8612000000007");
    }
}
