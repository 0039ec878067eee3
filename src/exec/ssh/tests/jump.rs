//! Targets behind other targets: each is held to the same, and none is gone past.

use tokio::net::TcpListener;

use super::*;

/// A host that leads further, and `rig`'s target behind it.
async fn behind(rig: &mut Rig) -> Rig {
    let jump = self::rig(|settings, _| settings.forwards = true).await;
    let via = Target { id: "jump".into(), ..jump.target.clone() };
    rig.connection().jump = Some("jump".into());
    rig.connection().via = Some(Arc::new(via));
    jump
}

#[tokio::test]
async fn a_target_behind_another_is_reached_through_it_alone() {
    let mut rig = rig(|_, _| {}).await;
    let jump = behind(&mut rig).await;
    for _ in 0..5 {
        assert_eq!(rig.echo().await, StepOutcome::Exited(3));
    }
    assert_eq!((rig.connections().0, jump.connections().0), (1, 1));
    assert_eq!(*jump.sshd.seen.forwarded.lock().unwrap(), [rig.sshd.address.to_string()]);
    assert!(jump.sshd.seen.commands.lock().unwrap().is_empty());
    assert!(rig.sshd.seen.asked.lock().unwrap().is_empty() && jump.sshd.seen.asked.lock().unwrap().is_empty());
}

