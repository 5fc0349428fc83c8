//! Arbitrary machines for the executor: consistent ones, of one to three instances.

use super::layout::{Layout, Shape, build};
use super::truth::Truth;
use proptest::prelude::*;
use proptest::sample::select;

const SHAPES: &[Shape] = &[
    Shape::Service,
    Shape::Service,
    Shape::Activated,
    Shape::Waiting,
    Shape::Orphan,
    Shape::Orphan,
    Shape::OrphanOfStopped,
    Shape::OrphanBeside,
    Shape::TwoOrphans,
    Shape::Failed,
    Shape::Stopped,
    Shape::Rescued,
    Shape::RescuedOffRecord,
    Shape::RescuedBesideOrphan,
    Shape::Interrupted,
    Shape::InterruptedWithoutRescue,
    Shape::InterruptedBefore,
    Shape::Elsewhere,
];

const PORTS: [[&str; 4]; 3] = [
    ["0.0.0.0:22", "[::]:22", "0.0.0.0:1022", "127.0.0.1:22"],
    ["0.0.0.0:2222", "[::]:2222", "0.0.0.0:1222", "127.0.0.1:2222"],
    ["0.0.0.0:2201", "[::]:2201", "0.0.0.0:1201", "127.0.0.1:2201"],
];

fn some_layout(index: usize) -> impl Strategy<Value = Layout> {
    let [all, six, more, local] = PORTS[index];
    let own = select(vec![vec![all, six], vec![all, six], vec![all, six, more], vec![six], vec![local, more]]);
    let listen = select(vec![vec![], vec![], vec![six], vec![all, six], vec![all, six, more], vec![local, more]]);
    let odd = |often: f64| prop::bool::weighted(often);
    let flags = (odd(0.7), odd(0.7), odd(0.5), odd(0.4), odd(0.05), odd(0.08), odd(0.8), odd(0.1));
    let kill_mode = select(vec!["process", "process", "process", "control-group"]);
    (select(SHAPES.to_vec()), own, listen, flags, (kill_mode, odd(0.15), odd(0.95))).prop_map(
        move |(
            shape,
            own,
            listen,
            (stale, service_enabled, socket_enabled, ipv6_only, device_bound, accept, has_directory, requires_socket),
            (kill_mode, session, works),
        )| {
            // Where both families are declared, the socket keeps them apart, or it could not bind the second.
            let ipv6_only = ipv6_only || (listen.contains(&all) && listen.contains(&six));
            Layout {
                shape,
                own,
                ipv6_only,
                listen,
                stale,
                service_enabled,
                socket_enabled,
                device_bound,
                accept,
                has_directory: has_directory || index == 0,
                requires_socket,
                kill_mode,
                session,
                works,
            }
        },
    )
}

/// Facts of arbitrary machines, and whether `/run/sshd` is there.
pub fn some_truth() -> impl Strategy<Value = Truth> {
    let layouts = (some_layout(0), some_layout(1), some_layout(2), 1..=3_usize);
    (layouts, prop::bool::weighted(0.85)).prop_map(|((first, second, third, count), runtime_directory)| {
        let layouts: Vec<Layout> = [first, second, third].into_iter().take(count).collect();
        Truth { runtime_directory, ..build(&layouts) }
    })
}
