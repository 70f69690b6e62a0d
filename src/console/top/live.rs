//! The loop of the live view: it takes samples, handles keys and signals, and draws the screen.

use std::io;
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::super::link::{Link, Trouble};
use super::sample::Sample;
use super::screen::Screen;
use super::view::View;
use crate::clock::Clock;

/// Whether the loop continues.
#[derive(Debug, Eq, PartialEq)]
enum Action {
    Quit,
    Stay,
}

/// Runs the live view until the user quits or a signal arrives.
pub(super) async fn run(
    terminal: &mut DefaultTerminal,
    link: Link,
    every: Duration,
    server: String,
) -> io::Result<()> {
    let (sender, samples) = unbounded_channel();
    tokio::select! {
        () = follow(link, every, sender) => Ok(()),
        ended = show(terminal, Screen::new(server), samples, events()) => ended,
    }
}

/// Takes a sample at each interval. After a failure it reconnects at the next one.
async fn follow(mut link: Link, every: Duration, sender: UnboundedSender<Result<Sample, Trouble>>) {
    let (clock, mut ticks) = (Clock::system(), interval(every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let taken = timeout(SILENCE_MAX, Sample::take(&mut link, &clock)).await;
        let taken = taken.unwrap_or_else(|_| Err(link.unreachable(io::ErrorKind::TimedOut.into())));
        if sender.send(taken).is_err() {
            return;
        }
    }
}

async fn show(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    mut samples: UnboundedReceiver<Result<Sample, Trouble>>,
    mut events: UnboundedReceiver<Event>,
) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut last: Option<Sample> = None;
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            Some(taken) = samples.recv() => match taken {
                Ok(sample) => {
                    screen.show(View::new(last.as_ref(), &sample));
                    last = Some(sample);
                }
                Err(trouble) => {
                    screen.trouble = Some(trouble.to_string());
                    last = None;
                }
            },
            // The stream of events ends when the terminal is closed.
            event = events.recv() => match event {
                Some(Event::Key(key)) if press(&mut screen, key) == Action::Quit => return Ok(()),
                Some(_) => {}
                None => return Ok(()),
            },
            _ = hangup.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

fn press(screen: &mut Screen, key: KeyEvent) -> Action {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Action::Quit,
        KeyCode::Char('q') | KeyCode::Esc => return Action::Quit,
        KeyCode::Char('p' | ' ') => screen.is_paused = !screen.is_paused,
        KeyCode::Down => screen.scroll(1),
        KeyCode::Left | KeyCode::Right | KeyCode::Tab => screen.turn(),
        KeyCode::PageDown => screen.scroll(LINES_PER_PAGE),
        KeyCode::PageUp => screen.scroll(-LINES_PER_PAGE),
        KeyCode::Up => screen.scroll(-1),
        _ => {}
    }
    Action::Stay
}

/// Events of the terminal. Reading them blocks, so a thread does it; it ends with the program.
fn events() -> UnboundedReceiver<Event> {
    let (sender, events) = unbounded_channel();
    thread::spawn(move || {
        while let Ok(event) = event::read()
            && sender.send(event).is_ok()
        {}
    });
    events
}

/// A server that is silent for this long counts as down.
const SILENCE_MAX: Duration = Duration::from_secs(3);
const LINES_PER_PAGE: isize = 10;

#[cfg(test)]
mod tests {
    use super::super::screen::Page;
    use super::*;

    #[test]
    fn keys_have_the_effects_that_the_footer_lists() {
        let mut screen = Screen::new(String::new());
        let mut press = |code: KeyCode| super::press(&mut screen, KeyEvent::from(code));
        assert_eq!(press(KeyCode::Char('x')), Action::Stay);
        assert_eq!(press(KeyCode::Char('q')), Action::Quit);
        assert_eq!(press(KeyCode::Char('p')), Action::Stay);
        assert_eq!(press(KeyCode::Tab), Action::Stay);
        assert_eq!((screen.is_paused, screen.page), (true, Page::Policies));
        let cancel = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(super::press(&mut screen, cancel), Action::Quit);
    }
}
