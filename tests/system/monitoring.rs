//! The files in packaging/monitoring, with the software that they are for, from Debian: the incident turns it red, the repair
//! green.

use crate::machine::{Machine, Output};

/// Where the package puts them.
const FILES: &str = "/usr/share/doc/sshd-mend/monitoring";

fn repaired(machine: &Machine) {
    assert_eq!(machine.sh("sshd-mend repair").ok().status, 0);
}

/// nagios4 asks over NRPE, which asks through sudo.
#[test]
fn nagios_over_nrpe_turns_red_and_green() {
    let machine = Machine::with_package("trixie");
    machine.install("nagios4-core nagios-nrpe-server nagios-nrpe-plugin sudo");
    machine
        .sh(&format!(
            "install -m 0440 {FILES}/sudoers /etc/sudoers.d/sshd-mend && visudo -cq
             install -m 0644 {FILES}/nrpe.cfg /etc/nagios/nrpe.d/sshd-mend.cfg && systemctl restart nagios-nrpe-server
             mkdir -p /srv/nagios/results && chown -R nagios /srv/nagios"
        ))
        .ok();
    machine.sh(&format!("cat >/srv/nagios/nagios.cfg {CONFIGURATION}")).ok();
    machine.sh("cat >/srv/nagios/objects.cfg {OBJECTS}".replace("{OBJECTS}", OBJECTS).as_str()).ok();
    machine.sh(&format!("install -m 0644 {FILES}/nagios.cfg /srv/nagios/sshd-mend.cfg")).ok();
    machine.sh("nagios4 -v /srv/nagios/nagios.cfg").ok();
    machine.sh("systemd-run -q --unit=nagios-here nagios4 /srv/nagios/nagios.cfg").ok();
    let state = |machine: &Machine| machine.sh("sed -n '/^servicestatus/,/}/p' /srv/nagios/status.dat").stdout;
    let reads = |wanted: &str, machine: &Machine| state(machine).contains(wanted);
    machine.wait_until("it is green", |machine| {
        reads("plugin_output=SSHD OK - HEALTHY: new connections get through\n", machine)
            && reads("performance_data='sessions'=0;;;0 'listeners'=1;;;0 'oldest_listener'=", machine)
    });
    machine.locked_out();
    machine.wait_until("it is red", |machine| {
        reads("current_state=2\n", machine)
            && reads("plugin_output=SSHD CRITICAL - BROKEN: new connections do not get through", machine)
            && reads("sudo sshd-mend repair", machine)
    });
    repaired(&machine);
    machine.wait_until("it is green again", |machine| reads("current_state=0\n", machine));
}

/// Every second a check, and its state at once.
const CONFIGURATION: &str = "<<'END'
cfg_file=/srv/nagios/objects.cfg
cfg_file=/srv/nagios/sshd-mend.cfg
status_file=/srv/nagios/status.dat
status_update_interval=1
check_result_path=/srv/nagios/results
temp_path=/srv/nagios
lock_file=/srv/nagios/lock
log_file=/srv/nagios/log
object_cache_file=/srv/nagios/cache
interval_length=1
nagios_user=nagios
nagios_group=nagios
END";
const OBJECTS: &str = "<<'END'
define timeperiod {
    timeperiod_name 24x7
    alias always
    monday 00:00-24:00
    tuesday 00:00-24:00
    wednesday 00:00-24:00
    thursday 00:00-24:00
    friday 00:00-24:00
    saturday 00:00-24:00
    sunday 00:00-24:00
}
define contact {
    contact_name nobody
    host_notifications_enabled 0
    service_notifications_enabled 0
    host_notification_period 24x7
    service_notification_period 24x7
    host_notification_commands none
    service_notification_commands none
}
define command {
    command_name none
    command_line /bin/true
}
define host {
    host_name here
    address 127.0.0.1
    max_check_attempts 1
    check_period 24x7
    contacts nobody
    notification_period 24x7
}
define service {
    use sshd-mend
    host_name here
    contacts nobody
    notification_period 24x7
}
END";

