//! The units of a rescue as text: its socket, the service for each connection, and the fallback, which starts the
//! instance's units again or else the rescue. They are in /run, so a reboot removes them.
//!
//! None of them needs this program: they work after it was killed, or removed.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::model::address;
use crate::model::names;
use crate::model::plan::{Rescue, Start};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    pub name: String,
    pub text: String,
}

const HEAD: &str = "# Written by sshd-mend before it terminated a listener. A reboot removes it.\n[Unit]\nDocumentation=man:sshd-mend(8)\n";

/// All units of a rescue. `interfaces` is the text of `/proc/net/if_inet6`.
pub fn units(rescue: &Rescue, interfaces: &str) -> Vec<UnitFile> {
    let socket = names::rescue_socket(&rescue.instance);
    vec![
        UnitFile { name: socket.clone(), text: socket_text(rescue, interfaces) },
        UnitFile { name: names::rescue_service(&rescue.instance), text: service_text(rescue) },
        fallback(&rescue.instance, &rescue.start, Some(&socket)),
    ]
}

/// The unit that starts an instance again, or else its rescue if it has one.
pub fn fallback(instance: &str, start: &Start, rescue: Option<&str>) -> UnitFile {
    let word = quoted(&start.serves);
    let units = &start.declared;
    let starts: Vec<String> =
        units.iter().map(|unit| format!("ExecStart=-/usr/bin/systemctl start {}\n", quoted(unit))).collect();
    let words = units.iter().map(|unit| quoted(unit)).collect::<Vec<_>>().join(" ");
    let units = units.join(" ");
    let mark = quoted(&format!("{record}/resumed.{instance}", record = names::RECORD));
    // The service alone would serve more than its socket, or by weaker rules. `is-active` succeeds if one of them is.
    let only_together = format!("ExecStart=/usr/bin/systemctl --quiet is-active {words}\n");
    let starts = starts.join(if start.service_alone.is_some() { "" } else { &only_together });
    // Irreversible: the next start of the unit, which conflicts with the rescue, would replace its job and leave nothing
    // that starts it (systemd.unit(5), OnFailureJobMode=).
    let on_failure =
        rescue.map(|socket| format!("OnFailure={socket}\nOnFailureJobMode=replace-irreversibly\n")).unwrap_or_default();
    let after = rescue.map(|socket| format!(" {socket}")).unwrap_or_default();
    let record = names::RECORD;
    let directory = names::RUNTIME_DIRECTORY;
    let unwanted = names::NOT_TO_BE_RUN;
    // StartLimitIntervalSec=0: no number of attempts keeps it from starting.
    let text = format!(
        "{HEAD}Description=Start {instance} again, or else its rescue\n\
         After={units}{after}\n\
         {on_failure}StartLimitIntervalSec=0\n\
         CollectMode=inactive-or-failed\n\
         # A repair stops and starts units itself.\n\
         ConditionPathExists=!{record}/executing.{instance}\n\
         ConditionPathExists=!{unwanted}\n\
         \n[Service]\nType=oneshot\n\
         # A start that hangs keeps the rescue away, which ends it.\n\
         TimeoutStartSec=45\n\
         ExecStart=-/usr/bin/rm -f {mark}\n\
         ExecStart=-/usr/bin/systemctl reset-failed {words}\n\
         {starts}\
         ExecStart=/usr/bin/systemctl --quiet is-active {word}\n\
         # Nothing is left to be completed: who stops the unit from now on has stopped it on purpose.\n\
         ExecStart=-/usr/bin/touch {mark}\n\
         # A failed start has removed it from under listeners that still run.\n\
         ExecStopPost=-/usr/bin/mkdir -p -m 0755 {directory}\n"
    );
    UnitFile { name: names::fallback(instance), text }
}

fn socket_text(rescue: &Rescue, interfaces: &str) -> String {
    let instance = &rescue.instance;
    let units = rescue.conflicts.join(" ");
    let listen = rescue.addresses.iter().map(|address| listen_stream(*address, interfaces)).collect::<String>();
    let families = if rescue.ipv6_only { "ipv6-only" } else { "both" };
    let mut text = format!(
        "{HEAD}Description=SSH rescue: serves in place of {instance}\n\
         # A start of the unit stops the rescue first, and its fallback starts the rescue again if that start fails.\n\
         Conflicts={units}\n\
         Before={units}\n\
         OnSuccess={fallback}\n\
         # No number of attempts to start the unit keeps it from starting again.\n\
         StartLimitIntervalSec=0\n\
         ConditionPathExists=!{unwanted}\n\
         CollectMode=inactive-or-failed\n\
         \n[Socket]\n\
         {listen}BindIPv6Only={families}\n\
         Accept=yes\n\
         FreeBind=yes\n\
         # Nobody from outside can stop it by connecting often, or keep others out from one address.\n\
         TriggerLimitIntervalSec=0\n\
         MaxConnections=1024\n\
         MaxConnectionsPerSource=64\n",
        fallback = names::fallback(instance),
        unwanted = names::NOT_TO_BE_RUN,
    );
    for setting in &rescue.socket_settings {
        let _ = writeln!(text, "{setting}");
    }
    text
}

