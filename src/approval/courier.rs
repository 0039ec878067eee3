//! Carries messages to their destinations, each message in a task of its own: tried again with growing pauses until it is
//! taken or of no use any more. Nobody who asks or decides waits for it, and what it hears back is never a yes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::header::HeaderValue;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::RootCertStore;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    delivery::{AddressFault, Post, system_roots},
    message::{Form, Message},
    notify::{News, Notifier},
    seal::{SecretFault, read_secret},
    webhook::Webhooks,
};
use crate::{
    config::{self, NotifyForm},
    model::Clock,
};

/// The most messages that wait for one destination.
const MOST: usize = 256;
/// The most messages on their way to one destination at once.
const AT_ONCE: usize = 4;
/// How long a message about something that has ended is worth sending.
const STALE: Duration = Duration::from_mins(15);

/// How fast messages are sent again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause after the first failure; it doubles with each further one. Each pause is cut by up to half, at random.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The longest that one try may take.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_mins(1), patience: Duration::from_secs(10) }
    }
}

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyFault {
    /// A secret cannot be used.
    #[error("approvals.{key}: {name}: {fault}")]
    Secret {
        /// The key in the configuration.
        key: &'static str,
        /// The entry's name.
        name: String,
        /// Why.
        fault: SecretFault,
    },
    /// Two webhooks have one secret.
    #[error("approvals.webhooks: {0} and {1} have the same secret: each could speak as the other")]
    SharedSecret(String, String),
    /// A destination cannot be called.
    #[error("approvals.{key}: {name}: {fault}")]
    Address {
        /// The key in the configuration.
        key: &'static str,
        /// The entry's name.
        name: String,
        /// Why.
        fault: AddressFault,
    },
}

/// How one destination is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `webhook duty`, `notify phones`.
    pub name: String,
    /// When it last took a message.
    pub last_success: Option<Timestamp>,
    /// When it last did not, and why.
    pub last_failure: Option<(Timestamp, String)>,
    /// Since when it takes none.
    pub failing_since: Option<Timestamp>,
    /// The messages that wait for it.
    pub pending: usize,
    /// The messages that never arrived.
    pub missed: u64,
}

/// Everybody who is told.
pub struct Couriers {
    couriers: Vec<Arc<Courier>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Couriers {
    /// To whom `settings` name; `webhooks` hold the secrets. Errors where a secret or a certificate is missing.
    pub fn open(
        settings: &config::Approvals,
        webhooks: &Webhooks,
        clock: &Arc<dyn Clock>,
        pace: Pace,
    ) -> Result<Self, NotifyFault> {
        let wanted = !settings.webhooks.is_empty() || !settings.notify.is_empty();
        let roots = if wanted { system_roots() } else { RootCertStore::empty() };
        Self::open_trusting(&roots, settings, webhooks, clock, pace)
    }

    /// The same, with other root certificates than the machine's.
    pub(super) fn open_trusting(
        roots: &RootCertStore,
        settings: &config::Approvals,
        webhooks: &Webhooks,
        clock: &Arc<dyn Clock>,
        pace: Pace,
    ) -> Result<Self, NotifyFault> {
        let mut couriers = Vec::new();
        let stop = CancellationToken::new();
        let mut add = |key: &'static str, kind, name: &str, url: &str, form| {
            let post = Post::new(url, roots.clone(), pace.patience);
            let post = post.map_err(|fault| NotifyFault::Address { key, name: name.to_owned(), fault })?;
            let health = Health { name: format!("{kind} {name}"), ..Health::default() };
            couriers.push(Arc::new(Courier {
                form,
                post,
                pace,
                clock: clock.clone(),
                line: Semaphore::new(AT_ONCE),
                state: Mutex::new(State { health, ..State::default() }),
            }));
            Ok(())
        };
        for webhook in &settings.webhooks {
            // Every configured one has a secret, or `webhooks` would not be.
            let Some(seal) = webhooks.seal(&webhook.name) else { continue };
            let form = Form::Webhook { name: webhook.name.clone(), seal };
            add("webhooks", "webhook", &webhook.name, &webhook.url, form)?;
        }
        for notify in &settings.notify {
            let token = bearer(notify)?;
            let form = match notify.form {
                NotifyForm::Json => Form::Json(token),
                NotifyForm::Ntfy => Form::Ntfy(token),
            };
            add("notify", "notify", &notify.name, &notify.url, form)?;
        }
        Ok(Self { couriers, tasks: TaskTracker::new(), stop })
    }

    /// How each destination is.
    pub fn health(&self) -> Vec<Health> {
        let health = |courier: &Arc<Courier>| {
            let state = courier.state();
            Health { pending: state.waiting.len(), ..state.health.clone() }
        };
        self.couriers.iter().map(health).collect()
    }

    /// Whether every destination took what it was sent last: part of readiness.
    pub fn are_fine(&self) -> bool {
        self.couriers.iter().all(|courier| courier.state().health.failing_since.is_none())
    }

