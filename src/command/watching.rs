//! `watch`: a connection becomes a watcher of events. `observe/publish.rs` sends them.

use super::{Command, Flow};
use crate::metrics::{Topic, Topics};
use crate::protocol::{Status, Watched};

impl Command<'_> {
    pub(super) fn watch(&mut self, watched: &[Watched]) -> Flow {
        if !self.conversation.rules.may_watch {
            self.replies.status(Status::WatchNotAllowed);
            return Flow::Next;
        }
        let topics =
            watched.iter().filter_map(|watched| topic(*watched)).fold(Topics::default(), Topics::with);
        match self.conversation.watch(self.cache, topics) {
            None => {
                self.replies.status(Status::TooManyWatchers);
                Flow::Next
            }
            Some(number) => {
                self.replies.status(Status::Ok);
                Flow::Watch(number)
            }
        }
    }
}

fn topic(watched: Watched) -> Option<Topic> {
    match watched {
        Watched::Connections => Some(Topic::Connections),
        Watched::Deletions => Some(Topic::Deletions),
        Watched::Evictions => Some(Topic::Evictions),
        Watched::Fetches => Some(Topic::Fetches),
        Watched::Leases => Some(Topic::Leases),
        Watched::Mutations => Some(Topic::Mutations),
        Watched::Nothing => None,
        Watched::Invalidations => Some(Topic::Invalidations),
        Watched::Sources => Some(Topic::Sources),
    }
}
