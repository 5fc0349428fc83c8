//! What a repair and the hook show.

use super::outcomes::{
    answers, changed, check, done, fresh, incident, intent, job_failed, lock_out, mended, refused, repaired, rescued,
    silent, stale_service, two_instances,
};
use super::support::{SECOND, healthy, probe, second_instance, trial};
use super::{COLOUR, PLAIN, QUIET, Screen};
use sshd_mend::agent::repair_unit::FollowError;
use sshd_mend::model::execution::{Failure, Success};
use sshd_mend::model::plan::Trigger;
use sshd_mend::model::probe::ProbeResult;
use sshd_mend::model::refusal::RefusalCode;
use sshd_mend::model::snapshot::Snapshot;
use sshd_mend::model::trial::{Check, OtherProcesses, Package, Policy, Trials};
use sshd_mend::model::unit::{ActiveState, KillMode, Listen, LoadState};
use sshd_mend::report::{Outcome, Sessions, Verdict};

/// The incident after its listener was terminated and nothing could be started.
fn nobody() -> Snapshot {
    changed(incident(), |machine| {
        machine.processes.clear();
        machine.intent = Some(intent("ssh.service", "[::]:22"));
    })
}

/// Screens of `repair` and of the hook.
pub fn screens() -> Vec<Screen> {
    use Success::{Cleared, Created, RescueServes, Restarted, Started, Terminated};
    let stop_and_start = || {
        vec![
            ("terminate", Ok(Terminated)),
            ("reset ssh.socket", Ok(Cleared)),
            ("reset ssh.service", Ok(Cleared)),
            ("start ssh.socket", Ok(Started)),
            ("start ssh.service", Ok(Started)),
        ]
    };
    let ending = |last: &[(&'static str, Result<Success, Failure>)]| done(&[stop_and_start(), last.to_vec()].concat());
    let mended_steps = ending(&[("probe [::]:22", answers())]);
    let failed_start = [
        ("terminate", Ok(Terminated)),
        ("start ssh.socket", job_failed("ssh.socket", "failed")),
        ("first-aid", Ok(Created)),
        ("start ssh.service", job_failed("ssh.service", "failed")),
    ];
    let spoilt = |spoil: fn(&mut Snapshot, &mut Trials)| refused(&incident(), spoil, Trigger::Repair);
    vec![
        ("repaired", repaired(&incident(), &mended(), Verdict::Repaired, &mended_steps), PLAIN),
        ("repaired-colour", repaired(&incident(), &mended(), Verdict::Repaired, &mended_steps), COLOUR),
        ("repaired-quiet", repaired(&incident(), &mended(), Verdict::Repaired, &mended_steps), QUIET),
        (
            "repaired-lock-out",
            repaired(
                &lock_out(),
                &mended(),
                Verdict::Repaired,
                &[done(&[("first-aid", Ok(Created))]), mended_steps.clone()].concat(),
            ),
            PLAIN,
        ),
        (
            "repaired-restart",
            repaired(
                &stale_service(),
                &changed(healthy(), |machine| {
                    machine.instances[0].service.main_pid = Some(81);
                    machine.processes[0] = fresh(81);
                }),
                Verdict::Repaired,
                &done(&[
                    ("reset ssh.service", Ok(Cleared)),
                    ("restart ssh.service", Ok(Restarted)),
                    ("probe 0.0.0.0:22", answers()),
                    ("probe [::]:22", answers()),
                ]),
            ),
            PLAIN,
        ),
        (
            "repaired-first-aid",
            Outcome {
                unreachable_ms: None,
                ..repaired(
                    &changed(healthy(), |machine| {
                        machine.host.runtime_directory = false;
                        machine.processes[0].probe = probe(ProbeResult::Dead);
                    }),
                    &healthy(),
                    Verdict::Repaired,
                    &done(&[("first-aid", Ok(Created)), ("probe 0.0.0.0:22", answers()), ("probe [::]:22", answers())]),
                )
            },
            PLAIN,
        ),
        (
            "unverified-busy",
            repaired(
                &incident(),
                &changed(mended(), silent),
                Verdict::Unverified,
                &ending(&[("probe [::]:22", Err(Failure::Unverified("refused with \"Exceeded MaxStartups\"".into())))]),
            ),
            PLAIN,
        ),
        (
            "unverified-lost-session",
            Outcome {
                sessions: Sessions { before: 2, after: 1 },
                exit_status: 1,
                ..repaired(&incident(), &mended(), Verdict::Unverified, &mended_steps)
            },
            PLAIN,
        ),
        (
            "unverified-still-at-work",
            Outcome {
                command: "repair".into(),
                verdict: Verdict::Unverified,
                notes: vec![FollowError::StillRunning.to_string()],
                ..check(&incident())
            },
            PLAIN,
        ),
        (
            "refused-config-invalid",
            spoilt(|_, trials| {
                trial(trials, "ssh.service").config =
                    Check::Failed("/etc/ssh/sshd_config line 12: Bad configuration option: PermitRoot".into())
            }),
            PLAIN,
        ),
        ("refused-quiet", spoilt(|machine, _| machine.host.not_to_be_run = true), QUIET),
        (
            "refused-package-unconfigured",
            spoilt(|_, trials| {
                trial(trials, "ssh.service").package =
                    Package::Unconfigured("openssh-server is \"install ok unpacked\"".into())
            }),
            PLAIN,
        ),
        ("refused-unit-masked", spoilt(|machine, _| machine.instances[0].socket.load = LoadState::Masked), PLAIN),
        (
            "refused-addresses-not-covered",
            spoilt(|machine, _| machine.instances[0].socket.listen = vec![Listen::parse("127.0.0.1:22")]),
            PLAIN,
        ),
        (
            "refused-would-kill-sessions",
            spoilt(|machine, trials| {
                machine.instances[0].service.kill_mode = KillMode::ControlGroup;
                trial(trials, "ssh.service").other_processes = OtherProcesses::Known(vec![60, 4711]);
            }),
            PLAIN,
        ),
        (
            "refused-policy",
            refused(
                &incident(),
                |_, trials| {
                    trial(trials, "ssh.service").policy = Policy::Denies("it denies the restart of ssh.service".into());
                },
                Trigger::Hook,
            ),
            PLAIN,
        ),
        // After first aid the program on disk could be tried, and is of no use.
        (
            "refused-after-first-aid",
            Outcome {
                refusal: Some(RefusalCode::BinaryUnusable.because("fatal: cannot load host key")),
                unreachable_ms: None,
                ..repaired(&lock_out(), &incident(), Verdict::Refused, &done(&[("first-aid", Ok(Created))]))
            },
            PLAIN,
        ),
        (
            "rescued",
            repaired(
                &incident(),
                &rescued(),
                Verdict::Rescued,
                &done(
                    &[
                        &failed_start[..],
                        &[("rescue sshd-mend-rescue-ssh.socket", Ok(RescueServes)), ("probe [::]:22", answers())],
                    ]
                    .concat(),
                ),
            ),
            PLAIN,
        ),
        (
            "failed",
            repaired(
                &incident(),
                &nobody(),
                Verdict::Failed,
                &done(
                    &[&failed_start[..], &[("rescue sshd-mend-rescue-ssh.socket", Err(Failure::RescueDead))]].concat(),
                ),
            ),
            PLAIN,
        ),
        ("failed-colour", repaired(&incident(), &nobody(), Verdict::Failed, &done(&failed_start)), COLOUR),
        (
            "failed-listener-remains",
            repaired(
                &lock_out(),
                &changed(lock_out(), |m| m.host.runtime_directory = true),
                Verdict::Failed,
                &done(&[("first-aid", Ok(Created)), ("terminate", Err(Failure::StillRunning))]),
            ),
            PLAIN,
        ),
        (
            "failed-second-instance",
            {
                let before = second_instance(healthy());
                let after = changed(two_instances(), |machine| {
                    machine.instances[1].service.active = ActiveState::Failed;
                    machine.processes.pop();
                    machine.intent = Some(intent(SECOND, "0.0.0.0:2222"));
                });
                let mut outcome = repaired(
                    &before,
                    &after,
                    Verdict::Failed,
                    &done(&[("restart sshd-2222.service", job_failed(SECOND, "failed"))]),
                );
                outcome.instances[0].verdict = Verdict::Healthy;
                outcome
            },
            PLAIN,
        ),
    ]
}
