//! What hosts say of themselves, and who hears that it changed. Nothing here stops a call.

use super::{super::alarm::HostAlarm, sshd::Says, trusting::Heard, *};
use crate::store::Store;

const OLD: &str = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3";
const NEW: &str = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7";

/// A rig that remembers, whose host says something; who hears of changes; and where it is kept.
struct Greeted {
    rig: Rig,
    says: Arc<std::sync::Mutex<Says>>,
    heard: Arc<Heard>,
    data: tempfile::TempDir,
    store: Store,
}

async fn greeted() -> Greeted {
    let mut says = None;
    let rig = rig(|settings, _| {
        settings.says.lock().unwrap().identification = Some(OLD.to_owned());
        says = Some(settings.says.clone());
    })
    .await;
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).await.unwrap();
    let greeted = Greeted { rig, says: says.unwrap(), heard: Arc::default(), data, store };
    greeted.restarted().await
}

impl Greeted {
    /// Another gateway with the same data.
    async fn restarted(mut self) -> Self {
        let ssh = gateway(config::Ssh::default(), config::Exec::default()).await;
        self.rig.ssh = ssh.telling(self.heard.clone()).remembering(self.store.clone());
        self
    }

    /// A call over a new connection, which works.
    async fn connects(&self) {
        let before = self.rig.connections().0;
        self.rig.sshd.hang_up();
        eventually("it was never cut", || self.rig.connections().1 == 0).await;
        assert_eq!(self.rig.echo().await, StepOutcome::Exited(3));
        assert_eq!(self.rig.connections().0, before + 1);
    }

    fn alarms(&self) -> Vec<HostAlarm> {
        self.heard.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn another_identification_is_one_alarm_with_both_and_stops_nothing() {
    let greeted = greeted().await;
    assert_eq!(greeted.rig.echo().await, StepOutcome::Exited(3));
    greeted.connects().await;
    assert!(greeted.alarms().is_empty());
    greeted.says.lock().unwrap().identification = Some(NEW.to_owned());
    greeted.connects().await;
    let [alarm] = &greeted.alarms()[..] else { panic!("{:?}", greeted.alarms()) };
    assert_eq!((alarm.code, alarm.refused), ("host_identification_changed", false));
    assert_eq!((alarm.shown.as_str(), alarm.enrolled.as_slice()), (NEW, &[OLD.to_owned()][..]));
    assert!(alarm.why.contains(OLD) && alarm.why.contains(NEW), "{}", alarm.why);
    assert_eq!((alarm.target.as_str(), alarm.host.as_str()), ("web", "127.0.0.1"));
    // It was told of: neither the next connection nor the next gateway tells of it again.
    greeted.connects().await;
    let greeted = greeted.restarted().await;
    greeted.connects().await;
    assert_eq!(greeted.alarms().len(), 1);
    // Nor was it forgotten what is expected now.
    greeted.says.lock().unwrap().identification = Some(OLD.to_owned());
    greeted.connects().await;
    assert_eq!(greeted.alarms().len(), 2);
}

#[tokio::test]
async fn another_banner_is_an_alarm_in_printable_words() {
    let greeted = greeted().await;
    greeted.connects().await;
    greeted.says.lock().unwrap().banner = Some("Welcome to \u{1b}[2Jthe jungle\r\nline two\n".to_owned());
    greeted.connects().await;
    // Its end is another, and its first line the same.
    greeted.says.lock().unwrap().banner = Some("Welcome to \u{1b}[2Jthe jungle\r\nline three\n".to_owned());
    greeted.connects().await;
    greeted.connects().await;
    let alarms = greeted.alarms();
    assert_eq!(alarms.iter().map(|alarm| alarm.code).collect::<Vec<_>>(), ["host_banner_changed"; 2]);
    assert_eq!(alarms[0].enrolled, ["no banner"]);
    assert!(alarms[0].shown.starts_with("banner \"Welcome to \\u{1b}[2Jthe jungle\" (SHA-256 "), "{}", alarms[0].shown);
    assert_eq!(alarms[1].enrolled, [alarms[0].shown.clone()]);
    assert!(alarms[1].shown != alarms[0].shown && !alarms[1].why.contains('\u{1b}'));
}

#[tokio::test]
async fn many_connections_at_once_tell_of_a_change_once() {
    let greeted = greeted().await;
    greeted.connects().await;
    greeted.rig.sshd.hang_up();
    eventually("it was never cut", || greeted.rig.connections().1 == 0).await;
    greeted.says.lock().unwrap().identification = Some(NEW.to_owned());
    let targets: Vec<Target> = (0..6)
        .map(|n| {
            // Who connects in another way shares no connection.
            let mut target = greeted.rig.target.clone();
            let connection = target.registered.as_mut().unwrap().connection.as_mut().unwrap();
            connection.timeout = Duration::from_secs(20 + n);
            target
        })
        .collect();
    let script = Script::new(&ECHO, ["x"]);
    let outputs =
        futures_util::future::join_all(targets.iter().map(|target| greeted.rig.run_on(target, &script))).await;
    assert!(outputs.iter().all(|output| output.outcome == StepOutcome::Exited(3)), "{outputs:?}");
    assert!(greeted.rig.connections().0 > 2, "{:?}", greeted.rig.connections());
    assert_eq!(greeted.alarms().len(), 1);
}

#[tokio::test]
async fn of_a_target_that_was_enrolled_anew_nothing_is_expected() {
    let mut greeted = greeted().await;
    greeted.connects().await;
    greeted.says.lock().unwrap().identification = Some(NEW.to_owned());
    greeted.rig.connection().host_keys.push(pin_of(new_key().public_key()).parse().unwrap());
    greeted.connects().await;
    assert!(greeted.alarms().is_empty());
    let kept = greeted.store.greeting("web").await.unwrap().unwrap();
    assert_eq!(kept.identification, NEW);
    drop(greeted.data);
}

#[tokio::test]
async fn where_nothing_can_be_kept_the_call_goes_on() {
    let greeted = greeted().await;
    greeted.store.close().await;
    greeted.connects().await;
    assert!(greeted.alarms().is_empty());
}