fn service_text(rescue: &Rescue) -> String {
    let mut text = format!(
        "{HEAD}Description=SSH rescue of {}, one connection\nCollectMode=inactive-or-failed\n\n[Service]\n",
        rescue.instance
    );
    for setting in &rescue.service_settings {
        let _ = writeln!(text, "{setting}");
    }
    let options: String = rescue.options.iter().map(|option| format!(" {}", quoted(option))).collect();
    let _ = write!(
        text,
        "ExecStart=-{program} -i{options}\n\
         StandardInput=socket\n\
         StandardError=journal\n\
         KillMode=process\n\
         # Each connection creates it again: the next failing start of the unit removes it.\n\
         RuntimeDirectory=sshd\n\
         RuntimeDirectoryMode=0755\n\
         RuntimeDirectoryPreserve=yes\n",
        program = quoted(&rescue.program.to_string_lossy()),
    );
    text
}

fn listen_stream(address: SocketAddr, interfaces: &str) -> String {
    // The interface of a link-local address stands behind the port (systemd.socket(5)), its percent sign doubled, since one
    // begins a specifier.
    match address::with_scope(address, interfaces) {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            format!("ListenStream=[{}]:{}%%{}\n", v6.ip(), v6.port(), v6.scope_id())
        }
        address => format!("ListenStream={address}\n"),
    }
}

/// A word of a command line (systemd.service(5), "Command lines").
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$").replace('%', "%%");
    let plain = !escaped.is_empty() && escaped.chars().all(|c| c.is_ascii_alphanumeric() || "/-_=.,:@%".contains(c));
    if plain { escaped } else { format!("\"{escaped}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rescue_serves_what_was_served_with_the_rules_of_the_unit() {
        let declared = ["ssh.socket", "ssh.service"].map(str::to_owned).into();
        let start = Start { declared, serves: "ssh.service".into(), ..Start::default() };
        let rescue = Rescue {
            instance: "ssh.service".into(),
            conflicts: vec!["ssh.service".into(), "ssh.socket".into()],
            start: start.clone(),
            addresses: ["[::]:22", "0.0.0.0:22"].map(|a| a.parse().expect("an address")).into(),
            ipv6_only: true,
            program: "/usr/sbin/sshd".into(),
            options: vec!["-f".into(), "/etc/ssh/a b\"$x%".into()],
            service_settings: vec!["IPAddressDeny=any".into()],
            socket_settings: vec!["BindToDevice=lo".into()],
        };
        let [socket, service, fallback] = units(&rescue, "").try_into().expect("three units");
        assert_eq!(socket.name, "sshd-mend-rescue-ssh.socket");
        assert!(socket.text.contains("\nListenStream=0.0.0.0:22\nListenStream=[::]:22\nBindIPv6Only=ipv6-only\n"));
        assert!(
            socket.text.contains("\nConflicts=ssh.service ssh.socket\n") && socket.text.ends_with("BindToDevice=lo\n")
        );
        assert!(
            service.text.contains("\nIPAddressDeny=any\nExecStart=-/usr/sbin/sshd -i -f \"/etc/ssh/a b\\\"$$x%%\"\n")
        );
        assert!(fallback.text.contains("OnFailure=sshd-mend-rescue-ssh.socket\n"));
        let interfaces = "fe800000000000000000000000000007 01 40 20 80 lo\n";
        let link_local = listen_stream("[fe80::7]:22".parse().expect("an address"), interfaces);
        assert_eq!(link_local, "ListenStream=[fe80::7]:22%%1\n");
        let start_of = |unit: &str| format!("ExecStart=-/usr/bin/systemctl start {unit}\n");
        let [socket, service] = ["ssh.socket", "ssh.service"].map(start_of);
        let only_together = "ExecStart=/usr/bin/systemctl --quiet is-active ssh.socket ssh.service\n";
        assert!(fallback.text.contains(&format!("{socket}{only_together}{service}")), "{}", fallback.text);
        let start = Start { service_alone: Some("ssh.service".into()), ..start };
        let alone = super::fallback("ssh.service", &start, None);
        assert!(alone.text.contains(&format!("{socket}{service}")), "{}", alone.text);
    }
}