/// Other users may run what the file lists, and nothing else.
#[test]
fn sudo_allows_the_check_and_nothing_else() {
    let machine = Machine::with_package("trixie");
    machine.install("sudo");
    machine
        .sh(&format!("useradd -r nagios; install -m 0440 {FILES}/sudoers /etc/sudoers.d/sshd-mend && visudo -cq"))
        .ok();
    let as_nagios =
        |command: &str| machine.sh(&format!("runuser -u nagios -- sudo -n /usr/sbin/sshd-mend {command} 2>&1"));
    assert_eq!(as_nagios("check --plugin").status, 0);
    assert_eq!(as_nagios("check --plugin --expect-sshd").status, 0);
    for other in ["check", "check --metrics /etc/shadow", "check --plugin --metrics /etc/shadow", "repair", "hook"] {
        let answer = as_nagios(other);
        assert!(answer.status != 0 && answer.stdout.contains("password is required"), "{other}: {answer:#?}");
    }
}

#[test]
fn checkmk_reads_state_and_performance_data() {
    let machine = Machine::with_package("trixie");
    let local = |machine: &Machine| machine.sh(&format!("{FILES}/checkmk")).ok().stdout;
    let healthy = local(&machine);
    assert!(healthy.starts_with("0 \"SSHD\" sessions=0|listeners=1|oldest_listener="), "{healthy}");
    assert!(healthy.ends_with(" SSHD OK - HEALTHY: new connections get through\n"), "{healthy}");
    machine.locked_out();
    let broken = local(&machine);
    assert!(broken.starts_with("2 \"SSHD\" sessions="), "{broken}");
    assert!(broken.ends_with(" SSHD CRITICAL - BROKEN: new connections do not get through\n"), "{broken}");
}

#[test]
fn a_machine_that_must_have_sshd_and_has_none_is_critical() {
    let machine = Machine::with_package("trixie");
    machine.sh("systemctl -q disable --now ssh.service").ok();
    assert_eq!(machine.sh("sshd-mend check --plugin").status, 0);
    let answer = machine.sh("sshd-mend check --plugin --expect-sshd");
    assert!(answer.status == 2 && answer.stdout.starts_with("SSHD CRITICAL - no SSH server is enabled"), "{answer:#?}");
}

