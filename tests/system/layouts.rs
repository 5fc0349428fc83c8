//! Every layout of one sshd: an orphan serves what is declared, apt replaces openssh-server, and afterwards the declared
//! units serve exactly the same addresses.

use crate::machine::Machine;

/// A layout, and what is to be seen of it when all is well.
struct Layout<'a> {
    root: &'a str,
    /// Declares it; run while nothing listens.
    declare: &'a str,
    /// Where people log in: arguments of ssh.
    logins: &'a [&'a str],
    /// `ActiveState` of ssh.socket and ssh.service afterwards.
    active: [&'a str; 2],
}

const SERVICE: [&str; 2] = ["inactive", "active"];
const SOCKET_AND_SERVICE: [&str; 2] = ["active", "active"];
const LOOPBACK: &[&str] = &["root@127.0.0.1", "root@::1"];
const USE_SOCKET: &str = "systemctl -q disable ssh.service; systemctl -q enable ssh.socket";

/// Debian 13 with ssh.service.
const DEFAULT: Layout = Layout { root: "trixie", declare: "", logins: LOOPBACK, active: SERVICE };

impl Layout<'_> {
    fn declared(&self) -> Machine {
        let machine = Machine::with_package(self.root);
        machine.sh(&format!("systemctl stop ssh.socket ssh.service\n{}\nsystemctl daemon-reload", self.declare)).ok();
        machine
    }

    fn active(machine: &Machine) -> [String; 2] {
        ["ssh.socket", "ssh.service"].map(|unit| machine.active(unit))
    }

    fn assert_logins(&self, machine: &Machine) {
        for login in self.logins {
            machine.assert_login_at(login);
        }
    }

    /// A package run's hook terminates the orphan, and what is declared serves.
    fn is_repaired(&self) {
        let machine = self.declared();
        // What the units serve by themselves is what they have to serve again.
        let [socket, _] = self.active;
        machine.sh(&format!("systemctl start {}", if socket == "active" { "ssh.socket" } else { "ssh.service" })).ok();
        self.assert_logins(&machine);
        assert_eq!(Self::active(&machine), self.active, "the layout is not what the test says");
        let served = machine.listening();
        machine.sh("systemctl stop ssh.socket ssh.service").ok();
        let enabled = machine.sh("systemctl is-enabled ssh.socket ssh.service").stdout;

        let orphan = machine.orphan();
        self.assert_logins(&machine);
        let login: Vec<&str> = self.logins[0].split(' ').collect();
        let mut session = machine.open_session_with("bystander", &login);
        let run = machine.upgrade().ok();
        assert!(run.stdout.contains("REPAIRED"), "{run:#?}\n{}", machine.state());
        assert!(!machine.is_alive(orphan), "{run:#?}");
        session.assert_open();
        self.assert_logins(&machine);
        assert_eq!(machine.listening(), served, "{run:#?}");
        assert_eq!(Self::active(&machine), self.active);
        assert_eq!(machine.sh("systemctl is-enabled ssh.socket ssh.service").stdout, enabled);
        let check = machine.sh("sshd-mend check --json").ok().json();
        assert_eq!(check["findings"].to_string(), "[]", "{check:#}");
        machine.assert_nothing_on_record();
    }

    /// The main process of the active unit is stale: its unit is restarted.
    fn is_restarted(&self) {
        let machine = self.declared();
        machine.sh("systemctl start ssh.service").ok();
        self.assert_logins(&machine);
        let served = machine.listening();
        let before = machine.main_pid("ssh.service");
        machine.replace_program("/usr/sbin/sshd");
        let check = machine.sh("sshd-mend check --json");
        assert_eq!(check.json()["findings"][0]["code"], "stale-service", "{check:#?}");
        assert_eq!(check.status, 1, "{check:#?}");
        let hook = machine.sh("sshd-mend hook").ok();
        assert!(hook.stdout.contains("REPAIRED"), "{hook:#?}\n{}", machine.state());
        assert_ne!(machine.main_pid("ssh.service"), before);
        self.assert_logins(&machine);
        assert_eq!(machine.listening(), served);
        machine.sh("sshd-mend check").ok();
    }
}

#[test]
fn debian_13_with_the_service() {
    DEFAULT.is_repaired();
}

#[test]
fn debian_12_with_the_service() {
    Layout { root: "bookworm", ..DEFAULT }.is_repaired();
}

#[test]
fn debian_13_with_the_socket() {
    Layout { declare: USE_SOCKET, active: SOCKET_AND_SERVICE, ..DEFAULT }.is_repaired();
}

#[test]
fn debian_12_with_the_socket() {
    Layout { root: "bookworm", declare: USE_SOCKET, active: SOCKET_AND_SERVICE, ..DEFAULT }.is_repaired();
}

/// The links and drop-ins of Ubuntu 24.04's package and of its generator.
const UBUNTU: &str = "systemctl -q disable ssh.service; systemctl -q enable ssh.socket
mkdir -p /etc/systemd/system/ssh.service.requires /etc/systemd/system/ssh.socket.d
ln -s /usr/lib/systemd/system/ssh.socket /etc/systemd/system/ssh.service.requires/ssh.socket
printf '[Socket]\\nListenStream=\\nListenStream=0.0.0.0:22\\nListenStream=[::]:22\\nBindIPv6Only=ipv6-only\\nFreeBind=yes\\n' \\
    >/etc/systemd/system/ssh.socket.d/addresses.conf";