/// What the SSH server on `port` of this machine shows to the target of `jump`.
async fn seen_from(jump: &Rig, port: u16, limit: Duration) -> Result<Scan, SshFault> {
    jump.ssh.keys_behind(&jump.target, ("127.0.0.1", port), &attribution(), limit).await
}

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_keys_of_a_host_behind_another_are_seen_through_it_alone() {
    let rig = rig(|_, _| {}).await;
    let jump = self::rig(|settings, _| settings.forwards = true).await;
    let direct = scan(&*jump.ssh.node, "127.0.0.1", rig.sshd.address.port(), LIMIT).await.unwrap();
    let before = rig.connections().0;
    let scan = seen_from(&jump, rig.sshd.address.port(), LIMIT).await.unwrap();
    assert_eq!((scan.keys.len(), &scan), (1, &direct));
    let looks = rig.connections().0 - before;
    assert_eq!(*jump.sshd.seen.forwarded.lock().unwrap(), vec![rig.sshd.address.to_string(); looks]);
    assert!(looks > 1 && jump.connections().0 == 1, "one login there serves every look");
    assert!(rig.sshd.seen.logins.lock().unwrap().is_empty(), "nobody logs in where keys are looked at");
    assert!(jump.sshd.seen.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_seen_through_a_host_that_is_another_or_leads_nowhere() {
    let rig = rig(|_, _| {}).await;
    let mut jump = self::rig(|settings, _| settings.forwards = true).await;
    let right = jump.connection().host_keys.clone();
    jump.connection().host_keys = vec![pin_of(new_key().public_key()).parse().unwrap()];
    let fault = seen_from(&jump, rig.sshd.address.port(), LIMIT).await.unwrap_err();
    assert_eq!(fault.code(), "host_key_mismatch", "{fault}");
    assert!(jump.sshd.seen.logins.lock().unwrap().is_empty() && rig.connections().0 == 0);
    // What does not lead to the gateway's own targets leads to no others either.
    jump.connection().host_keys = right;
    jump.connection().jump = Some("nobody".into());
    assert_eq!(seen_from(&jump, rig.sshd.address.port(), LIMIT).await.unwrap_err().code(), "jump_unusable");
    jump.connection().jump = None;
    let closed = self::rig(|_, _| {}).await;
    let fault = seen_from(&closed, rig.sshd.address.port(), LIMIT).await.unwrap_err();
    assert!(fault.code() == "unreachable" && fault.to_string().contains("does not lead there"), "{fault}");
    assert_eq!(rig.connections().0, 0);
}

#[tokio::test]
async fn a_host_that_stalls_behind_another_does_not_hold_it_up() {
    let jump = rig(|settings, _| settings.forwards = true).await;
    assert_eq!(jump.echo().await, StepOutcome::Exited(3));
    let stalls = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = stalls.local_addr().unwrap().port();
    let fault = seen_from(&jump, port, Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(fault, SshFault::Timeout(_)), "{fault}");
    assert_eq!(jump.echo().await, StepOutcome::Exited(3));
    assert_eq!(*jump.sshd.seen.forwarded.lock().unwrap(), [format!("127.0.0.1:{port}")]);
}

#[tokio::test]
async fn the_jump_host_and_the_target_prove_who_they_are_each() {
    let mut rig = rig(|_, _| {}).await;
    let jump = behind(&mut rig).await;
    let wrong = vec![pin_of(new_key().public_key()).parse().unwrap()];
    let mut via = Target::clone(rig.connection().via.as_ref().unwrap());
    let pins =
        std::mem::replace(&mut via.registered.as_mut().unwrap().connection.as_mut().unwrap().host_keys, wrong.clone());
    rig.connection().via = Some(Arc::new(via.clone()));
    let StepOutcome::NotStarted { code: "host_key_mismatch", why } = rig.echo().await else { panic!("it was trusted") };
    assert!(why.starts_with("at the jump host jump: "), "{why}");
    assert_eq!(rig.connections().0, 0);
    assert!(jump.sshd.seen.logins.lock().unwrap().is_empty());

    via.registered.as_mut().unwrap().connection.as_mut().unwrap().host_keys = pins;
    rig.connection().via = Some(Arc::new(via));
    rig.connection().host_keys = wrong;
    assert_eq!(code(&rig.echo().await), "host_key_mismatch");
    assert!(rig.sshd.seen.logins.lock().unwrap().is_empty() && rig.connections().0 == 1);
}

#[tokio::test]
async fn a_jump_host_that_does_not_lead_there_is_said_so() {
    let mut rig = rig(|_, _| {}).await;
    let jump = self::rig(|_, _| {}).await;
    rig.connection().via = Some(Arc::new(Target { id: "jump".into(), ..jump.target.clone() }));
    let StepOutcome::NotStarted { code: "unreachable", why } = rig.echo().await else { panic!("it was reached") };
    assert!(why.contains("the jump host does not lead there"), "{why}");
    assert_eq!((rig.connections().0, jump.connections().1), (0, 1));
}

#[tokio::test]
async fn a_way_that_does_not_hold_together_is_not_gone() {
    let mut rig = rig(|_, _| {}).await;
    let elsewhere = |change: &dyn Fn(&mut Target)| {
        let mut via = Target { id: "jump".into(), ..rig.target.clone() };
        change(&mut via);
        Some(Arc::new(via))
    };
    let cases = [
        (None, "is no target"),
        (elsewhere(&|via| via.engagement = "other".into()), "of the same engagement"),
        (elsewhere(&|via| via.kind = TargetKind::Local), "reached by SSH"),
        (elsewhere(&|via| via.id = "web".into()), "through web twice"),
    ];
    for (via, wanted) in cases {
        rig.connection().jump = Some("jump".into());
        rig.connection().via = via;
        let StepOutcome::NotStarted { code: "jump_unusable", why } = rig.echo().await else { panic!("{wanted}") };
        assert!(why.contains(wanted), "{why}");
    }
    assert_eq!(rig.connections().0, 0, "it was gone past");
}

#[tokio::test]
async fn there_are_three_jump_hosts_at_most() {
    let mut rig = rig(|settings, _| settings.forwards = true).await;
    rig.connection().via = None;
    // The same server stands for every host.
    for (hops, reached) in [(3, true), (4, false)] {
        let mut target = rig.target.clone();
        for hop in 0..hops {
            let mut next = Target { id: format!("hop{hop}").as_str().into(), ..rig.target.clone() };
            let connection = next.registered.as_mut().unwrap().connection.as_mut().unwrap();
            connection.via = Some(Arc::new(target));
            target = next;
        }
        let outcome = rig.run_on(&target, &Script::new(&ECHO, ["x"])).await.outcome;
        assert_eq!(outcome == StepOutcome::Exited(3), reached, "{hops}: {outcome:?}");
        // As many are passed where keys are looked at from the last of them.
        let jump = target.connection().unwrap().via.as_deref().unwrap();
        let port = rig.sshd.address.port();
        let seen = rig.ssh.keys_behind(jump, ("127.0.0.1", port), &attribution(), LIMIT).await;
        assert_eq!(seen.is_ok(), reached, "{hops}: {seen:?}");
    }
}
