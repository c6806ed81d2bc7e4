//! What providers report, on its way to record.

use tokio::sync::mpsc;

use super::Base;
use crate::channel::{Inbound, News};
use crate::domain::event::Fact;
use crate::queue::{QueueName, Route};

impl Base {
    /// Starts to take what providers report.
    pub(super) fn receive(&self, mut reports: mpsc::Receiver<Inbound>) {
        let facts = self.facts.clone();
        self.groups.receive.spawn("receive", async move {
            let mut some = Vec::new();
            while reports.recv_many(&mut some, 256).await > 0 {
                let (news, done): (Vec<_>, Vec<_>) = some.drain(..).map(|inbound| (inbound.news, inbound.done)).unzip();
                let news = news.into_iter().map(|news| match news {
                    News::Receipt(receipt) => Fact::Receipt(receipt),
                    News::Reply(reply) => Fact::Reply(reply),
                });
                if facts.publish(news.collect(), Route::To(QueueName::Record)).await.is_ok() {
                    done.into_iter().for_each(|done| _ = done.send(()));
                }
            }
        });
    }
}
