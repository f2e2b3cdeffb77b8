//! One thread that serves viewers, in turns.
//!
//! Decides: whose turn it is. It sleeps until something happens: a task's log has grown (one wake-up for all of its viewers
//! here), a socket takes more again or its client has gone, a page was read, somebody was silent for too long. The viewers of
//! one task are a group; a wake-up is taken before the group is looked through, so that nothing is missed. Who has had its
//! share waits until the others have had theirs.
//!
//! Never waits for the store, and never blocks on a socket. Of the pages that the viewers of a group want one is read at a
//! time, the one for the viewer furthest behind, for all that it serves.

use std::{
    collections::{HashMap, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use mio::{Events, Interest, Poll as Readiness, Token};
use slab::Slab;
use soloist::{Key, Seq, event::Batch, limits};
use tokio::runtime::Handle;

use super::{
    Inbox, Message, Newcomer, Page, Socket,
    viewer::{Frames, Leave, Ready, Served, Viewer},
};
use crate::{convert, frames, problem::Problem};

/// The token of the inbox; those of viewers are their numbers.
const INBOX: Token = Token(usize::MAX);
/// How many sockets one look may report.
const EVENTS: usize = 1_024;

pub(super) struct Turn {
    readiness: Readiness,
    inbox: Arc<Inbox>,
    runtime: Handle,
    heartbeat: Duration,
    begun: Instant,
    /// Milliseconds since then, when this turn began.
    now_ms: u64,
    leave: Leave,
    viewers: Slab<Viewer<Socket>>,
    groups: Slab<Group>,
    /// The group of each task that newcomers join.
    by_key: HashMap<Key, usize>,
    /// Viewers that have had their share while there was more.
    hungry: VecDeque<usize>,
    /// What it was told and has not heeded yet.
    messages: VecDeque<Message>,
}

/// The viewers here of one task.
struct Group {
    frames: Frames,
    members: Vec<usize>,
    /// Ready once there may be something new.
    woken: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    waker: Waker,
    /// Viewers that wait for a page, with the seqs between which they are.
    behind: Vec<(usize, Seq, Seq)>,
    reading: Reading,
    /// It was woken while somebody waited for a page, and that one has not looked since.
    is_missed: bool,
}

/// Whether a page is read for a group.
#[derive(Clone, Copy)]
enum Reading {
    No,
    After(Seq),
    /// The store could not be asked; it is asked again then.
    Again(Instant),
}

/// Says that there may be something new for a group.
struct Woken {
    inbox: Arc<Inbox>,
    group: usize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.inbox.tell(Message::Woken(self.group));
    }
}

impl Turn {
    pub(super) fn new(heartbeat: Duration, runtime: Handle) -> io::Result<(Self, Arc<Inbox>)> {
        let readiness = Readiness::new()?;
        let inbox = Arc::new(Inbox {
            messages: Mutex::new(Some(Vec::new())),
            is_woken: Default::default(),
            waker: mio::Waker::new(readiness.registry(), INBOX)?,
        });
        let turn = Self {
            readiness,
            inbox: inbox.clone(),
            runtime,
            heartbeat,
            begun: Instant::now(),
            now_ms: 0,
            leave: Leave::Stay,
            viewers: Slab::new(),
            groups: Slab::new(),
            by_key: HashMap::new(),
            hungry: VecDeque::new(),
            messages: VecDeque::new(),
        };
        Ok((turn, inbox))
    }

    /// Serves until it is told to quit. Where that breaks, those who are served are cut off (they come back with their
    /// cursors), and those who come are served.
    pub(super) fn stay(mut self) {
        while catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            tracing::error!(
                viewers = self.viewers.len(),
                "the thread that serves viewers broke and cuts them off"
            );
            (self.viewers, self.groups) = (Slab::new(), Slab::new());
            self.by_key.clear();
            self.hungry.clear();
        }
        self.inbox.close();
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut looked = Instant::now();
        let look_every = limits::VIEWER_LOOK.min(self.heartbeat / 8).max(Duration::from_millis(1));
        loop {
            // Messages are left where heeding one broke.
            let wait = match self.hungry.is_empty() && self.messages.is_empty() {
                true => (!self.viewers.is_empty()).then(|| look_every.saturating_sub(looked.elapsed())),
                false => Some(Duration::ZERO),
            };
            match self.readiness.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(%error, "viewers cannot be served any more; restart this process");
                    return;
                }
                _ => {}
            }
            self.now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.messages.extend(self.inbox.take());
            while let Some(message) = self.messages.pop_front() {
                match message {
                    Message::Admit(newcomer) => self.admit(*newcomer),
                    Message::Woken(group) => self.serve_group(group),
                    Message::Read(page) => self.was_read(*page),
                    Message::Leave(leave) => self.send_away(leave),
                    Message::Quit => return,
                    #[cfg(test)]
                    Message::Break => panic!("as a bug would"),
                }
            }
            for event in &events {
                if event.token() != INBOX {
                    self.is_ready(event.token().0, event.is_readable(), event.is_writable());
                }
            }
            for _ in 0..self.hungry.len() {
                if let Some(number) = self.hungry.pop_front() {
                    self.viewers[number].is_hungry = false;
                    self.serve(number, &mut None, None);
                }
            }
            if looked.elapsed() >= look_every {
                looked = Instant::now();
                self.look();
            }
        }
    }

    fn admit(&mut self, newcomer: Newcomer) {
        let Newcomer { mut socket, admitted, audience } = newcomer;
        let number = self.viewers.vacant_key();
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.readiness.registry().register(&mut socket, Token(number), both) {
            tracing::warn!(%error, "a viewer cannot be served");
            return;
        }
        let group = match self.by_key.get(audience.key()) {
            Some(&group) if self.groups[group].frames.audience.is_same(&audience) => group,
            _ => {
                let group = self.groups.vacant_key();
                self.by_key.insert(audience.key().clone(), group);
                let frames = Frames { source: convert::source(audience.key()), audience, ids: admitted.ids };
                self.groups.insert(Group {
                    frames,
                    members: Vec::new(),
                    woken: None,
                    waker: Arc::new(Woken { inbox: self.inbox.clone(), group }).into(),
                    behind: Vec::new(),
                    reading: Reading::No,
                    is_missed: false,
                })
            }
        };
        let members = &mut self.groups[group].members;
        self.viewers.insert(Viewer::new(socket, admitted, group, members.len(), self.now_ms));
        members.push(number);
        if members.len() == 1 {
            // The first one: the wake-up is taken.
            self.serve_group(group);
        } else {
            self.serve(number, &mut None, None);
        }
    }

    /// Looks for all viewers of a group that wait.
    fn serve_group(&mut self, group: usize) {
        let Some(of) = self.groups.get_mut(group) else { return };
        loop {
            if let Some(woken) = &mut of.woken
                && woken.as_mut().poll(&mut Context::from_waker(&of.waker)).is_pending()
            {
                break;
            }
            // Taken before anybody looks.
            of.frames.audience.mark_woken();
            of.woken = Some(Box::pin(of.frames.audience.woken()));
        }
        let members = std::mem::take(&mut of.members);
        let mut shared = None;
        let mut gone = Vec::new();
        for &number in &members {
            let viewer = &mut self.viewers[number];
            self.groups[group].is_missed |= viewer.is_reading;
            if !viewer.is_blocked && !viewer.is_reading && !viewer.is_hungry {
                let served = viewer.serve(&self.groups[group].frames, &mut shared, None, self.leave);
                self.after(number, served, &mut gone);
            }
        }
        self.groups[group].members = members;
        gone.into_iter().for_each(|number| self.forget(number));
        self.read_next(group);
    }

    /// Serves one viewer.
    fn serve(&mut self, number: usize, shared: &mut Option<Ready>, page: Option<&Arc<Batch>>) {
        let Some(viewer) = self.viewers.get_mut(number) else { return };
        let group = viewer.group;
        let served = viewer.serve(&self.groups[group].frames, shared, page, self.leave);
        let mut gone = Vec::new();
        self.after(number, served, &mut gone);
        gone.into_iter().for_each(|number| self.forget(number));
        self.read_next(group);
    }

    fn after(&mut self, number: usize, served: Served, gone: &mut Vec<usize>) {
        let viewer = &mut self.viewers[number];
        if std::mem::take(&mut viewer.has_written) {
            viewer.written_ms = self.now_ms;
        }
        match served {
            Served::Resting => {}
            Served::Blocked => viewer.is_blocked = true,
            Served::Hungry => {
                debug_assert!(!viewer.is_hungry, "a viewer stands in one place of the queue");
                viewer.is_hungry = true;
                self.hungry.push_back(number);
            }
            Served::Gone => gone.push(number),
            Served::Behind(until) => {
                viewer.is_reading = true;
                let cursor = viewer.cursor();
                if let Some(group) = self.groups.get_mut(viewer.group) {
                    group.behind.push((number, cursor, until));
                }
            }
        }
    }

    /// A socket takes more, or its client has said something or gone.
    fn is_ready(&mut self, number: usize, is_readable: bool, is_writable: bool) {
        let Some(viewer) = self.viewers.get_mut(number) else { return };
        if is_readable && !viewer.is_there() {
            return self.forget(number);
        }
        if is_writable && std::mem::take(&mut viewer.is_blocked) && !viewer.is_reading {
            self.serve(number, &mut None, None);
        }
    }

    fn forget(&mut self, number: usize) {
        let Some(mut viewer) = self.viewers.try_remove(number) else { return };
        // Closing the socket would do as well; a failure here changes nothing.
        let _ = self.readiness.registry().deregister(&mut viewer.socket);
        let group = &mut self.groups[viewer.group];
        group.members.swap_remove(viewer.member);
        if let Some(&moved) = group.members.get(viewer.member) {
            self.viewers[moved].member = viewer.member;
        }
        group.behind.retain(|(waiting, ..)| *waiting != number);
        self.hungry.retain(|waiting| *waiting != number);
        if group.members.is_empty() {
            let key = group.frames.audience.key();
            if self.by_key.get(key) == Some(&viewer.group) {
                self.by_key.remove(key);
            }
            self.groups.remove(viewer.group);
        }
        if self.viewers.is_empty() {
            // A crowd that has left leaves no room behind.
            self.viewers.shrink_to_fit();
            self.groups.shrink_to_fit();
        }
    }

    /// Has the next page read that viewers of a group wait for.
    fn read_next(&mut self, number: usize) {
        let Some(group) = self.groups.get(number) else { return };
        let Reading::No = group.reading else { return };
        let furthest = group.behind.iter().min_by_key(|(_, after, _)| *after);
        if let Some(&(_, after, until)) = furthest {
            self.read(number, after, until);
        }
    }

    fn read(&mut self, number: usize, after: Seq, until: Seq) {
        let Some(group) = self.groups.get_mut(number) else { return };
        group.reading = Reading::After(after);
        let (audience, inbox) = (group.frames.audience.clone(), self.inbox.clone());
        self.runtime.spawn(async move {
            let read = AssertUnwindSafe(audience.read(after, until)).catch_unwind().await;
            // Told as a failure, since the viewers would wait for ever.
            let read = read.unwrap_or_else(|_| {
                Err(soloist::Error::Corrupt { message: "a page of a log cannot be read".to_owned() })
            });
            inbox.tell(Message::Read(Box::new(Page { group: number, audience, after, until, read })));
        });
    }

    fn was_read(&mut self, page: Page) {
        let Page { group: number, audience, after, until: last, read } = page;
        // The group that asked may have left, and another may have its number.
        let Some(group) = self.groups.get_mut(number) else { return };
        let is_asked = matches!(group.reading, Reading::After(asked) if asked == after);
        if !is_asked || !group.frames.audience.is_same(&audience) {
            return;
        }
        group.reading = Reading::No;
        let page = match read {
            Ok(page) => page,
            // Nothing is lost while the store is away, and nothing is gained by sending viewers to another door of it.
            Err(soloist::Error::Unavailable { .. } | soloist::Error::Full { .. })
                if self.leave == Leave::Stay =>
            {
                group.reading = Reading::Again(Instant::now() + limits::STORE_RETRY_MAX);
                return;
            }
            Err(error) => {
                let why = Problem::from(error).detail;
                let behind = std::mem::take(&mut group.behind);
                behind.into_iter().for_each(|(number, ..)| self.dismiss(number, &why));
                return;
            }
        };
        // Whoever looks from now on sees what it was woken for.
        let is_missed = std::mem::take(&mut group.is_missed);
        let mut shared = None;
        let behind = std::mem::take(&mut group.behind);
        // While viewers are served from this page the next one is read; no further than that, should nobody want it.
        if let Some(page) = page.as_ref().filter(|page| !behind.is_empty() && page.last_seq() < last) {
            self.read(number, page.last_seq(), last);
        }
        for (number, from, until) in behind {
            // The page says nothing of what lies before the place that it was read for.
            let is_served = from >= after && page.as_ref().is_none_or(|page| from < page.last_seq());
            let Some(viewer) = self.viewers.get_mut(number) else { continue };
            if !is_served {
                if let Some(group) = self.groups.get_mut(viewer.group) {
                    group.behind.push((number, from, until));
                }
                continue;
            }
            viewer.is_reading = false;
            match &page {
                Some(page) => self.serve(number, &mut shared, Some(page)),
                // The log may have gone, or gone on, while nothing of it was found.
                None if is_missed => self.serve(number, &mut None, None),
                None if viewer.is_in_chunk() || self.leave != Leave::Stay => {
                    self.dismiss(number, frames::STOPPING);
                }
                None => {}
            }
        }
        self.read_next(number);
    }

    /// Sends a viewer away that waited for a page. One that was promised what is not to be had is cut off.
    fn dismiss(&mut self, number: usize, why: &str) {
        let viewer = &mut self.viewers[number];
        viewer.is_reading = false;
        if viewer.send_away(why) {
            self.serve(number, &mut None, None);
        } else {
            self.forget(number);
        }
    }

    /// Viewers may not stay; those that wait are told now, the others when they are through.
    fn send_away(&mut self, leave: Leave) {
        self.leave = self.leave.max(leave);
        let waiting: Vec<usize> = self
            .viewers
            .iter()
            // Who is hungry has its turn anyway.
            .filter(|(_, viewer)| !viewer.is_blocked && !viewer.is_hungry)
            .filter(|(_, viewer)| !viewer.is_reading || leave == Leave::Now)
            .map(|(number, _)| number)
            .collect();
        for number in waiting {
            self.viewers[number].is_reading = false;
            let group = self.viewers[number].group;
            self.groups[group].behind.retain(|(waiting, ..)| *waiting != number);
            self.serve(number, &mut None, None);
        }
    }

    /// Viewers that were silent too long, and stores that were away.
    fn look(&mut self) {
        let now = self.now_ms;
        let heartbeat = u64::try_from(self.heartbeat.as_millis()).unwrap_or(u64::MAX);
        let is_silent = |viewer: &Viewer<Socket>| {
            !viewer.is_blocked && now.saturating_sub(viewer.written_ms) >= heartbeat
        };
        let silent: Vec<usize> =
            self.viewers.iter().filter(|(_, viewer)| is_silent(viewer)).map(|(number, _)| number).collect();
        for number in silent {
            let viewer = &mut self.viewers[number];
            viewer.written_ms = now;
            match viewer.beat(&self.groups[viewer.group].frames) {
                Served::Gone => self.forget(number),
                Served::Blocked => self.viewers[number].is_blocked = true,
                _ => {}
            }
        }
        let again: Vec<usize> = self
            .groups
            .iter()
            .filter(|(_, group)| matches!(group.reading, Reading::Again(at) if at <= Instant::now()))
            .map(|(number, _)| number)
            .collect();
        for number in again {
            self.groups[number].reading = Reading::No;
            self.read_next(number);
        }
    }
}