/// node_exporter reads the file that the timer's service writes, Prometheus collects it, its rules fire, and Alertmanager
/// has the alert; after the repair, none.
#[test]
fn prometheus_alerts_in_the_incident_and_not_after_it() {
    let machine = Machine::with_package("trixie");
    // Without a network there is no address for its cluster.
    let alone = "ExecStart=\nExecStart=/usr/bin/prometheus-alertmanager --cluster.listen-address=";
    machine.drop_in("prometheus-alertmanager.service", &format!("[Service]\n{alone}"));
    machine.install("prometheus prometheus-node-exporter prometheus-alertmanager");
    machine
        .sh(&format!(
            "echo METRICS=/var/lib/prometheus/node-exporter/sshd-mend.prom >/etc/default/sshd-mend
             echo HOOK=report >>/etc/default/sshd-mend
             cp {FILES}/prometheus-rules.yml /etc/prometheus/
             cat >/etc/prometheus/prometheus.yml <<'END'
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [prometheus-rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:9093']}}]}}]}}
scrape_configs: [{{job_name: node, static_configs: [{{targets: ['127.0.0.1:9100']}}]}}]
END
             promtool check config /etc/prometheus/prometheus.yml
             systemctl restart prometheus-node-exporter prometheus prometheus-alertmanager"
        ))
        .ok();
    let examine = |machine: &Machine| machine.sh("systemctl start sshd-mend.service").ok();
    let ask = |machine: &Machine, path: &str| machine.sh(&format!("python3 -c '{FETCH}' '{path}'")).stdout;
    let status = "127.0.0.1:9090/api/v1/query?query=sshd_mend_status";
    let reads = |machine: &Machine, value: &str| ask(machine, status).contains(&format!("\"{value}\"]}}"));
    let alerts = |machine: &Machine| ask(machine, "127.0.0.1:9093/api/v2/alerts?active=true");
    examine(&machine);
    machine.wait_until("it is collected", |machine| reads(machine, "0"));
    assert!(ask(&machine, "127.0.0.1:9100/metrics").contains("node_textfile_scrape_error 0"), "the file is valid");
    machine.locked_out();
    examine(&machine);
    machine.wait_until("the alert fires", |machine| {
        reads(machine, "2") && alerts(machine).contains("\"alertname\":\"SshLockedOut\"")
    });
    machine.sh("sed -i '/HOOK/d' /etc/default/sshd-mend").ok();
    examine(&machine);
    machine.assert_login();
    machine.wait_until("the alert ends", |machine| {
        reads(machine, "0") && !alerts(machine).contains("SshLockedOut") && alerts(machine).starts_with('[')
    });
}

const FETCH: &str =
    "import sys, urllib.request; print(urllib.request.urlopen(\"http://\" + sys.argv[1]).read().decode())";

#[test]
fn the_alert_rules_pass_their_tests() {
    let machine = Machine::with_package("trixie");
    machine.install("promtool");
    machine.sh(&format!("cd {FILES}; promtool check rules prometheus-rules.yml")).ok();
    machine.sh(&format!("cd {FILES}; promtool test rules prometheus-rules-test.yml")).ok();
}

/// Nobody reads a part of it, and nobody's file is overwritten.
#[test]
fn metrics_that_cannot_be_written_change_nothing_else() {
    let machine = Machine::with_package("trixie");
    let check = |file: &str| machine.sh(&format!("sshd-mend check --metrics {file}"));
    let written = check("/run/x.prom").ok();
    assert!(written.stdout.starts_with("SSHD OK - HEALTHY"), "{written:#?}");
    let facts = machine.sh("stat -c '%a %U' /run/x.prom; ls -A /run | grep -c x.prom").ok().stdout;
    assert_eq!(facts, "644 root\n1\n");
    let told = |output: &Output| output.stderr.contains("the metrics could not be written to ");
    for file in ["/none/x.prom", "/proc/x.prom", "/run"] {
        let failed = check(file);
        assert!(failed.status == 3 && told(&failed), "{file}: {failed:#?}");
        assert!(failed.stdout.starts_with("SSHD OK - HEALTHY"), "{file}: {failed:#?}");
    }
    // A repair goes on, and the journal says what could not be written.
    machine.sh("echo METRICS=/none/x.prom >/etc/default/sshd-mend").ok();
    let listener = machine.locked_out();
    assert_eq!(check("/none/x.prom").status, 2, "what is worse counts");
    machine.sh("systemctl start sshd-mend.service").ok();
    assert!(!machine.is_alive(listener));
    machine.assert_login();
    let journal = machine.sh("journalctl -q -o cat -u sshd-mend.service").ok().stdout;
    assert!(journal.contains("the metrics could not be written to /none/x.prom"), "{journal}");
}

/// An alert ends with what it was about, whoever ended it.
#[test]
fn a_repair_brings_the_metrics_up_to_date() {
    for command in ["sshd-mend repair", "sshd-mend hook"] {
        let machine = Machine::with_package("trixie");
        machine.sh("echo METRICS=/run/x.prom >/etc/default/sshd-mend").ok();
        let metrics = || machine.sh("cat /run/x.prom").ok().stdout;
        machine.locked_out();
        assert_eq!(machine.sh("sshd-mend check --metrics /run/x.prom").status, 2);
        assert!(metrics().contains("sshd_mend_status 2\n"), "{}", metrics());
        machine.sh(command).ok();
        assert!(metrics().contains("sshd_mend_status 0\n"), "{command}: {}", metrics());
        assert!(metrics().contains("finding=\"stale-orphan\"} 0\n"), "{command}: {}", metrics());
    }
}

#[test]
fn a_device_is_not_replaced_by_metrics() {
    let machine = Machine::with_package("trixie");
    for device in ["/dev/null", "/dev/stdout"] {
        let check = machine.sh(&format!("sshd-mend check --metrics {device}"));
        assert!(check.status == 3 && check.stderr.contains("is no regular file"), "{check:#?}");
    }
    machine.sh("[ -c /dev/null ] && [ -L /dev/stdout ]").ok();
}