#[test]
fn the_units_of_ubuntu_with_systemd_257() {
    Layout { declare: UBUNTU, active: SOCKET_AND_SERVICE, ..DEFAULT }.is_repaired();
}

#[test]
fn the_units_of_ubuntu_with_systemd_252() {
    Layout { root: "bookworm", declare: UBUNTU, active: SOCKET_AND_SERVICE, ..DEFAULT }.is_repaired();
}

const PER_CONNECTION: &str = "systemctl -q disable ssh.service; systemctl -q enable ssh.socket
mkdir -p /etc/systemd/system/ssh.socket.d; printf '[Socket]\\nAccept=yes\\n' >/etc/systemd/system/ssh.socket.d/accept.conf";

/// Debian 12 and 13 ship no `ssh@.service`: who wants it declares it.
const TEMPLATE: &str = "cat >/etc/systemd/system/ssh@.service <<'E'
[Service]
ExecStart=-/usr/sbin/sshd -i
StandardInput=socket
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
RuntimeDirectoryMode=0755
E";

#[test]
fn a_socket_with_a_service_for_each_connection() {
    let declare = format!("{PER_CONNECTION}\n{TEMPLATE}");
    Layout { declare: &declare, active: ["active", "inactive"], ..DEFAULT }.is_repaired();
}

#[test]
fn a_socket_whose_service_for_each_connection_is_missing_is_refused() {
    let (machine, listener) = Machine::with_stale_orphan("trixie");
    machine.sh(&format!("{PER_CONNECTION}\nsystemctl daemon-reload")).ok();
    let repair = machine.sh("sshd-mend repair --json");
    assert_eq!(repair.json()["refusal"]["code"], "unit-missing", "{repair:#?}");
    assert_eq!(repair.status, 1, "{repair:#?}");
    assert!(machine.is_alive(listener), "{repair:#?}");
    machine.assert_login();
}

/// A line of sshd_config.
fn config(text: &str) -> String {
    format!("printf '{text}' >/etc/ssh/sshd_config.d/layout.conf")
}

#[test]
fn another_port() {
    let declare = config("Port 2222\\n");
    Layout { declare: &declare, logins: &["-p 2222 root@127.0.0.1"], ..DEFAULT }.is_repaired();
}

#[test]
fn several_ports() {
    let declare = config("Port 22\\nPort 2222\\n");
    Layout { declare: &declare, logins: &["root@127.0.0.1", "-p 2222 root@::1"], ..DEFAULT }.is_repaired();
}

#[test]
fn one_address() {
    let declare = format!("ip addr add 192.0.2.7/32 dev lo; {}", config("ListenAddress 192.0.2.7\\n"));
    Layout { declare: &declare, logins: &["root@192.0.2.7"], ..DEFAULT }.is_repaired();
}

#[test]
fn ipv6_only() {
    let declare = config("AddressFamily inet6\\n");
    Layout { declare: &declare, logins: &["root@::1"], ..DEFAULT }.is_repaired();
}

#[test]
fn a_link_local_address() {
    let declare = format!("ip addr add fe80::7/64 dev lo nodad; {}", config("ListenAddress fe80::7%%lo\\n"));
    Layout { declare: &declare, logins: &["root@fe80::7%lo"], ..DEFAULT }.is_repaired();
}

/// systemd.socket(5) has the interface behind the port, and `%` is a specifier in a unit's file.
#[test]
fn a_link_local_address_of_the_socket() {
    let declare = format!(
        "ip addr add fe80::7/64 dev lo nodad; {USE_SOCKET}; mkdir -p /etc/systemd/system/ssh.socket.d
         printf '[Socket]\\nListenStream=\\nListenStream=[fe80::7]:22%%%%lo\\n' >/etc/systemd/system/ssh.socket.d/layout.conf
         {}",
        config("ListenAddress fe80::7%%lo\\n")
    );
    Layout { declare: &declare, logins: &["root@fe80::7%lo"], active: SOCKET_AND_SERVICE, ..DEFAULT }.is_repaired();
}

#[test]
fn a_port_in_sshd_opts() {
    let declare = "echo 'SSHD_OPTS=\"-p 2223\"' >/etc/default/ssh";
    Layout { declare, logins: &["-p 2223 root@127.0.0.1"], ..DEFAULT }.is_repaired();
}

#[test]
fn without_the_alias_sshd_service() {
    Layout { declare: "rm -f /etc/systemd/system/sshd.service", ..DEFAULT }.is_repaired();
}

#[test]
fn with_the_alias_sshd_service() {
    let declare = "ln -sf /usr/lib/systemd/system/ssh.service /etc/systemd/system/sshd.service";
    Layout { declare, ..DEFAULT }.is_repaired();
}

/// A drop-in of ssh.service.
fn service(text: &str) -> String {
    format!(
        "mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\n{text}' >/etc/systemd/system/ssh.service.d/layout.conf"
    )
}

#[test]
fn a_mount_namespace_of_its_own() {
    let declare = service("PrivateTmp=yes\\nProtectSystem=full\\nProtectHome=read-only\\nReadWritePaths=/run\\n");
    Layout { declare: &declare, ..DEFAULT }.is_restarted();
}

#[test]
fn a_path_through_a_symbolic_link() {
    let declare = service("ExecStart=\\nExecStart=/sbin/sshd -D $SSHD_OPTS\\n");
    Layout { declare: &declare, ..DEFAULT }.is_restarted();
}
