//! `app follow`: tasks to their end, through whatever happens to the connection.
//!
//! Feeds read, one thread each; this thread writes. The exit code is that of the tasks' final states and of nothing
//! else. Ctrl-C and SIGTERM detach: what runs goes on.

mod bars;
mod feed;
mod lines;
mod sse;
mod view;

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};

use clap::Args;

use self::{
    bars::Bars,
    feed::{Feed, News},
    lines::{Detail, Teller},
    view::View,
};
use super::{
    Session,
    api::{Request, SharedApi},
    exit::Exit,
    failure::Failure,
    ids::Ids,
    screen::{Format, Talk},
    signals,
    wire::Status,
};
use crate::config;

pub use self::lines::log_line;

/// Between two looks at what is due without news.
const TICK: Duration = Duration::from_millis(200);

/// Which tasks.
#[derive(Args)]
pub struct Follow {
    /// Ids, or endings of ids: 4 letters or more, looked up among the newest 1,000 tasks
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Begin after the event with this number, as --json gives them; by default the whole log is told
    #[arg(long, value_name = "SEQ", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    after: i64,
    #[command(flatten)]
    following: Following,
}

/// How to wait for tasks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "While waiting")]
pub struct Following {
    /// Cancel the tasks on Ctrl-C or SIGTERM, which otherwise only detach
    #[arg(long)]
    pub cancel_on_interrupt: bool,
    /// Give up when the connection does not come back for this long; by default never
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    pub reconnect_for: Option<Duration>,
}

/// A task that is left to itself.
pub struct Going<'a> {
    /// The whole id.
    pub id: &'a str,
    /// As it was last heard of.
    pub status: Option<Status>,
    /// How far it was.
    pub percent: Option<f64>,
}

enum Heard {
    News(usize, Box<News>),
    Signal(Exit),
}

impl Follow {
    /// Runs the command.
    pub fn run(self, session: Session) -> Result<Exit, Failure> {
        let ids = Ids::on(&session.api).whole(&self.ids)?;
        follow(&session, ids, self.after, &self.following)
    }
}

/// Follows tasks to their end, from after the event with this number; the worst of them decides the exit.
pub fn follow(session: &Session, ids: Vec<String>, after: i64, following: &Following) -> Result<Exit, Failure> {
    let (sender, heard) = mpsc::channel();
    // Before the feeds: threads inherit which signals are blocked.
    signals::listen(sender.clone(), Heard::Signal);
    for (index, id) in ids.iter().enumerate() {
        let reconnect_for = following.reconnect_for;
        let feed = Feed { api: session.api.clone(), id: id.clone(), last: after, reconnect_for };
        feed.start(sender.clone(), move |news| Heard::News(index, Box::new(news)));
    }
    let screen = session.screen;
    let with_bars = screen.err.bars && screen.talk >= Talk::Normal && screen.format == Format::Text;
    let detail = if with_bars && screen.out.terminal { Detail::BesideBars } else { Detail::Everything };
    let mut following = Watching {
        session,
        teller: Teller { screen, detail, several: ids.len() > 1 },
        bars: with_bars.then(|| Bars::new(screen.err)),
        views: ids.into_iter().map(View::new).collect(),
        cancel_on_interrupt: following.cancel_on_interrupt,
        worst: Exit::Done,
    };
    following.run(&heard)
}

struct Watching<'a> {
    session: &'a Session,
    teller: Teller,
    bars: Option<Bars>,
    views: Vec<View>,
    /// Until it was done.
    cancel_on_interrupt: bool,
    worst: Exit,
}

