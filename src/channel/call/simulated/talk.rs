//! A call that somebody answered: the flow runs, the callee hears what is said, presses keys when asked, and leaves when
//! they have heard enough.

use std::collections::VecDeque;
use std::time::Duration;

use super::Shared;
use super::callee::Callee;
use crate::channel::call::flow::OptOut;
use crate::channel::call::runner::{Command, Event, Runner};
use crate::channel::call::teller::Teller;
use crate::domain::call::{CallReport, CallResult};

/// How long it takes to say a character, how long a recording lasts, and for how long somebody talks who is put through.
const CHARACTER: Duration = Duration::from_millis(150);
const RECORDING: Duration = Duration::from_secs(5);
const PUT_THROUGH: Duration = Duration::from_secs(60);

/// What is to happen, each at its time since the answer.
#[derive(Default)]
struct Ahead {
    /// A prompt, a recording or a transfer is over.
    over: Option<(Duration, Event)>,
    timer: Option<(Duration, u32)>,
    key: Option<(Duration, char)>,
    /// What was said into the last recording.
    said: Option<String>,
}

impl Shared {
    /// Runs the flow until somebody hangs up; returns how it went.
    pub(super) async fn talk(
        &self,
        teller: &Teller,
        runner: &mut Runner,
        mut callee: Callee,
        talk_max: Duration,
    ) -> CallReport {
        let since = self.voice.clock.now();
        let elapsed = || self.voice.clock.now().since(since);
        let (mut ahead, mut event) = (Ahead::default(), Some(Event::Answered));
        let leaves = callee.stays.min(talk_max);
        let hung_up_by = loop {
            let heard = event.take().into_iter().collect();
            if obey(teller, runner, (heard, &mut ahead, &mut callee), elapsed()) {
                break "us";
            }
            let next = ahead.next().min(leaves);
            let pause = self.voice.clock.sleep(next.saturating_sub(elapsed()));
            if self.voice.tasks.stop().run_until_cancelled(pause).await.is_none() {
                break "us";
            }
            event = ahead.take(elapsed());
            if event.is_none() && elapsed() >= leaves {
                break if leaves == talk_max { "us" } else { "callee" };
            }
        };
        if hung_up_by == "us" {
            teller.followed().await;
        }
        runner.take(Event::HungUp);
        let result = callee.result;
        let said = ahead.said.take();
        let name = said.as_ref().map(|_| teller.name());
        CallReport {
            // What was said is all that there is of it, so it stands in its own address (RFC 2397).
            transcript: said.map_or_else(|| "".into(), |said| format!("data:,{}", said.replace(' ', "%20")).into()),
            recording: name.unwrap_or_default(),
            talk: elapsed(),
            answered_by: if result == CallResult::Machine { "machine" } else { "human" }.into(),
            hung_up_by: hung_up_by.into(),
            ..runner.report(result)
        }
    }
}

/// Does what the flow asks for, and returns whether it hangs up.
fn obey(
    teller: &Teller,
    runner: &mut Runner,
    (mut events, ahead, callee): (VecDeque<Event>, &mut Ahead, &mut Callee),
    now: Duration,
) -> bool {
    while let Some(event) = events.pop_front() {
        for command in runner.take(event) {
            match command {
                Command::Say(text) => {
                    let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
                    ahead.over = Some((now + CHARACTER * characters, Event::Prompted));
                }
                Command::Play(_) => ahead.over = Some((now + RECORDING, Event::Prompted)),
                Command::StopPrompt => {
                    ahead.over = None;
                    events.push_back(Event::Prompted);
                }
                Command::Wait(number, wait) => {
                    ahead.timer = Some((now + wait, number));
                    ahead.key = callee.presses().map(|key| (now + callee.thinks, key));
                }
                Command::OptOut(scope) => teller.opt_out(scope == OptOut::Everything),
                Command::Submit(follow_up) => teller.submit(follow_up),
                Command::Transfer(_) => ahead.over = Some((now + PUT_THROUGH, Event::Transferred)),
                Command::Record(longest) => {
                    ahead.said = Some(callee.says());
                    ahead.over = Some((now + longest.min(RECORDING), Event::Recorded));
                }
                Command::HangUp => return true,
            }
        }
    }
    false
}

impl Ahead {
    fn next(&self) -> Duration {
        let times = [self.over.as_ref().map(|(at, _)| *at), self.timer.map(|(at, _)| at), self.key.map(|(at, _)| at)];
        times.into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    /// Takes what is due: a key before a timer that runs out at the same time.
    fn take(&mut self, now: Duration) -> Option<Event> {
        if let Some((_, key)) = self.key.take_if(|(at, _)| *at <= now) {
            return Some(Event::Key(key));
        }
        if let Some((_, over)) = self.over.take_if(|(at, _)| *at <= now) {
            return Some(over);
        }
        self.timer.take_if(|(at, _)| *at <= now).map(|(_, number)| Event::TimeUp(number))
    }
}