    /// Lets messages be sent until `stop`, and ends with the last of them. What has not arrived by then is told of again
    /// by the next run of the service, if it still matters.
    pub async fn follow(&self, stop: CancellationToken) {
        stop.cancelled().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The value of `Authorization`, where one is configured.
fn bearer(notify: &config::Notify) -> Result<Option<HeaderValue>, NotifyFault> {
    let Some(file) = &notify.token_file else { return Ok(None) };
    let fault = |fault| NotifyFault::Secret { key: "notify", name: notify.name.clone(), fault };
    const WANTED: &str = "a token of at most 1024 bytes";
    let token = read_secret(file, 1, WANTED).map_err(fault)?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| fault(SecretFault::Form { path: file.clone(), wanted: WANTED }))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl Notifier for Couriers {
    fn tell(&self, news: News) {
        if self.stop.is_cancelled() {
            return;
        }
        let news = Arc::new(news);
        for courier in &self.couriers {
            // What would be sent from now on comes too late; what waits is called back.
            if let Some(id) = news.ends() {
                courier.call_back(id);
            }
            if courier.is_for(&news) {
                courier.clone().take(Some(news.clone()), &self.tasks, &self.stop);
            }
        }
    }
}

/// Who brings messages to one destination.
struct Courier {
    form: Form,
    post: Post,
    pace: Pace,
    clock: Arc<dyn Clock>,
    line: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    health: Health,
    /// What is not taken yet, by the order in which it came.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// What it missed and has not been told that it missed: how many messages, and since when.
    untold: Option<(u64, Timestamp)>,
    /// Whether it is being told.
    telling: bool,
}

/// One message that is not taken yet.
struct Waiting {
    /// The question that it asks to answer.
    question: Option<String>,
    end: CancellationToken,
}

/// How a message ended.
enum End {
    Taken,
    /// It was worth nothing any more.
    Stale,
    /// Somebody has decided, or the service stops.
    CalledBack,
}

impl Courier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A webhook is asked, and told nothing else: it decides, and others report.
    fn is_for(&self, news: &News) -> bool {
        !matches!(self.form, Form::Webhook { .. }) || matches!(news, News::Asked(_))
    }

    fn call_back(&self, question: &str) {
        let state = self.state();
        let about = state.waiting.values().filter(|waiting| waiting.question.as_deref() == Some(question));
        about.for_each(|waiting| waiting.end.cancel());
    }

    /// Takes `news` on; none tells the destination what it missed.
    fn take(self: Arc<Self>, news: Option<Arc<News>>, tasks: &TaskTracker, stop: &CancellationToken) {
        let now = self.clock.now();
        let (question, until) = match news.as_deref() {
            Some(News::Asked(question)) => (Some(question.id.clone()), Some(question.expires_at)),
            Some(_) => (None, now.checked_add(STALE).ok()),
            None => (None, None),
        };
        let end = stop.child_token();
        let number = {
            let mut state = self.state();
            if state.waiting.len() >= MOST && news.is_some() {
                state.failed(now, "too many messages wait for it".to_owned());
                state.missed(now);
                return;
            }
            state.next += 1;
            let number = state.next;
            state.waiting.insert(number, Waiting { question, end: end.clone() });
            number
        };
        let (tasks, stop) = (tasks.clone(), stop.clone());
        tasks.clone().spawn(async move {
            let ended = end.run_until_cancelled(self.bring(news.as_ref(), until)).await.unwrap_or(End::CalledBack);
            let more = self.state().ended(number, news.is_none(), &ended, self.clock.now());
            if more && !stop.is_cancelled() {
                self.take(None, &tasks, &stop);
            }
        });
    }

    /// Tries until it is taken, or `until` has come.
    async fn bring(&self, news: Option<&Arc<News>>, until: Option<Timestamp>) -> End {
        let mut pause = self.pace.first;
        loop {
            {
                // Closed by nobody.
                let _place = self.line.acquire().await;
                let now = self.clock.now();
                if until.is_some_and(|until| now >= until) {
                    return End::Stale;
                }
                let message = match news {
                    Some(news) => Message::News(news.clone()),
                    None => self.state().untold.map_or(Message::Missed { count: 0, since: now }, |(count, since)| {
                        Message::Missed { count, since }
                    }),
                };
                let (headers, body) = self.form.written(&message, now);
                match self.post.send(headers, body).await {
                    Ok(()) => return End::Taken,
                    Err(untaken) => self.state().failed(self.clock.now(), untaken.to_string()),
                }
            }
            let left =
                until.map(|until| Duration::try_from(until.duration_since(self.clock.now())).unwrap_or_default());
            tokio::time::sleep(cut(pause).min(left.unwrap_or(Duration::MAX))).await;
            pause = (pause * 2).min(self.pace.longest);
        }
    }
}

impl State {
    fn failed(&mut self, now: Timestamp, why: String) {
        let health = &mut self.health;
        if health.failing_since.is_none() {
            tracing::warn!(destination = health.name, why, "a message about approvals was not taken");
            health.failing_since = Some(now);
        }
        health.last_failure = Some((now, why));
    }

    fn missed(&mut self, now: Timestamp) {
        self.health.missed += 1;
        let since = self.health.failing_since.unwrap_or(now);
        let (count, _) = self.untold.get_or_insert((0, since));
        *count += 1;
    }

    /// Notes the end of message `number`. Returns whether the destination is to be told now what it missed.
    fn ended(&mut self, number: u64, told: bool, end: &End, now: Timestamp) -> bool {
        self.waiting.remove(&number);
        self.telling &= !told;
        match end {
            End::Taken => {
                self.health.last_success = Some(now);
                if self.health.failing_since.take().is_some() {
                    tracing::info!(destination = self.health.name, "messages about approvals are taken again");
                }
                if told {
                    self.untold = None;
                }
            }
            End::Stale => self.missed(now),
            End::CalledBack => {}
        }
        let tell = self.untold.is_some() && !self.telling;
        self.telling |= tell;
        tell
    }
}

/// `pause`, less up to half of it, so that those who failed together do not come back together.
fn cut(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness the pause is the longest.
    let part = SystemRandom::new().fill(&mut random).map_or(0, |()| u16::from_le_bytes(random));
    pause - pause.mul_f64(f64::from(part) / f64::from(u16::MAX) / 2.0)
}

#[cfg(test)]
mod tests;