impl Watching<'_> {
    fn run(&mut self, heard: &Receiver<Heard>) -> Result<Exit, Failure> {
        while self.views.iter().any(|view| view.exit.is_none()) {
            match heard.recv_timeout(TICK) {
                Ok(first) => {
                    // All that is there, before anything is drawn.
                    for next in std::iter::once(first).chain(heard.try_iter()) {
                        match next {
                            Heard::News(index, news) => self.take(index, &news)?,
                            Heard::Signal(_) if self.cancel_on_interrupt => self.cancel(),
                            Heard::Signal(exit) => return Ok(self.detach(exit)),
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = self.session.api.clock.now();
            for view in &mut self.views {
                self.teller.tell_progress(view, now)?;
            }
            if let Some(bars) = &mut self.bars {
                bars.draw(&self.views, now);
            }
        }
        self.finish();
        Ok(self.worst)
    }

    fn take(&mut self, index: usize, news: &News) -> Result<(), Failure> {
        if let Some(bars) = &mut self.bars {
            match news {
                News::Progress { .. } | News::Waiting(_) | News::Ended { .. } => bars.touch(),
                // A line comes in their place.
                _ => bars.clear(),
            }
        }
        let screen = &self.session.screen;
        let view = &mut self.views[index];
        view.learn(news);
        self.teller.tell(view, news, self.session.api.clock.now())?;
        let of = if self.teller.several { format!("{}: ", view.id) } else { String::new() };
        match news {
            News::Lost { reason, .. } => {
                screen.hint(&screen.err.safe(&format!("{of}connection lost ({reason}), trying again ...")));
            }
            News::Resumed { .. } => screen.hint(&screen.err.safe(&format!("{of}... resumed, nothing missed"))),
            News::Broken(failure) => {
                screen.report(&Failure { message: format!("{of}{failure}"), ..failure.clone() });
                self.worst = self.worst.max(failure.exit);
            }
            News::Ended { task, .. } => self.worst = self.worst.max(task.status.exit()),
            _ => {}
        }
        Ok(())
    }

    /// Whoever owns the tasks leaves, and so do they. Their end is still waited for: it is what decides.
    fn cancel(&mut self) {
        self.cancel_on_interrupt = false;
        if let Some(bars) = &mut self.bars {
            bars.clear();
        }
        self.session.screen.hint("Cancelling. Once more leaves at once.");
        for view in self.views.iter().filter(|view| view.exit.is_none()) {
            cancel_in_background(&self.session.api, &view.id);
        }
    }

    fn detach(&mut self, exit: Exit) -> Exit {
        if let Some(bars) = &mut self.bars {
            bars.finish(&self.views, self.session.api.clock.now());
        }
        let open = self.views.iter().filter(|view| view.exit.is_none());
        let going: Vec<_> =
            open.map(|view| Going { id: &view.id, status: view.status, percent: view.percent() }).collect();
        leave(self.session, "Detached.", &going);
        exit
    }

    fn finish(&mut self) {
        let Some(bars) = &mut self.bars else { return };
        bars.finish(&self.views, self.session.api.clock.now());
        let screen = &self.session.screen;
        for view in &self.views {
            let ending = &view.id[view.id.len().saturating_sub(4)..];
            match (view.status, view.task.as_ref().and_then(|task| task.error.as_ref())) {
                // A bar has one line, and this may be longer.
                (_, Some(error)) => screen.hint(&screen.err.safe(&error.shown())),
                (Some(Status::Success), None) => {
                    screen.hint(&format!("result: app get {ending}{}", self.session.again));
                }
                _ => {}
            }
        }
    }
}

/// Says that the tasks go on, how to follow them and how to cancel them.
pub fn leave(session: &Session, why: &str, tasks: &[Going<'_>]) {
    let endings: Vec<_> = tasks.iter().map(|task| &task.id[task.id.len().saturating_sub(4)..]).collect();
    let (ids, again) = (endings.join(" "), &session.again);
    let go_on = match tasks {
        [Going { status: Some(status), percent, .. }] => {
            let percent = percent.map(|percent| format!(" {percent:.0} %")).unwrap_or_default();
            format!("The task goes on ({}{percent}).", status.word())
        }
        [_] => "The task goes on.".to_owned(),
        many => format!("{} tasks go on.", many.len()),
    };
    session
        .screen
        .hint(&format!("{why} {go_on}   follow: app follow {ids}{again}     stop it: app cancel {ids}{again}"));
}

/// Cancels a task from a thread of its own, and tries again until the server has answered.
pub fn cancel_in_background(api: &SharedApi, id: &str) {
    let (api, path) = (api.clone(), format!("/tasks/{id}"));
    std::thread::spawn(move || {
        while matches!(api.send(&Request::delete(&path)), Err(failure) if failure.exit == Exit::Away) {}
    });
}
